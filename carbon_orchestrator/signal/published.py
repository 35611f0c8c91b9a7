"""What the intensity stream holds of one zone: the points, and the mark of the last commit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from typing import NamedTuple, Self

import msgspec

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.signal.provider import Kind, Point, Provider
from streams.event import Message, entry_order

#: The `source` of points that the project itself forecast, as no source spoke.
OWN = "own forecast"
KEPT_MS = 90 * 86_400_000


class Mark(msgspec.Struct, frozen=True):
    """A zone's field in the `signal` hash, which every commit of its points changes, so that of
    two publishers one has to look again.

    `time`, `value`: the newest point; `count`: commits so far; `since`: the stream's last entry
    before the first of them. What lies before that was published by another clock.
    """

    time: int
    value: float
    count: int = 0
    since: str = "0-0"

    @classmethod
    def parse(cls, text: str) -> Self:
        """As `str` gives it; the parts from `count` on may be missing."""
        time, value, count, since, *_ = [*text.split(":"), "0", "0-0"]
        return cls(int(time), float(value), int(count), since)

    def __str__(self) -> str:
        return f"{self.time}:{self.value!r}:{self.count}:{self.since}"


class Grid(NamedTuple):
    """What may stand in one series: averages or marginal values, of a real or a simulated grid."""

    kind: Kind
    simulated: bool

    @classmethod
    def of(cls, source: Provider | IntensityObserved) -> Self:
        return cls(source.kind, source.simulated)


class Known(NamedTuple):
    """A point as published."""

    value: float
    estimated: bool
    source: str
    resolution_ms: int

    @property
    def own(self) -> bool:
        return self.source == OWN


class Published:
    """Points by grid and time (grid ms) of the last `kept_ms`; the latest word on a time counts.

    `latest`: the last event that said what is expected next, or that is newer than such a one.
    """

    def __init__(self, zone: str, since: str = "0-0", kept_ms: int = KEPT_MS) -> None:
        """`since`: the stream is looked at after that entry."""
        self.zone, self.since, self.kept_ms = zone, since, kept_ms
        self.latest: IntensityObserved | None = None
        self._points: defaultdict[Grid, dict[int, Known]] = defaultdict(dict)
        self._times: defaultdict[Grid, list[int]] = defaultdict(list)
        self._newest_real: dict[Grid, int] = {}

    def apply(self, message: Message) -> None:
        """Take in one event of the stream; those of other zones and clocks are left out."""
        event = message.event
        if not isinstance(event, IntensityObserved) or event.zone != self.zone:
            return
        if entry_order(message.entry_id) <= entry_order(self.since):
            return
        grid, time = Grid.of(event), event.time
        known = Known(event.intensity, event.estimated, event.source, event.resolution_ms)
        if time not in self._points[grid]:
            insort(self._times[grid], time)
        self._points[grid][time] = known
        if not known.own:
            self._newest_real[grid] = max(time, self._newest_real.get(grid, time))
        if self.latest is None or event.forecast or time >= self.latest.time:
            self.latest = event
            self._forget(grid, time - self.kept_ms)

    def get(self, grid: Grid, time: int) -> Known | None:
        return self._points[grid].get(time)

    def holding(self, grid: Grid, time: int) -> Known | None:
        """The point at `time`, or the last before it."""
        index = bisect_right(self._times[grid], time)
        return self._points[grid][self._times[grid][index - 1]] if index else None

    def times(self, grid: Grid, start: int, end: int) -> list[int]:
        """Of the points with start <= time <= end."""
        times = self._times[grid]
        return times[bisect_left(times, start) : bisect_right(times, end)]

    def newest(self, grid: Grid) -> int | None:
        return self._times[grid][-1] if self._times[grid] else None

    def newest_real(self, grid: Grid) -> int | None:
        """Of those that a source gave."""
        return self._newest_real.get(grid)

    def real(self, grid: Grid) -> list[tuple[Point, int]]:
        """What sources gave, with the resolution in ms, oldest first."""
        known = ((time, self._points[grid][time]) for time in self._times[grid])
        return [
            (Point(time, each.value, each.estimated), each.resolution_ms)
            for time, each in known
            if not each.own
        ]

    def _forget(self, grid: Grid, before: int) -> None:
        times = self._times[grid]
        gone = bisect_left(times, before)
        for time in times[:gone]:
            del self._points[grid][time]
        del times[:gone]
