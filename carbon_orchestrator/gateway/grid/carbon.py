"""The grid over HTTP: what is, what was, and when a job would best be run."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from carbon_orchestrator.clock import parse_time, rfc3339
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.grid.windows import DoesNotFit, best_window, run_length
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.submission import Invalid, deadline_of

_DAY_MS = 86_400_000


class Carbon:
    """What is asked of the grid."""

    def __init__(self, runtime: Runtime, reading: Reading, grids: Grids) -> None:
        self._runtime = runtime
        self._reading = reading
        self._grids = grids

    async def show(self, request: web.Request) -> web.Response:
        """A zone's intensity, band and forecast."""
        zone = self._zone(request)
        return answer(await self.view(zone)) if zone is not None else self._unknown()

    async def history(self, request: web.Request) -> web.Response:
        """A zone's intensities of a stretch of time, by default the last day."""
        zone, query = self._zone(request), request.query
        if zone is None:
            return self._unknown()
        field = "to"
        try:
            end = parse_time(query["to"]) if "to" in query else self._runtime.now()
            field = "from"
            start = parse_time(query["from"]) if "from" in query else end - _DAY_MS
        except ValueError as error:
            return problem(422, "invalid-query", str(error), field=field)
        if start > end:
            return problem(422, "invalid-query", "from must not lie after to", field="from")
        return answer(self._grids.zone(zone).history(start, end))

    async def best_window(self, request: web.Request) -> web.Response:
        """When a flexible job would best be run on FAST, without submitting it."""
        zone, query = self._zone(request), request.query
        if zone is None:
            return self._unknown()
        config, clock = self._runtime.config, self._runtime.clock
        now = clock.now()
        if "duration" not in query:
            missing = "say how long it runs, such as duration=2h"
            return problem(422, "invalid-query", missing, field="duration")
        try:
            length = run_length(query["duration"])
        except ValueError as error:
            return problem(422, "invalid-query", str(error), field="duration")
        try:
            deadline = deadline_of(query.get("deadline"), "flexible", config, now)
        except Invalid as error:
            return problem(422, "invalid-query", str(error), field="deadline")
        known = self._grids.zone(zone)
        outlook, latest = known.outlook(), known.latest
        if latest is None or outlook.band_at(now) is None:
            view = await self.view(zone)
            return problem(
                409,
                "no-signal",
                f"{view['unusable']}, so no time is known to be better than now; jobs run without"
                " waiting meanwhile. Ask again when /carbon says that the signal is ok",
            )
        try:
            found = best_window(outlook, latest, config, clock.speed, now, length, deadline)
        except DoesNotFit as error:
            return problem(422, "does-not-fit", str(error), field="deadline")
        return answer(
            {
                "zone": zone,
                "duration_ms": length,
                "deadline": None if deadline is None else rfc3339(deadline),
                "now": found.at_once.json(),
                "best": {**found.best.json(), "low": found.low, "high": found.high},
                "saving": round(found.saving, 4),
                "latest_start": rfc3339(found.latest_start),
                "forecast_until": rfc3339(found.forecast_until),
                "simulated": latest.simulated,
            }
        )

    async def view(self, zone: str = "") -> dict[str, Any]:
        """What is known of a zone, by default the home zone, as JSON."""
        clock, zone = self._runtime.clock, zone or self._grids.home.zone
        view = self._grids.view(zone, clock, clock.now())
        if view["signal"] == "none" and (why := await self._reading.silence(zone)):
            view["unusable"] = f"{view['unusable']}: {why}"
        return view

    def _zone(self, request: web.Request) -> str | None:
        """The zone that is asked about; None for one that is not configured."""
        zone = request.query.get("zone", self._grids.home.zone)
        return zone if zone in self._grids.zones else None

    def _unknown(self) -> web.Response:
        known = ", ".join(self._grids.zones)
        return problem(404, "unknown-zone", f"no such zone; known: {known}")
