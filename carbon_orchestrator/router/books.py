"""The pools' books as they stand on the server, and the slots that their workers offer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.capacity import Ledger
from carbon_orchestrator.runtime import Runtime
from streams.commit import Committer

#: Under load that never pauses the books are read all the same after so many tries, at the risk
#: of missing what is under way; the next reading makes that good.
_TRIES = 20


class Books:
    """Ledgers by (pool, zone), read anew now and then; in between the router keeps them up.

    `committers`: those by which this router's bookings go to the server. Whoever books in these
    ledgers hands the booking to one of them without awaiting anything in between.
    """

    def __init__(self, runtime: Runtime, committers: Sequence[Committer] = ()) -> None:
        self._runtime = runtime
        self._committers = committers
        self.ledgers: dict[tuple[Pool, str], Ledger] = {}
        #: The last entry of `completions` when they were read.
        self.ended_id: str | None = None
        self._read_at = float("-inf")

    @property
    def age(self) -> float:
        """Seconds since they were read."""
        return time.monotonic() - self._read_at

    async def read(self, client: Redis, index: str = "", members: Sequence[str] = ()) -> list[bool]:
        """Read all of them: what every router has booked, and what the workers offer. What this
        router has booked is among it. Returns which of `members` the sorted set `index` had at
        that moment."""
        for _ in range(_TRIES):
            before = self._state()
            for committer in self._committers:
                await committer.settled()
            rows, scores = await self._rows(client, index, members)
            if self._state() == before:
                break
        config, topology = self._runtime.config, self._runtime.topology
        self._read_at = time.monotonic()
        for number, (pool, zone) in enumerate(topology.sites):
            changes, workers = rows[2 * number], rows[2 * number + 1]
            offered = sum(int(each.rpartition(b":")[2]) for each in workers)
            settings = config.pools[pool]
            # With no worker in sight the pool is taken for one that is about to come.
            slots = settings.capacity or offered or settings.slots
            self.ledgers[pool, zone or config.zone] = Ledger.read(slots, changes)
        self.ended_id = rows[-1][0][0].decode() if rows[-1] else None
        return [score is not None for score in scores]

    async def _rows(
        self, client: Redis, index: str, members: Sequence[str]
    ) -> tuple[list[Any], list[float | None]]:
        config, topology = self._runtime.config, self._runtime.topology
        # A worker says that it is there several times a lease.
        since = wall_ms() - round(config.lease_s * 2000)
        async with client.pipeline(transaction=True) as pipeline:
            for pool, zone in topology.sites:
                pipeline.hgetall(topology.booked(pool, zone))
                pipeline.zrangebyscore(topology.workers(pool, zone), since, "+inf")
            pipeline.xrevrange(topology.completions, count=1)
            if members:
                pipeline.zmscore(index, list(members))
            rows: list[Any] = await pipeline.execute()
        return (rows[:-1], rows[-1]) if members else (rows, [])

    def _state(self) -> list[int]:
        """Another one where there are other bookings."""
        return [each.digest() for each in self.ledgers.values()]
