"""A bare aiohttp application, to measure others against: python -m benchmarks.hello PORT"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def _serve(port: int) -> None:
    app = web.Application()
    app.router.add_get("/", _hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
