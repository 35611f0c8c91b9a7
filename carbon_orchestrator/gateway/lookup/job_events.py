"""`GET /jobs/{id}/events`: all events about a job, archive and streams as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from redis.asyncio import Redis

from carbon_orchestrator.events import Spec
from carbon_orchestrator.gateway.door.guard import caller
from carbon_orchestrator.gateway.intake.outcome import no_such_job
from carbon_orchestrator.gateway.live.occurrence import Occurrence
from carbon_orchestrator.gateway.lookup.cursors import BadCursor
from carbon_orchestrator.gateway.lookup.walk import Walk
from carbon_orchestrator.gateway.lookup.whereabouts import searches
from carbon_orchestrator.gateway.problems import answer, problem, refused
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.submission import is_job_id
from streams.archive import Archive
from streams.history import History

MOST_EVENTS = 500
_SPEC = msgspec.json.Decoder(Spec)


class JobEvents:
    """`archive`: the archive's directory."""

    def __init__(self, runtime: Runtime, redis: Redis, archive: Path) -> None:
        self._runtime = runtime
        self._redis = redis
        topology = runtime.topology
        partition = topology.partition
        self._history = History(redis, Archive(archive, partition), partition)
        self._names = [partition.name(each) for each in topology.streams]

    async def show(self, request: web.Request) -> web.Response:
        """A page of events, in order of their ids."""
        topology, job_id = self._runtime.topology, request.match_info["id"]
        record: Any = {}
        if is_job_id(job_id, topology.partition.number):
            record = await self._redis.hgetall(topology.record(job_id))
        spec = _SPEC.decode(record[b"spec"]) if record else None
        if spec is None or not caller(request).sees(spec.project):
            return refused(no_such_job(self._runtime.config))
        try:
            limit = int(request.query.get("limit", "100"))
            if not 1 <= limit <= MOST_EVENTS:
                raise ValueError
        except ValueError:
            return problem(422, "invalid-query", f"limit is a number from 1 to {MOST_EVENTS}")
        wanted = searches(record, spec, self._runtime.clock)
        try:
            walk = Walk(self._history, self._names, job_id, wanted, request.query.get("cursor"))
        except BadCursor as error:
            return problem(422, "invalid-query", str(error))
        await walk.run(limit)
        bound = caller(request).project is not None
        return answer(
            {
                "events": [_shown(each, of_project=bound) for each in walk.found],
                "next": walk.next,
                "incomplete": walk.incomplete,
            }
        )


def _shown(each: Occurrence, *, of_project: bool) -> dict[str, Any]:
    return {
        "stream": each.stream,
        "id": each.id,
        "at": each.at,
        "type": each.type,
        "source": each.source,
        "data": msgspec.Raw(each.data(of_project=of_project).encode()),
    }
