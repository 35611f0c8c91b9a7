"""Whether a role lives and is ready, over HTTP, for those who start and stop it: a kubelet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from carbon_orchestrator.runtime import Runtime


@asynccontextmanager
async def probes(runtime: Runtime, port: int) -> AsyncIterator[None]:
    """Answer on `port` of all addresses, meanwhile. OSError where it is taken.

    GET /livez: 200, as the event loop turns, whether there is a stream server or not.
    GET /readyz: 200 while the stream server answers and nobody has told us to stop, else 503.
    """

    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        if runtime.working:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="stopping, or no word from the stream server\n")

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
        yield
    finally:
        await runner.cleanup()
