"""Jobs that many requests read at a time, in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from carbon_orchestrator.gateway.intake.together import Together
from carbon_orchestrator.topology import Topology
from streams.byte_log import bounds_of
from streams.scripts import Script

_JOBS = Script("jobs", "carbon_orchestrator.gateway.lookup")
_MOST = 200  # in one round trip
Fields = dict[bytes, bytes]


class Kept(NamedTuple):
    """What the server has of a job: its record, empty where there is none, and the offsets of the
    first byte of its output that is kept and of the end; None where it has written nothing."""

    record: Fields
    output: tuple[int, int] | None


class SharedReads:
    """Reads jobs, those that are asked for at a time together."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology
        self._together: Together[str, Kept] = Together(self._read, _MOST)

    async def job(self, job_id: str) -> Kept:
        """All there is of a job; raises what the server says."""
        return await self._together.ask(job_id)

    async def _read(self, job_ids: list[str]) -> Sequence[Kept | Exception]:
        record, output = self._topology.record, self._topology.output
        keys = [key for job_id in job_ids for key in (record(job_id), output(job_id))]
        return [
            fields
            if isinstance(fields, Exception)
            else Kept(
                dict(zip(fields[::2], fields[1::2], strict=True)),
                None if first is None else bounds_of(first, held, last),
            )
            for fields, first, held, last in await _JOBS(self._redis, keys, [])
        ]
