"""Totals over HTTP."""

from __future__ import annotations

from aiohttp import web

from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.accounting.totals import GROUPS, METRICS
from carbon_orchestrator.clock import day, parse_time
from carbon_orchestrator.gateway.grids import Grids
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.gateway.reading import Reading


class Emissions:
    """What is asked of the sums."""

    def __init__(self, reading: Reading, grids: Grids) -> None:
        self._reading = reading
        self._grids = grids

    async def show(self, request: web.Request, project: str | None) -> web.Response:
        """Totals by group; of one `project` only, unless it is None."""
        by = tuple(each for each in request.query.get("by", "day").split(",") if each)
        for group in by:
            if group not in GROUPS:
                return problem(422, "invalid-query", f"by is among {', '.join(GROUPS)}")
        first, last = request.query.get("from"), request.query.get("to")
        for moment in (first, last):
            if moment is not None and not _is_day(moment):
                return problem(422, "invalid-query", "from and to are days such as 2026-01-31")
        totals = await self._reading.totals(first, last)
        if project is not None:
            totals = {
                day: {
                    field: value
                    for field, value in sums.items()
                    if field.split(b"|")[1:2] == [project.encode()]
                }
                for day, sums in totals.items()
            }
        rows = report(totals, by)
        latest = self._grids.home.latest
        return answer(
            {
                "by": by,
                "rows": [{**row.group, **row.sums, "avoided_ug": row.avoided_ug} for row in rows],
                "metrics": {**METRICS, "avoided_ug": "baseline less emitted, µg CO2e"},
                "simulated": latest.simulated if latest is not None else None,
            }
        )


def _is_day(text: str) -> bool:
    try:
        return day(parse_time(text)) == text
    except ValueError:
        return False
