"""Great Britain's Carbon Intensity API (NESO): half hours, national or regional, no key.

api.carbonintensity.org.uk; definitions: carbon-intensity.github.io/api-definitions (CC BY 4.0).
What the definitions do not say, and is met here:
- A `from` on the half hour also gives the half hour that ends there, so one minute is added; what
  lies outside is dropped in any case.
- `actual` is null for a while, and regions never have one: then the forecast is the estimate.
- A regional range gives nothing beyond the year that it begins in (seen by other clients), so it
  is asked year by year.
- One half hour can come twice with different values.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from carbon_orchestrator.signal.live import DAY_MS, MOST_REQUESTS, Live
from carbon_orchestrator.signal.points import (
    Collector,
    Reading,
    Span,
    iso,
    iso_ms,
    items,
    member,
    spans,
)
from carbon_orchestrator.signal.provider import Expected, Point, SignalError
from carbon_orchestrator.signal.web import CHANGED, WebSource, base_url

PUBLIC_URL = "https://api.carbonintensity.org.uk"
HALF_HOUR_MS = 1_800_000
MINUTE_MS = 60_000
FRESH = 300.0  # seconds; estimates of the open half hour are revised more often than it changes

_REGIONS = range(1, 18)
_OUTWARD = re.compile(r"[A-Z]{1,2}[0-9][0-9A-Z]?")


class Neso(Live):
    """`argument`: "" for the nation, a region from 1 to 17, or the first half of a postcode."""

    window_ms = 13 * DAY_MS  # 14 are allowed, and half an hour is added at both ends

    def __init__(self, argument: str = "", *, zone: str, base: str | None = None) -> None:
        """`base`: another URL than $CARBON_NESO_URL or the public one. Raises SignalError."""
        text = argument.strip().upper()
        self._region = int(text) if text.isdecimal() and len(text) < 3 else None
        self._regional = bool(text)
        if text.isdecimal() and self._region in _REGIONS:
            self._place, name = f"/regionid/{self._region}", f"NESO region {self._region}"
        elif _OUTWARD.fullmatch(text):
            self._place, name = f"/postcode/{text}", f"NESO postcode {text}"
        elif not text:
            self._place, name = "", "NESO"
        else:
            raise SignalError(
                f"NESO has no region {argument!r}; write neso, neso:13 (a region from 1 to 17) or"
                " neso:RG10 (the first half of a postcode)",
                permanent=True,
            )
        url = base_url("NESO", "CARBON_NESO_URL", PUBLIC_URL, base)
        unknown = f"check that {name.removeprefix('NESO ')} exists" if text else CHANGED
        web = WebSource(name, url, unknown=unknown)
        super().__init__(web, zone=zone, source=name, kind="average", resolution_ms=HALF_HOUR_MS)

    def _spans(self, t0: int, t1: int) -> list[Span]:
        pieces = spans(t0, t1, self.window_ms, MOST_REQUESTS, self.source)
        return [part for span in pieces for part in by_year(span)] if self._regional else pieces

    async def _points(self, span: Span) -> list[Point]:
        start, end = asked(span, within_year=self._regional)
        return (await self._read(f"{iso(start)}/{iso(end)}")).points

    async def forecast(self, t: int) -> list[Expected]:
        begin = t - t % HALF_HOUR_MS + MINUTE_MS
        reading = await self._read(f"{iso(begin)}/fw48h")
        return [point for point in reading.expected if point.time > t]

    async def _read(self, times: str) -> Reading:
        def parse(answer: Any) -> Reading:
            return parse_neso(answer, self.source, self._region)

        prefix = "regional/intensity" if self._regional else "intensity"
        path = f"{prefix}/{times}{self._place}"
        return await self.web.get(path, {}, self.noted(parse), fresh=FRESH)


def asked(span: Span, *, within_year: bool) -> Span:
    """The range to ask for so that every half hour in `span` is in the answer."""
    start = span.start - span.start % HALF_HOUR_MS - HALF_HOUR_MS + MINUTE_MS
    end = span.end - span.end % HALF_HOUR_MS + HALF_HOUR_MS + MINUTE_MS
    if within_year:
        start = max(start, _new_year(span.start))
        end = min(end, _new_year(span.end, later=1))
    return Span(start, end)


def by_year(span: Span) -> list[Span]:
    """`span`, cut where years (UTC) begin."""
    parts = []
    while (cut := _new_year(span.start, later=1)) <= span.end:
        parts.append(Span(span.start, cut - 1))
        span = Span(cut, span.end)
    return [*parts, span]


def _new_year(time: int, later: int = 0) -> int:
    year = datetime.fromtimestamp(time / 1000, UTC).year + later
    return round(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)


def parse_neso(answer: Any, source: str = "NESO", region: int | None = None) -> Reading:
    """National {"data": [{"from", "intensity": {"forecast", "actual"}}]}, or a region's list
    inside of "data". Raises SignalError."""
    data = member(source, answer, "data")
    if (
        isinstance(data, list)
        and len(data) == 1
        and isinstance(data[0], dict)
        and "data" in data[0]
    ):
        data = data[0]
    if isinstance(data, dict):
        if region is not None and data.get("regionid", region) != region:
            raise SignalError(
                f"{source}: the answer is of another region; ask again or use a postcode"
            )
        rows = items(source, data, "data")
    else:
        rows = items(source, answer, "data")
    found = Collector(source)
    for row in rows:
        values = row.get("intensity") if isinstance(row, dict) else None
        if not isinstance(values, dict):
            found.skipped += 1
            continue
        time = iso_ms(row.get("from"))
        actual, forecast = values.get("actual"), values.get("forecast")
        found.point(time, actual)
        found.expect(time, forecast)
    return found.reading()
