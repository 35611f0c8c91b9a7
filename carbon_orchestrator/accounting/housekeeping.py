"""Bounds what grows besides the streams: removes silent consumers, forgets expired jobs and the
books of the past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbon_orchestrator.accounting.rounds import rounds
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.router.capacity import BUCKET_MS
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC
from streams.commit import Transaction
from streams.group import Group

_PAUSE_SECONDS = 30.0
_CONSUMER_IDLE_MS = 10 * 60_000
_CHUNK = 1000


class Housekeeping:
    """Any number may run at once: each act is safe to do twice."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client = runtime.connect()
        self._committer = runtime.committer()

    async def run(self) -> None:
        """Tidy now and then, until stopped."""
        await rounds(self._runtime.stop, _PAUSE_SECONDS, "housekeeping", self.tidy)

    async def tidy(self) -> None:
        """All of it, once."""
        topology = self._runtime.topology
        for name, lanes in topology.groups.items():
            await Group(self._client, CODEC, name, "", lanes).remove_idle(_CONSUMER_IDLE_MS)
        for state in sorted(TERMINAL):
            await self._forget(topology.index(state))
        silent = wall_ms() - _CONSUMER_IDLE_MS
        for pool, zone in topology.sites:
            await self._client.zremrangebyscore(topology.workers(pool, zone), "-inf", silent)
            await self._fold(topology.booked(pool, zone), self._runtime.now() // BUCKET_MS)

    async def _fold(self, books: str, now: int) -> None:
        """Put the changes of load before bucket `now` together into one, at `now`: the load from
        then on stays the same. If they change meanwhile it is left for the next time."""
        rows: Any = await self._client.hgetall(books)
        change = fold(books, {name.decode(): value.decode() for name, value in rows.items()}, now)
        if change is not None:
            await self._committer.apply(change)

    async def _forget(self, index: str) -> None:
        """Take jobs whose records have expired off an index, oldest first."""
        topology = self._runtime.topology
        while True:
            members: Any = await self._client.zrange(index, 0, _CHUNK - 1)
            async with self._client.pipeline(transaction=False) as pipeline:
                for member in members:
                    pipeline.exists(topology.record(member.decode()))
                alive = await pipeline.execute()
            gone = [each.decode() for each, there in zip(members, alive, strict=True) if not there]
            await self._committer.commit(
                [
                    Transaction().require_absent(topology.record(each)).drop(index, each)
                    for each in gone
                ]
            )
            if len(gone) < _CHUNK:
                return


def fold(books: str, changes: Mapping[str, str], now: int) -> Transaction | None:
    """What `Housekeeping._fold` writes for the `changes` by bucket; None if nothing is past."""
    oldest = sorted((bucket for bucket in changes if int(bucket) < now), key=int)[:_CHUNK]
    past = {bucket: changes[bucket] for bucket in oldest}
    if not past:
        return None
    transaction = Transaction().require_fields(books, past)
    transaction.write("HDEL", books, *past)
    return transaction.increment(books, str(now), sum(map(int, past.values())))
