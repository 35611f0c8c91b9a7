"""A reply that is lost leaves the client in doubt; the receipt on the server resolves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.errors import CommitUnknown
from streams.keys import Partition
from streams.testing import until


class Line:
    """A TCP line to the server that can swallow the next reply and cut, or stay cut."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.swallow = 0
        self.cut = False
        self.swallowed = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Line:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.cut:
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a client or the test has ended; streams would log it as an error
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.port)
        up = asyncio.create_task(self._up(reader, to_server))
        try:
            while data := await from_server.read(65536):
                if self.swallow and not data.startswith(b"+OK"):  # the handshake may pass
                    self.swallow -= 1
                    self.swallowed += 1
                    return
                writer.write(data)
                await writer.drain()
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            to_server.close()
            with suppress(OSError):
                await to_server.wait_closed()

    async def _up(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            to_server.write(data)
            await to_server.drain()


@pytest.fixture
async def line(session_server: EmbeddedServer, server_url: str) -> AsyncIterator[Line]:
    async with Line(session_server.port) as line:
        yield line


@pytest.fixture
async def far_committer(line: Line, partition: Partition) -> AsyncIterator[Committer]:
    """A committer at the far end of the line."""
    committer = Committer(connect(line.url), partition, patience=5)
    yield committer
    await committer.aclose()


async def test_a_lost_reply_neither_loses_nor_doubles(
    line: Line, far_committer: Committer, redis: Redis, partition: Partition
) -> None:
    stream = partition.key("orders")
    add = Transaction().add_entry(stream, ["n", "1"])  # no guard would stop a second one
    await far_committer.apply(add)
    line.swallow = 2
    assert await far_committer.apply(add)
    assert line.swallowed == 2
    assert await redis.xlen(stream) == 2


async def test_the_answer_is_that_of_the_first_time(
    line: Line, far_committer: Committer, redis: Redis, partition: Partition, permanent: list[str]
) -> None:
    """Tried anew, the guard would not hold, and the winner would take himself for the loser."""
    permanent.append("record")
    record = partition.key("record")
    line.swallow = 1
    claim = Transaction().require_absent(record).set_fields(record, {"mine": "1"})
    assert await far_committer.commit([claim, claim]) == [True, False]
    assert line.swallowed == 1


async def test_a_dead_line_is_waited_for(
    line: Line, far_committer: Committer, redis: Redis, partition: Partition
) -> None:
    stream = partition.key("orders")
    line.cut = True
    commit = asyncio.create_task(far_committer.apply(Transaction().add_entry(stream, ["n", "1"])))
    done, _ = await asyncio.wait([commit], timeout=0.1)
    assert not done
    line.cut = False
    assert await commit
    assert await redis.xlen(stream) == 1


async def test_patience_ends_in_an_honest_answer(
    line: Line, server_url: str, redis: Redis, partition: Partition
) -> None:
    stream = partition.key("orders")
    add = Transaction().add_entry(stream, ["n", "1"])
    committer = Committer(connect(line.url), partition, patience=0.1)
    line.cut = True
    with pytest.raises(CommitUnknown, match=r"no answer in 0\.1 s"):
        await committer.apply(add)
    line.cut = False
    # It can still be used; what nobody knows of did not happen here.
    assert await committer.apply(add)
    await until(lambda: redis.xlen(stream))
    assert await redis.xlen(stream) == 1
    await committer.aclose()


async def test_clients_resend_nothing_on_their_own(
    line: Line, redis: Redis, partition: Partition
) -> None:
    """redis-py's default would: one lost reply, two entries."""
    stream = partition.key("orders")
    async with connect(line.url) as client:
        await client.ping()
        line.swallow = 1
        with pytest.raises(RedisConnectionError):
            await client.xadd(stream, {"n": "1"})
    assert await redis.xlen(stream) == 1
