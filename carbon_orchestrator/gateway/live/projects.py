"""Whose each job is, where an event does not say so: as lately told, else as on record."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.topology import Topology
from streams.scripts import GATHER

_MOST = 20_000
_TOGETHER = 50  # a record's spec may hold a large payload


class _Named(msgspec.Struct):
    project: str = "default"


_decode = msgspec.json.Decoder(_Named).decode


class Projects:
    """Projects of the jobs that were asked for last."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology
        self._known: OrderedDict[str, str] = OrderedDict()

    def note(self, job_id: str, project: str) -> None:
        """It was told."""
        self._known[job_id] = project
        self._known.move_to_end(job_id)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    async def of(self, job_ids: Iterable[str]) -> dict[str, str]:
        """The projects of these jobs, as far as there is anything to know. Raises what the
        connection raises."""
        found: dict[str, str] = {}
        asked = []
        for job_id in dict.fromkeys(job_ids):
            if job_id in self._known:
                found[job_id] = self._known[job_id]
                self._known.move_to_end(job_id)
            else:
                asked.append(job_id)
        for start in range(0, len(asked), _TOGETHER):
            some = asked[start : start + _TOGETHER]
            keys = [self._topology.record(job_id) for job_id in some]
            for job_id, (spec,) in zip(
                some, await GATHER(self._redis, keys, ["spec"]), strict=True
            ):
                if spec is not None:
                    found[job_id] = _decode(spec).project
                    self.note(job_id, found[job_id])
        return found
