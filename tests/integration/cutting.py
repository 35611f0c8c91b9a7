"""A TCP proxy in this loop that takes requests through and cuts off some of the replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class Cutting:
    """`cuts`: whether the nth reply, counted from 0 over all connections, is lost, and its
    connection with it. The request has been carried out by then."""

    def __init__(self, upstream: int, cuts: Callable[[int], bool]) -> None:
        self.upstream = upstream
        self.cuts = cuts
        self.port = 0
        self.replies = 0
        self.lost = 0
        self._open: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        there_in, there_out = await asyncio.open_connection("127.0.0.1", self.upstream)
        forth = asyncio.create_task(_relay(reader, there_out))
        try:
            while data := await there_in.read(1 << 16):
                number, self.replies = self.replies, self.replies + 1
                if self.cuts(number):
                    self.lost += 1
                    break
                writer.write(data)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            forth.cancel()
            with suppress(asyncio.CancelledError):
                await forth
            writer.transport.abort()
            there_out.close()
            self._open.discard(task)

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await server.wait_closed()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def cutting(upstream: int, cuts: Callable[[int], bool]) -> AsyncIterator[Cutting]:
    """Such a proxy before a port of loopback, for the time of the block."""
    proxy = Cutting(upstream, cuts)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        await proxy._stop(server)
