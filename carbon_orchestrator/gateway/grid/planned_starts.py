"""Jobs that wait for their planned start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.config import Config
from carbon_orchestrator.gateway.grid.starts import IDS, Bucket, Start, bucketed
from carbon_orchestrator.gateway.live.projects import Projects
from carbon_orchestrator.router.waiting import Plan
from carbon_orchestrator.topology import Topology
from streams.scripts import GATHER

_decode = msgspec.json.Decoder(Plan).decode
#: Jobs whose plans are read; more of them are counted only.
MOST_READ = 2000
_TOGETHER = 200


class PlannedStarts:
    """They are ordered by when they are looked at again, which is their planned start, or a
    little later where the intensity it depends on is to be awaited."""

    def __init__(
        self, redis: Redis, topology: Topology, config: Config, projects: Projects
    ) -> None:
        self._redis = redis
        self._wake = topology.wake
        self._record = topology.record
        self._zones = (config.zone, *config.zones)
        self._projects = projects

    async def between(
        self, start: int, end: int, zone: str, project: str | None, length: int, *, overdue: bool
    ) -> tuple[Sequence[Bucket], bool]:
        """The starts in a zone that are planned from `start` to `end` (grid ms), in buckets of
        `length` ms, of one project or all, and whether these are all. `overdue`: those that were
        planned for earlier, and have not begun, are about to begin."""
        first = "-inf" if overdue else start
        members: Any = await self._redis.zrangebyscore(
            self._wake, first, f"({end}", start=0, num=MOST_READ + 1, withscores=True
        )
        if len(members) > MOST_READ and project is None and len(self._zones) == 1:
            return await self._counted(start, end, length, overdue=overdue), True
        ids = [each.decode() for each, _ in members[:MOST_READ]]
        if project is not None:
            projects = await self._projects.of(ids)
            ids = [each for each in ids if projects.get(each) == project]
        found: list[Start] = []
        for number in range(0, len(ids), _TOGETHER):
            some = ids[number : number + _TOGETHER]
            rows = await GATHER(self._redis, [self._record(each) for each in some], ["plan"])
            plans = [(job, _decode(raw)) for job, (raw,) in zip(some, rows, strict=True) if raw]
            found += [self._start(job, plan, start) for job, plan in plans]
        chosen = [each for each in found if each.zone == zone and each.at < end]
        return bucketed(chosen, length), len(members) <= MOST_READ

    def _start(self, job: str, plan: Plan, earliest: int) -> Start:
        return Start(max(earliest, plan.start), plan.pool, plan.zone or self._zones[0], job)

    async def _counted(
        self, start: int, end: int, length: int, *, overdue: bool
    ) -> Sequence[Bucket]:
        """All that wait, without their pools."""
        begins = range(start // length * length, end, length)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for begin in begins:
                least: int | str = "-inf" if overdue and begin <= start else max(start, begin)
                most = f"({min(end, begin + length)}"
                pipeline.zcount(self._wake, least, most)
                pipeline.zrangebyscore(self._wake, least, most, start=0, num=IDS)
            rows = await pipeline.execute()
        return [
            Bucket(begin, None, int(count), [each.decode() for each in ids])
            for begin, count, ids in zip(begins, rows[::2], rows[1::2], strict=True)
            if count
        ]
