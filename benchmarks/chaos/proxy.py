"""A TCP proxy that misbehaves as told: a process of its own between clients and the server.

Commands come as JSON lines on stdin, each is answered by a line on stdout; it ends with stdin.
What is held back while a link is silent is passed on afterwards, as TCP would, also from a
client that has given up meanwhile: a commit may come twice, and late.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from contextlib import suppress
from typing import Literal

import msgspec
import uvloop

_CHUNK = 65_536
_TRICKLE_SECONDS = 0.005


class Conduct(msgspec.Struct, frozen=True):
    """How a link behaves: well, by default."""

    latency_ms: float = 0.0  # each way
    jitter_ms: float = 0.0
    silent: Literal["", "requests", "replies", "both"] = ""  # held back
    refuse: bool = False  # new connections are reset
    cut: float = 0.0  # chance that the connection is reset in the middle of a reply
    cut_after: int = 40  # bytes of that reply that come through, at most
    trickle: int = 0  # bytes of a reply at a time


class Command(msgspec.Struct, frozen=True):
    """`open` a link on a port of its own; or set its `conduct`; `reset` all its connections;
    `upstream`: the server's port from now on, of every link that follows the primary."""

    link: str = ""
    open: bool = False
    conduct: Conduct | None = None
    reset: bool = False
    upstream: int | None = None
    fixed: bool = False  # an opened link stays with the upstream that it is opened with


class Answer(msgspec.Struct, frozen=True):
    """`port` of an opened link; how many replies were cut short, over all."""

    port: int = 0
    cuts: int = 0


class Link:
    """One listening port, and every connection that came through it."""

    def __init__(self, upstream: int | None, seed: str) -> None:
        self.upstream = upstream
        self.cuts = 0
        self._chance = random.Random(seed)
        self._conduct = Conduct()
        self._changed = asyncio.Event()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    def behave(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._changed.set()
        self._changed = asyncio.Event()

    def reset(self) -> None:
        for pair in self._pairs:
            _reset(*pair)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: int
    ) -> None:
        """One connection, to its end."""
        if self._conduct.refuse:
            _reset(writer)
            return
        try:
            server = await asyncio.open_connection("127.0.0.1", upstream)
        except OSError:
            _reset(writer)
            return
        pair = (writer, server[1])
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(reader, server[1], "requests", pair),
                self._pump(server[0], writer, "replies", pair),
            )
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        which: Literal["requests", "replies"],
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                while self._conduct.silent in (which, "both"):
                    await self._changed.wait()
                conduct = self._conduct
                if conduct.latency_ms:
                    jitter = self._chance.uniform(0.0, conduct.jitter_ms)
                    await asyncio.sleep((conduct.latency_ms + jitter) / 1000)
                if which == "replies":
                    if conduct.cut and self._chance.random() < conduct.cut:
                        self.cuts += 1
                        most = min(len(data), conduct.cut_after)
                        sink.write(data[: self._chance.randint(0, most)])
                        await sink.drain()
                        _reset(*pair)
                        return
                    while self._conduct.trickle and data:
                        sink.write(data[: self._conduct.trickle])
                        await sink.drain()
                        data = data[self._conduct.trickle :]
                        await asyncio.sleep(_TRICKLE_SECONDS)
                sink.write(data)
                await sink.drain()
        sink.close()


def _reset(*writers: asyncio.StreamWriter) -> None:
    """End connections by RST, as a broken middle box does."""
    for writer in writers:
        sock: socket.socket | None = writer.get_extra_info("socket")
        with suppress(OSError):
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class Proxy:
    """Links by name; `upstream` is the port that those without one of their own lead to."""

    def __init__(self, seed: int, upstream: int) -> None:
        self.upstream = upstream
        self.links: dict[str, Link] = {}
        self._seed = seed

    async def obey(self, command: Command) -> Answer:
        port = 0
        if command.open:
            port = await self._open(command)
        elif command.upstream is not None:
            self.upstream = command.upstream
            for link in self.links.values():
                if link.upstream is None:
                    link.reset()
        if command.conduct is not None:
            self.links[command.link].behave(command.conduct)
        if command.reset:
            self.links[command.link].reset()
        return Answer(port, sum(link.cuts for link in self.links.values()))

    async def _open(self, command: Command) -> int:
        link = Link(command.upstream if command.fixed else None, f"{self._seed} {command.link}")
        self.links[command.link] = link

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await link.serve(reader, writer, link.upstream or self.upstream)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=_CHUNK)
        return int(server.sockets[0].getsockname()[1])


async def main(seed: int, upstream: int) -> None:
    proxy = Proxy(seed, upstream)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    decode = msgspec.json.Decoder(Command).decode
    while line := await lines.readline():
        answer = await proxy.obey(decode(line))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
