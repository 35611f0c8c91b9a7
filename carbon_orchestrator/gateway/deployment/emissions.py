"""Totals over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from carbon_orchestrator.accounting.report import (
    DERIVED,
    METHOD_IN_WORDS,
    report,
    simulated,
    to_csv,
)
from carbon_orchestrator.accounting.totals import GROUPS, METRICS
from carbon_orchestrator.clock import day, parse_time
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.gateway.reading import Reading

FORMATS = ("json", "csv")


class Emissions:
    """What is asked of the sums."""

    def __init__(self, reading: Reading, grids: Grids) -> None:
        self._reading = reading
        self._grids = grids

    async def show(self, request: web.Request, project: str | None) -> web.Response:
        """Totals by group, as JSON or CSV; of one `project` only, unless it is None."""
        query = request.query
        by = tuple(dict.fromkeys(each for each in query.get("by", "day").split(",") if each))
        for group in by:
            if group not in GROUPS:
                return problem(422, "invalid-query", f"by is among {', '.join(GROUPS)}")
        first, last = query.get("from"), query.get("to")
        for moment in (first, last):
            if moment is not None and not _is_day(moment):
                return problem(422, "invalid-query", "from and to are days such as 2026-01-31")
        wanted = query.get("format") or _preferred(request.headers.get("Accept", ""))
        if wanted not in FORMATS:
            return problem(422, "invalid-query", f"format is among {', '.join(FORMATS)}")
        totals = await self._reading.totals(first, last)
        if project is not None:
            totals = {each: _of_project(sums, project) for each, sums in totals.items()}
        rows = report(totals, by)
        if wanted == "csv":
            return web.Response(
                text=to_csv(rows, by),
                content_type="text/csv",
                charset="utf-8",
                headers={"Content-Disposition": 'attachment; filename="emissions.csv"'},
            )
        latest = self._grids.home.latest
        # What is simulated now says what will be counted, where nothing has been yet.
        now = None if latest is None else latest.simulated
        return answer(
            {
                "by": by,
                "rows": [row.json() for row in rows],
                "metrics": {**METRICS, **DERIVED},
                "method": METHOD_IN_WORDS,
                "simulated": simulated(rows) or now,
            }
        )


def _of_project(sums: Mapping[bytes, bytes], project: str) -> Mapping[bytes, bytes]:
    wanted = [project.encode()]
    return {field: value for field, value in sums.items() if field.split(b"|")[1:2] == wanted}


def _preferred(accept: str) -> str:
    """CSV where it is asked for before JSON; a browser that takes anything gets JSON."""
    for each in accept.lower().split(","):
        media = each.partition(";")[0].strip()
        if media == "text/csv":
            return "csv"
        if media in ("application/json", "*/*"):
            break
    return "json"


def _is_day(text: str) -> bool:
    try:
        return day(parse_time(text)) == text
    except ValueError:
        return False
