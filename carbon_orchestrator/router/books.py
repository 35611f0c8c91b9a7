"""The pools' books as they stand on the server, and the slots that their workers offer."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.capacity import Ledger
from carbon_orchestrator.runtime import Runtime
from streams.stop import Stop

#: Bookings of our own are on the server after this long.
UNDER_WAY_SECONDS = 0.25
#: Under steady load the books are read all the same, at the risk of missing what is under way.
_STALE_SECONDS = 5.0


class Books:
    """Ledgers by (pool, zone), read anew now and then; in between the router keeps them up."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.ledgers: dict[tuple[Pool, str], Ledger] = {}
        self._read_at = self._changed_at = float("-inf")
        self._noticed: list[int] = []

    async def read(self, client: Redis) -> bool:
        """Read all of them: what every router has booked, and what the workers offer. False, and
        they stay as they are, while bookings of our own may be missing from what is read."""
        began = time.monotonic()
        fresh = began - self._read_at < _STALE_SECONDS
        if self._changed():
            self._changed_at = began
        if fresh and began - self._changed_at < UNDER_WAY_SECONDS:
            return False
        config, topology = self._runtime.config, self._runtime.topology
        # A worker says that it is there several times a lease.
        since = wall_ms() - round(config.lease_s * 2000)
        async with client.pipeline(transaction=False) as pipeline:
            for pool, zone in topology.sites:
                pipeline.hgetall(topology.booked(pool, zone))
                pipeline.zrangebyscore(topology.workers(pool, zone), since, "+inf")
            rows = await pipeline.execute()
        if fresh and self._changed():
            self._changed_at = time.monotonic()
            return False
        self._read_at = began
        for index, (pool, zone) in enumerate(topology.sites):
            changes, workers = rows[2 * index], rows[2 * index + 1]
            offered = sum(int(each.rpartition(b":")[2]) for each in workers)
            settings = config.pools[pool]
            # With no worker in sight the pool is taken for one that is about to come.
            slots = settings.capacity or offered or settings.slots
            self.ledgers[pool, zone or config.zone] = Ledger.read(slots, changes)
        self._changed()
        return True

    async def settle(self, client: Redis, stop: Stop) -> None:
        """Read them, waiting for our own bookings to be among what is read."""
        while not await self.read(client) and not stop.is_set():
            await stop.sleep(UNDER_WAY_SECONDS)

    def _changed(self) -> bool:
        """Whether there are other bookings than when this was last asked."""
        before, self._noticed = self._noticed, [each.digest() for each in self.ledgers.values()]
        return before != self._noticed
