"""What accounting has learned of run times, as it stands on the server."""

from __future__ import annotations

from redis.asyncio import Redis

from carbon_orchestrator.config import Config
from carbon_orchestrator.router.expectation import RunTimes
from carbon_orchestrator.run_times import Learned
from carbon_orchestrator.topology import Topology


async def read_run_times(redis: Redis, topology: Topology, config: Config) -> RunTimes:
    """Of every configured type on every pool."""
    names = [(each, pool) for each in config.types for pool in config.pools]
    async with redis.pipeline(transaction=False) as pipeline:
        for job_type, pool in names:
            pipeline.hgetall(topology.durations(job_type, pool))
        rows = await pipeline.execute()
    return {name: Learned.parse(row) for name, row in zip(names, rows, strict=True)}
