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
_MOST_CHUNKS = 1000  # on their way in one direction of a connection
_TRICKLE_SECONDS = 0.005


class Conduct(msgspec.Struct, frozen=True):
    """How a link behaves: well, by default."""

    latency_ms: float = 0.0  # each way
    jitter_ms: float = 0.0
    silent: Literal["", "requests", "replies", "both"] = ""  # held back
    refuse: bool = False  # new connections are reset
    cut: float = 0.0  # chance that the connection is reset in the middle of a reply
    cut_next: bool = False  # that of the next reply is, once
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
        """One direction of a connection: what was read is due, by a latency, after it came."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)
        reading = asyncio.create_task(self._read(source, under_way))
        # uvloop has a RuntimeError for a connection that was reset a moment ago.
        with suppress(OSError, RuntimeError):
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                while self._conduct.silent in (which, "both"):
                    await self._changed.wait()
                if not data:
                    break
                if which == "replies" and self._cuts():
                    most = min(len(data), self._conduct.cut_after)
                    sink.write(data[: self._chance.randint(0, most)])
                    await sink.drain()
                    _reset(*pair)
                    break
                while (few := self._conduct.trickle) and which == "replies" and data:
                    sink.write(data[:few])
                    await sink.drain()
                    data = data[few:]
                    await asyncio.sleep(_TRICKLE_SECONDS)
                sink.write(data)
                await sink.drain()
        reading.cancel()
        sink.close()

    async def _read(
        self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        data = b"."
        while data:
            try:
                data = await source.read(_CHUNK)
            except OSError:
                data = b""
            conduct = self._conduct
            delay = conduct.latency_ms + self._chance.uniform(0.0, conduct.jitter_ms)
            await under_way.put((asyncio.get_running_loop().time() + delay / 1000, data))

    def _cuts(self) -> bool:
        """Whether the connection is to be reset in the midst of this reply."""
        conduct = self._conduct
        cut = conduct.cut_next or self._chance.random() < conduct.cut
        if conduct.cut_next:
            self._conduct = msgspec.structs.replace(conduct, cut_next=False)
        self.cuts += cut
        return cut


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
