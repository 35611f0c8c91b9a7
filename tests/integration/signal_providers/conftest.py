"""A local source that answers, or misbehaves, as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from sources import SECRETS, Broken, Source, behave


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    """An HTTP server whose answers are set by path."""
    source = Source()
    application = web.Application()
    application.router.add_get("/{path:.*}", source.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield source
    await runner.cleanup()


@pytest.fixture
def behaving(source: Source) -> Source:
    """The source, answering as documented."""
    behave(source)
    return source


@pytest.fixture
async def broken() -> AsyncIterator[Callable[[bytes, str], Awaitable[Broken]]]:
    """Starts servers that send given bytes and then close, reset, half-close or hang."""
    started: list[tuple[Broken, asyncio.Server]] = []

    async def start(content: bytes, then: str) -> Broken:
        server = Broken(content, then)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        started.append((server, listening))
        return server

    yield start
    for server, listening in started:
        server.over.set()
        listening.close()
        await asyncio.wait_for(server.idle(), 5)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Any], Any]]:
    """Closes, at the end, each provider that it is given."""
    providers: list[Any] = []

    def keep(provider: Any) -> Any:
        providers.append(provider)
        return provider

    yield keep
    for provider in providers:
        await provider.aclose()
