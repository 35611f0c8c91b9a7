"""The pools' books as they stand on the server, and the slots that their workers offer."""

from __future__ import annotations

from redis.asyncio import Redis

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.capacity import Ledger
from carbon_orchestrator.runtime import Runtime


class Books:
    """Ledgers by (pool, zone), read anew now and then; in between the router keeps them up."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.ledgers: dict[tuple[Pool, str], Ledger] = {}

    async def read(self, client: Redis) -> None:
        """Read all of them: what every router has booked, and what the workers offer."""
        config, topology = self._runtime.config, self._runtime.topology
        # A worker says that it is there several times a lease.
        since = wall_ms() - round(config.lease_s * 2000)
        async with client.pipeline(transaction=False) as pipeline:
            for pool, zone in topology.sites:
                pipeline.hgetall(topology.booked(pool, zone))
                pipeline.zrangebyscore(topology.workers(pool, zone), since, "+inf")
            rows = await pipeline.execute()
        for index, (pool, zone) in enumerate(topology.sites):
            changes, workers = rows[2 * index], rows[2 * index + 1]
            offered = sum(int(each.rpartition(b":")[2]) for each in workers)
            settings = config.pools[pool]
            # With no worker in sight the pool is taken for one that is about to come.
            slots = settings.capacity or offered or settings.slots
            self.ledgers[pool, zone or config.zone] = Ledger.read(slots, changes)
