"""Electricity Maps v3: many zones of the world by the hour, with a token.

portal.electricitymaps.com/docs/api. The free plan has one zone with `latest` and `history` (24
hours); `past-range` (10 days a request) and `forecast` are for paid plans, and are refused with
401 or 403 in others. Values of the last hours are estimated, and replaced some hours later. For a
zone that it does not know it may answer with another, by the caller's address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog

from carbon_orchestrator.signal.credentials import credential
from carbon_orchestrator.signal.live import DAY_MS, Live
from carbon_orchestrator.signal.points import (
    Collector,
    Reading,
    Span,
    in_order,
    iso,
    iso_ms,
    items,
    member,
)
from carbon_orchestrator.signal.provider import Expected, Point, SignalError
from carbon_orchestrator.signal.web import Refused, WebSource, base_url, one_line

log = structlog.get_logger(__name__)

PUBLIC_URL = "https://api.electricitymaps.com"
TOKEN = "ELECTRICITYMAPS_TOKEN"  # the variable's name
HOUR_MS = 3_600_000
FRESH = 600.0  # seconds; a new value each hour
REFUSED_FOR = 6 * 3600.0  # seconds for which an endpoint outside of the plan is not tried again

LISTS = {"latest": None, "history": "history", "past-range": "data", "forecast": "forecast"}
_ZONE = re.compile(r"[A-Z]{2}(-[A-Za-z0-9]+)*")


class ElectricityMaps(Live):
    """`argument`: a zone as Electricity Maps names it, "DE" or "US-CAL-CISO"."""

    window_ms = 9 * DAY_MS

    def __init__(self, argument: str, *, zone: str, base: str | None = None) -> None:
        """`base`: another URL than $CARBON_ELECTRICITYMAPS_URL or the public one."""
        self._grid = argument.strip()
        if not _ZONE.fullmatch(self._grid):
            raise SignalError(
                f"Electricity Maps has no zone {argument!r}; write electricitymaps:DE",
                permanent=True,
            )
        self._token = credential(TOKEN)
        self._refused_until: dict[str, float] = {}
        url = base_url("Electricity Maps", "CARBON_ELECTRICITYMAPS_URL", PUBLIC_URL, base)
        name = f"Electricity Maps {self._grid}"
        web = WebSource(
            name,
            url,
            refused=f"check {TOKEN}, and that its plan has zone {self._grid}",
            unknown=f"check that {self._grid!r} is a zone it knows",
        )
        super().__init__(web, zone=zone, source=name, kind="average", resolution_ms=HOUR_MS)

    async def now(self, t: int) -> Point | None:
        for endpoint in ("latest", "history"):
            points = [p for p in (await self._read(endpoint)).points if p.time <= t]
            if points:
                return points[-1]
        return await super().now(t)

    async def _collect(self, t0: int, t1: int) -> list[Point]:
        points = (await self._read("history")).points
        if not points or points[-1].time + HOUR_MS <= t1:
            points = in_order(points + (await self._read("latest")).points)
        oldest = points[0].time if points else t1
        if t0 <= oldest - HOUR_MS and self._in_plan("past-range"):
            try:
                return await super()._collect(t0, min(t1, oldest)) + points
            except Refused:
                self._not_in_plan("past-range", f"history begins at {iso(oldest)}")
        return points

    async def _points(self, span: Span) -> list[Point]:
        end = span.end - span.end % HOUR_MS + HOUR_MS
        times = {"start": iso(span.start - span.start % HOUR_MS), "end": iso(end)}
        return (await self._read("past-range", times)).points

    async def forecast(self, t: int) -> list[Expected]:
        if not self._in_plan("forecast"):
            return []
        try:
            reading = await self._read("forecast")
        except Refused:
            self._not_in_plan("forecast", "there is no forecast of its own")
            return []
        return [point for point in reading.expected if point.time > t]

    def _in_plan(self, endpoint: str) -> bool:
        return self.web.clock() >= self._refused_until.get(endpoint, 0.0)

    def _not_in_plan(self, endpoint: str, effect: str) -> None:
        self._refused_until[endpoint] = self.web.clock() + REFUSED_FOR
        log.warning("not in the plan", source=self.source, endpoint=endpoint, effect=effect)

    async def _read(self, endpoint: str, times: Mapping[str, str] | None = None) -> Reading:
        used = self._token
        try:
            return await self._ask(endpoint, times or {})
        except Refused:
            self._token = credential(TOKEN)
            if self._token == used:
                raise
            self._refused_until.clear()
        return await self._ask(endpoint, times or {})

    async def _ask(self, endpoint: str, times: Mapping[str, str]) -> Reading:
        def parse(answer: Any) -> Reading:
            return parse_electricity_maps(answer, LISTS[endpoint], self._grid, self.source)

        return await self.web.get(
            f"v3/carbon-intensity/{endpoint}",
            {"zone": self._grid, "emissionFactorType": "lifecycle", **times},
            self.noted(parse),
            headers={"auth-token": self._token},
            fresh=FRESH,
        )


def parse_electricity_maps(
    answer: Any, rows_in: str | None, grid: str, source: str = "Electricity Maps"
) -> Reading:
    """{"zone": `grid`, `rows_in`: [{"datetime", "carbonIntensity", "isEstimated"}]}; where
    `rows_in` is None the answer itself is the one row. Raises SignalError."""
    if (zone := member(source, answer, "zone")) != grid:
        raise SignalError(
            f"{source}: the answer is of zone {one_line(str(zone))}; check that {grid!r} exists",
            permanent=True,
        )
    found = Collector(source)
    for row in [answer] if rows_in is None else items(source, answer, rows_in):
        if not isinstance(row, dict) or row.get("emissionFactorType", "lifecycle") != "lifecycle":
            found.skipped += 1
            continue
        time, value = iso_ms(row.get("datetime")), row.get("carbonIntensity")
        if rows_in == "forecast":
            found.expect(time, value)
        else:
            found.point(time, value, estimated=bool(row.get("isEstimated")))
    return found.reading()
