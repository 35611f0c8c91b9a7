"""`GET /carbon/starts`: where on the curve of the grid jobs started, and are to start."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from redis.asyncio import Redis

from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.gateway.guard import caller
from carbon_orchestrator.gateway.past_starts import PastStarts
from carbon_orchestrator.gateway.planned_starts import PlannedStarts
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.gateway.projects import Projects
from carbon_orchestrator.gateway.starts import Bucket, bucket_length, bucketed
from carbon_orchestrator.runtime import Runtime

_DAY_MS = 86_400_000
_LONGEST_DAYS = 400


class JobStarts:
    """`redis`: shared with others."""

    def __init__(self, runtime: Runtime, redis: Redis, projects: Projects) -> None:
        config, topology = runtime.config, runtime.topology
        self._runtime = runtime
        self._zones = (config.zone, *config.zones)
        self._past = PastStarts(redis, topology, config, projects)
        self._planned = PlannedStarts(redis, topology, config, projects)

    async def show(self, request: web.Request) -> web.Response:
        """Starts of a day back and a day ahead, or of the time that is asked for."""
        query, now = request.query, self._runtime.now()
        zone, project = query.get("zone", self._zones[0]), caller(request).project
        if zone not in self._zones:
            known = ", ".join(self._zones)
            return problem(404, "unknown-zone", f"no such zone; known: {known}")
        field = "from"
        try:
            start = parse_time(query["from"]) if "from" in query else now - _DAY_MS
            field = "to"
            end = parse_time(query["to"]) if "to" in query else max(start, now) + _DAY_MS
        except ValueError as error:
            return problem(422, "invalid-query", str(error), field=field)
        if not start < end <= start + _LONGEST_DAYS * _DAY_MS:
            said = f"to must lie after from, by {_LONGEST_DAYS} days at most"
            return problem(422, "invalid-query", said, field="to")
        length = bucket_length(start, end)
        starts, all_past = await self._past.between(start, end, zone, project)
        ahead, all_planned = max(start, now), True
        planned: Sequence[Bucket] = ()
        if ahead < end:
            planned, all_planned = await self._planned.between(
                ahead, end, zone, project, length, overdue=start <= now
            )
        return answer(
            {
                "zone": zone,
                "bucket_ms": length,
                "starts": [each.json() for each in bucketed(starts, length)],
                "planned": [each.json() for each in planned],
                "complete": all_past and all_planned,
            }
        )
