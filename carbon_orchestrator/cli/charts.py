"""Carbon intensity drawn with characters. Pure.

Height says how much, colour says which band; where there is no colour the lines of the bands'
bounds say it, and what is still to come is of another character than what has been.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from carbon_orchestrator.clock import parse_time, rfc3339

#: Styles of bands, and of what is no value.
BANDS: Mapping[str, str] = {"low": "green", "medium": "yellow", "high": "red", "": "cyan"}
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_AHEAD, _PAST, _PERHAPS, _BOUND, _NOW = "░", "█", "·", "╌", "┊"
_LABEL = 5
Span = tuple[str, str]  # text and its style


class Bar(msgspec.Struct, frozen=True):
    """The mean over a stretch of time, gCO2e/kWh; `high`: what it may rise to, if it is ahead."""

    time: int
    value: float
    ahead: bool = False
    high: float | None = None


class Bounds(msgspec.Struct, frozen=True):
    """Of the medium band; None where bands are not known."""

    low: float | None = None
    high: float | None = None

    def band(self, value: float) -> str:
        """As the gateway has it: low up to `low`, high from `high`; "" if not known."""
        if self.low is None or self.high is None:
            return ""
        return "low" if value <= self.low else "high" if value >= self.high else "medium"


def bars(
    past: Sequence[Mapping[str, Any]],
    forecast: Sequence[Mapping[str, Any]],
    now: int,
    start: int,
    end: int,
    width: int,
) -> list[Bar | None]:
    """`width` bars from `start` to `end` (ms), of points that each hold until the next one; None
    where nothing is known."""
    known = [
        (parse_time(each["time"]), float(each["intensity"]), None)
        for each in past
        if parse_time(each["time"]) <= now
    ]
    known += [
        (parse_time(each["time"]), float(each["intensity"]), each.get("high"))
        for each in forecast
        if parse_time(each["time"]) > now or not known
    ]
    known.sort(key=lambda each: each[0])
    made: list[Bar | None] = []
    for at in range(width):
        left = start + (end - start) * at // width
        right = start + (end - start) * (at + 1) // width
        made.append(_mean(known, left, right, now))
    return made


def _mean(
    known: Sequence[tuple[int, float, float | None]], left: int, right: int, now: int
) -> Bar | None:
    weight = total = upper = 0.0
    last = known[-1][0] if known else 0
    for n, (time, value, high) in enumerate(known):
        until = known[n + 1][0] if n + 1 < len(known) else max(last + _step(known), now)
        held = min(right, until) - max(left, time)
        if held > 0:
            weight += held
            total += held * value
            upper += held * (value if high is None else high)
    if not weight:
        return None
    ahead = left > now
    return Bar(left, total / weight, ahead, upper / weight if ahead else None)


def _step(known: Sequence[tuple[int, float, float | None]]) -> int:
    """How long the last point is taken to hold: as long as the one before it did."""
    return known[-1][0] - known[-2][0] if len(known) > 1 else 1_800_000


def sparkline(shown: Sequence[Bar | None], bounds: Bounds) -> Iterator[Span]:
    """One line, from 0 to the highest."""
    top = max((each.value for each in shown if each is not None), default=0.0)
    for each in shown:
        if each is None:
            yield " ", ""
            continue
        eighth = _EIGHTHS[max(1, round(8 * each.value / top))] if top > 0 else _EIGHTHS[1]
        style = BANDS[bounds.band(each.value)]
        yield eighth, f"{style} dim" if each.ahead else style


def chart(
    shown: Sequence[Bar | None], bounds: Bounds, height: int, now: int
) -> Iterator[list[Span]]:
    """Rows of spans, the highest first, with a scale at the left; then the times below."""
    values = [each.high or each.value for each in shown if each is not None]
    top = max([*values, (bounds.high or 0) * 1.1, 1.0])
    unit = top / height
    marks = {}
    for value in (bounds.low, bounds.high):
        if value is not None:
            marks[min(height - 1, int(value / unit))] = value
    here = max((n for n, each in enumerate(shown) if each and not each.ahead), default=-1)
    for row in range(height - 1, -1, -1):
        label = marks.get(row, top if row == height - 1 else 0.0 if row == 0 else None)
        text = "" if label is None else f"{label:.0f}"
        spans: list[Span] = [(f"{text:>{_LABEL}} ", "dim")]
        for at, each in enumerate(shown):
            empty = (_BOUND, "dim") if row in marks else (" ", "")
            if at == here + 1:
                empty = (_NOW, "bold")
            spans.append(_cell(each, row, unit, bounds, empty))
        yield spans
    yield from _times(shown, here)


def _cell(each: Bar | None, row: int, unit: float, bounds: Bounds, empty: Span) -> Span:
    if each is None:
        return empty
    style = BANDS[bounds.band(each.value)]
    filled = each.value / unit - row
    if filled >= 1 - 1 / 16:
        return (_AHEAD if each.ahead else _PAST), style
    if filled >= 1 / 16 or row == 0:
        # A part of a cell cannot be of the other character: what is ahead ends at whole ones.
        if not each.ahead:
            return _EIGHTHS[max(1, round(8 * filled))], style
        if filled >= 0.5 or row == 0:
            return _AHEAD, style
    if each.high is not None and each.high / unit - row >= 0.5:
        return _PERHAPS, style
    return empty


def _times(shown: Sequence[Bar | None], here: int) -> Iterator[list[Span]]:
    """Marks every six hours, wherever there is room, and where we are."""
    line = [" "] * len(shown)
    known = [each for each in shown if each is not None]
    step = (known[-1].time - known[0].time) / max(1, len(known) - 1) if known else 0
    free = 0
    for at, each in enumerate(shown):
        if each is None or not step:
            continue
        hour = each.time % 21_600_000
        near = abs(at - here - 1) < 6
        if hour < step and at >= free and not near and at + 5 <= len(shown):
            line[at : at + 5] = rfc3339(each.time - hour)[11:16]
            free = at + 7
    if -1 < here < len(shown):
        begin = min(max(0, here), max(0, len(shown) - 3))
        line[begin : begin + 3] = "now"
    yield [(" " * (_LABEL + 1) + "".join(line), "dim")]
