"""Energy-Charts of Fraunhofer ISE: Europe by the quarter hour (some countries by the hour), no key.

api.energy-charts.info/co2eq: parallel arrays, of which `co2eq` has what was measured and
`co2eq_forecast` what is expected; where one has a value the other has null. A time up to now that
has been forecast but not measured yet is an estimate.
"""

from __future__ import annotations

import re
from typing import Any

from carbon_orchestrator.signal.live import DAY_MS, Live
from carbon_orchestrator.signal.points import (
    Collector,
    Reading,
    Span,
    iso,
    items,
    unix_ms,
    usual_step,
)
from carbon_orchestrator.signal.provider import Expected, Point, SignalError
from carbon_orchestrator.signal.web import WebSource, base_url

PUBLIC_URL = "https://api.energy-charts.info"
QUARTER_MS = 900_000
FRESH = 900.0  # seconds; a public service that asks for few requests

_COUNTRY = re.compile(r"[a-z]{2,3}(_[a-z0-9]+)?")


class EnergyCharts(Live):
    """`argument`: a country as Energy-Charts names it, "de"."""

    window_ms = 28 * DAY_MS

    def __init__(self, argument: str, *, zone: str, base: str | None = None) -> None:
        """`base`: another URL than $CARBON_ENERGY_CHARTS_URL or the public one."""
        self._country = argument.strip().lower()
        if not _COUNTRY.fullmatch(self._country):
            raise SignalError(
                f"Energy-Charts has no country {argument!r}; write energy-charts:de",
                permanent=True,
            )
        url = base_url("Energy-Charts", "CARBON_ENERGY_CHARTS_URL", PUBLIC_URL, base)
        name = f"Energy-Charts {self._country}"
        web = WebSource(name, url, unknown=f"check that {self._country!r} is a country it knows")
        super().__init__(web, zone=zone, source=name, kind="average", resolution_ms=QUARTER_MS)

    async def _points(self, span: Span) -> list[Point]:
        today = span.end - span.end % DAY_MS
        if span.start >= today - DAY_MS:
            return (await self._around(span.end)).points
        start = span.start - span.start % DAY_MS
        return (await self._read(Span(start, today + DAY_MS))).points

    async def forecast(self, t: int) -> list[Expected]:
        return [point for point in (await self._around(t)).expected if point.time > t]

    async def _around(self, t: int) -> Reading:
        """One answer for now, the last day and the forecast; its name changes once a day."""
        today = t - t % DAY_MS
        return await self._read(Span(today - DAY_MS, today + 3 * DAY_MS))

    async def _read(self, span: Span) -> Reading:
        def parse(answer: Any) -> Reading:
            return parse_energy_charts(answer, self.source)

        params = {"country": self._country, "start": iso(span.start), "end": iso(span.end)}
        reading = await self.web.get("co2eq", params, self.noted(parse), fresh=FRESH)
        self.resolution_ms = usual_step(reading.points) or self.resolution_ms
        return reading


def parse_energy_charts(answer: Any, source: str = "Energy-Charts") -> Reading:
    """{"unix_seconds": [], "co2eq": [], "co2eq_forecast": []}. Raises SignalError."""
    times = items(source, answer, "unix_seconds")
    measured = items(source, answer, "co2eq")
    expected = answer.get("co2eq_forecast") or [None] * len(times)
    if not isinstance(expected, list) or not len(times) == len(measured) == len(expected):
        raise SignalError(
            f"{source}: times and values differ in number; ask again or use another source"
        )
    found = Collector(source)
    for seconds, value, forecast in zip(times, measured, expected, strict=True):
        time = unix_ms(seconds)
        found.point(time, value)
        found.expect(time, forecast)
    return found.reading()
