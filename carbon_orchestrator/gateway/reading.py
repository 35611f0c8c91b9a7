"""What the gateway reads of the deployment: jobs, totals, the state of streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from carbon_orchestrator.gateway.lookup.shared_reads import SharedReads
from carbon_orchestrator.job_view import details
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.scaler import holding
from carbon_orchestrator.signal.intensity_stream import silence
from carbon_orchestrator.topology import Topology
from streams.inspection import GroupState, group_states
from streams.scripts import GATHER


class Reading:
    """Read-only queries on one partition."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology
        self._jobs = SharedReads(redis, topology)

    async def silence(self, zone: str) -> str | None:
        """Why the signal publishes nothing of the zone, as it says itself."""
        said: Any = await self._redis.hget(self._topology.signal, silence(zone))
        return None if said is None else said.decode("utf-8", "replace")

    async def job(self, job_id: str) -> dict[str, Any] | None:
        """A job with its timeline; None if there is none (or no longer)."""
        found = await self.job_and_output(job_id)
        return None if found is None else found[0]

    async def job_and_output(
        self, job_id: str
    ) -> tuple[dict[str, Any], tuple[int, int] | None] | None:
        """The same, and from which offset to which its output is kept."""
        record, output = await self._jobs.job(job_id)
        return (details(job_id, record), output) if record else None

    async def remembered(self, job_ids: Sequence[str]) -> list[tuple[str, str | None] | None]:
        """State, and fingerprint of the submission, of each of the jobs that there are."""
        keys = [self._topology.record(each) for each in job_ids]
        rows = await GATHER(self._redis, keys, ["state", "digest"])
        return [
            None if state is None else (state.decode(), None if of is None else of.decode())
            for state, of in rows
        ]

    async def counts(self) -> dict[str, int]:
        """How many jobs are on record in each state."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for state in STATES:
                pipeline.zcard(self._topology.index(state))
            rows = await pipeline.execute()
        return dict(zip(STATES, map(int, rows), strict=True))

    async def unfinished(self) -> int:
        """How many jobs are not in a terminal state."""
        counts = await self.counts()
        return sum(count for state, count in counts.items() if state not in TERMINAL)

    async def totals(self, first: str | None, last: str | None) -> dict[str, Mapping[bytes, bytes]]:
        """The hashes of the days from `first` to `last` (2020-01-31), both included."""
        start = int(first.replace("-", "")) if first else "-inf"
        end = int(last.replace("-", "")) if last else "+inf"
        days: Any = await self._redis.zrange(
            self._topology.days,
            start,
            end,
            byscore=True,
        )
        names = [each.decode() for each in days]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(self._topology.totals(name))
            rows: Any = await pipeline.execute()
        return dict(zip(names, rows, strict=True))

    async def ever(self) -> Mapping[bytes, bytes]:
        """The sums of all days."""
        found: Any = await self._redis.hgetall(self._topology.ever)
        return dict(found)

    async def groups(self) -> list[GroupState]:
        """Every stream and group, in the order of the data path."""
        groups = self._topology.groups.values()
        return await group_states(self._redis, *(each for streams in groups for each in streams))

    async def asleep(self) -> frozenset[str]:
        """The workers that nobody misses: their scaler wants none now."""
        return await holding.asleep(self._redis, self._topology)

    def unserved(self, groups: Sequence[GroupState]) -> list[str]:
        """The roles that nobody plays, by the state of the groups."""
        # A busy worker reads nothing, but keeps its leases on some lane of its pool.
        alive = {each.stream for each in groups if each.live}
        readers = self._topology.readers
        return [role for role, streams in readers.items() if alive.isdisjoint(streams)]

    async def dead_letters(self) -> int:
        return int(await self._redis.xlen(self._topology.dead_letters))
