"""From what a source sends to points in order: times, values, duplicates and gaps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median_low
from typing import Any, NamedTuple

from carbon_orchestrator.signal.provider import Expected, Point, SignalError

# Coal has 740 to 910 gCO2e/kWh (IPCC AR5, WG III, annex III, table A.III.2), and no grid comes near
# five times that. What a wrong unit makes (mg/kWh, g/MWh) lies beyond.
GREATEST = 5000.0  # gCO2e/kWh
LAST_MS = 4_102_444_800_000  # the year 2100


class Span(NamedTuple):
    """From `start` to `end`, ms since the Unix epoch, both included."""

    start: int
    end: int


class Reading(NamedTuple):
    """What one answer says; `skipped` of its values or times were impossible."""

    points: list[Point]
    expected: list[Expected]
    skipped: int


class Collector:
    """Gathers the values of one answer. Nulls are gaps; what is impossible is counted.

    `factor`: by which the source's values are gCO2e/kWh.
    """

    def __init__(self, source: str, factor: float = 1.0) -> None:
        self.source, self.factor = source, factor
        self.skipped = 0
        self._points: list[Point] = []
        self._expected: dict[int, float] = {}

    def point(self, time: int | None, value: object, estimated: bool = False) -> None:
        if (checked := self._checked(time, value)) is not None:
            self._points.append(Point(*checked, estimated))

    def expect(self, time: int | None, value: object) -> None:
        """A forecast; until `time` is measured it is an estimate too."""
        if (checked := self._checked(time, value)) is not None:
            self._expected[checked.time] = checked.value
            self._points.append(Point(*checked, estimated=True))

    def _checked(self, time: int | None, value: object) -> Expected | None:
        if value is None:
            return None
        number = intensity(value, self.factor)
        if time is None or number is None:
            self.skipped += 1
            return None
        return Expected(time, number)

    def reading(self) -> Reading:
        """Raises SignalError where there were values, but not one was possible."""
        if self.skipped and not self._points and not self._expected:
            raise SignalError(
                f"{self.source}: none of {self.skipped} values is a time and an intensity;"
                " its format may have changed, use another source"
            )
        expected = [Expected(time, self._expected[time]) for time in sorted(self._expected)]
        return Reading(in_order(self._points), expected, self.skipped)


def in_order(points: Iterable[Point]) -> list[Point]:
    """Oldest first, no time twice: a measured point counts before an estimated one, then the
    later in `points` before the earlier."""
    kept: dict[int, Point] = {}
    for point in points:
        other = kept.get(point.time)
        if other is None or other.estimated or not point.estimated:
            kept[point.time] = point
    return [kept[time] for time in sorted(kept)]


def usual_step(points: Sequence[Point]) -> int | None:
    """Ms between neighbours, as a rule; None for fewer than two points."""
    steps = [after.time - before.time for before, after in pairwise(points)]
    return median_low(steps) if steps else None


def intensity(value: object, factor: float = 1.0) -> float | None:
    """`value` times `factor` in gCO2e/kWh, None if that is no number from 0 to GREATEST."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared first: a product of a huge integer would overflow.
    return value * factor if 0 <= value <= GREATEST / factor else None


def iso_ms(text: object) -> int | None:
    """Ms since the Unix epoch of an ISO 8601 time, in UTC unless it says otherwise."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return unix_ms(moment.timestamp())
    except (ValueError, OverflowError):
        return None


def unix_ms(seconds: object) -> int | None:
    """Ms since the Unix epoch, None for what is no time between 1970 and 2100."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return round(seconds * 1000) if 0 <= seconds <= LAST_MS / 1000 else None


def iso(time: int) -> str:
    """2018-01-20T12:00Z, a minute's precision, of `time` in ms."""
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def member(source: str, answer: object, name: str) -> Any:
    """The member `name` of a JSON object. Raises SignalError."""
    if not isinstance(answer, dict) or name not in answer:
        raise SignalError(
            f"{source}: the answer has no {name!r}; its format may have changed, use another source"
        )
    return answer[name]


def items(source: str, answer: object, name: str) -> list[Any]:
    """The list `name` in a JSON object. Raises SignalError."""
    found = member(source, answer, name)
    if not isinstance(found, list):
        raise SignalError(
            f"{source}: {name!r} is no list; its format may have changed, use another source"
        )
    return found


def spans(t0: int, t1: int, width: int, most: int, source: str) -> list[Span]:
    """[t0, t1] in pieces of `width` ms at most, oldest first. Raises SignalError above `most`."""
    if t1 - t0 > width * most:
        raise SignalError(
            f"{source}: a history of {(t1 - t0) / 86_400_000:.0f} days takes more than {most}"
            f" requests; ask for {width * most // 86_400_000} days at most",
            permanent=True,
        )
    starts = range(t0, max(t1, t0 + 1), width)
    return [Span(start, min(start + width, t1)) for start in starts]
