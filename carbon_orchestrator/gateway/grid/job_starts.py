"""`GET /carbon/starts`: where on the curve of the grid jobs started, and are to start."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.gateway.door.guard import caller
from carbon_orchestrator.gateway.grid.past_starts import PastStarts
from carbon_orchestrator.gateway.grid.planned_starts import PlannedStarts
from carbon_orchestrator.gateway.grid.starts import Bucket, Start, bucket_length, bucketed, joined
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.runtime import Runtime

_DAY_MS = 86_400_000
_LONGEST_DAYS = 400


class JobStarts:
    """`past`, `planned`: of each partition."""

    def __init__(
        self, runtime: Runtime, past: Sequence[PastStarts], planned: Sequence[PlannedStarts]
    ) -> None:
        self._runtime = runtime
        self._zones = (runtime.config.zone, *runtime.config.zones)
        self._past = past
        self._planned = planned

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
        starts: list[Start] = []
        buckets: list[Bucket] = []
        whole = True
        for past in self._past:
            some, all_past = await past.between(start, end, zone, project)
            starts, whole = [*starts, *some], whole and all_past
        ahead = max(start, now)
        for planned in self._planned if ahead < end else ():
            those, all_planned = await planned.between(
                ahead, end, zone, project, length, overdue=start <= now
            )
            buckets, whole = [*buckets, *those], whole and all_planned
        starts.sort(key=lambda each: each.at)
        return answer(
            {
                "zone": zone,
                "bucket_ms": length,
                "starts": [each.json() for each in bucketed(starts, length)],
                "planned": [each.json() for each in joined(buckets)],
                "complete": whole,
            }
        )
