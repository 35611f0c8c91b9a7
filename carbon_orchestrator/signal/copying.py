"""Intensities go to every partition: what is published in the first is copied to the others, and so
are the clock and what the signal says of itself. So each partition is whole by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import structlog
from redis.asyncio import Redis

from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import Topology
from streams.commit import Transaction
from streams.connection import BLOCK_MS
from streams.errors import CommitUnknown, is_transient
from streams.retry import backoff

log = structlog.get_logger(__name__)

#: Of a partition's `signal` hash: up to which entry of the first one it has everything.
_COPIED = b"copied"
_PAGE = 100

_Hash = Mapping[bytes, bytes]


class Copying:
    """Copies the first partition's intensities to another, each entry once, however many do so:
    every commit moves the mark on from where it was found."""

    def __init__(self, first: Runtime, other: Runtime) -> None:
        self._stop = first.stop
        self._source, self._target = first.topology, other.topology
        self._reader, self._client = first.connect(), other.connect()
        self._committer = other.committer()

    async def run(self) -> None:
        """Until the stop."""
        waits = backoff()
        while not self._stop.is_set():
            try:
                with self._stop.cut():
                    while True:
                        await self.copy(BLOCK_MS)
                        waits = backoff()
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    number = self._target.partition.number
                    log.exception("intensities not copied, going on", partition=number)
                await self._stop.sleep(next(waits))

    async def copy(self, block_ms: int) -> None:
        """What there is to copy, some at a time; waits for something for so long."""
        clock, signal = await _said(self._reader, self._source)
        own_clock, own_signal = await _said(self._client, self._target)
        said = [
            *_alike(self._target.clock, clock, own_clock),
            *_alike(self._target.signal, signal, own_signal),
        ]
        await self._committer.commit(said)
        copied = own_signal.get(_COPIED, b"").decode()
        reply = await self._reader.execute_command(
            *("XREAD", "COUNT", _PAGE, "BLOCK", block_ms),
            *("STREAMS", self._source.intensity, copied or "0-0"),
        )
        for _, entries in reply or ():
            mark = self._target.signal
            change = Transaction().require_field(mark, _COPIED.decode(), copied)
            for _, fields in entries:
                change.add_entry(self._target.intensity, fields)
            change.set_fields(mark, {_COPIED.decode(): entries[-1][0]})
            await self._committer.apply(change)


async def _said(client: Redis, topology: Topology) -> tuple[_Hash, _Hash]:
    """The clock, and what the signal says of itself."""
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(topology.clock)
        pipeline.hgetall(topology.signal)
        clock, signal = await pipeline.execute()
    return clock, signal


def _alike(key: str, there: _Hash, here: _Hash) -> Iterator[Transaction]:
    """What has the hash here say what the one there says."""
    new = {name.decode(): value for name, value in there.items() if here.get(name) != value}
    if new:
        yield Transaction().set_fields(key, new)
    gone = [name for name in here if name not in there and name != _COPIED]
    if gone:
        yield Transaction().write("HDEL", key, *gone)
