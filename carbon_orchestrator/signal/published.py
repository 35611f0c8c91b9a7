"""What the intensity stream holds of one zone: the points, and the mark of the last commit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple, Self

import msgspec

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.signal.provider import Kind, Point
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


class Known(NamedTuple):
    """A point as published."""

    value: float
    estimated: bool
    source: str
    resolution_ms: int
    simulated: bool

    @property
    def own(self) -> bool:
        return self.source == OWN


class Published:
    """Points by kind and time (grid ms) of the last `kept_ms`; the latest word on a time counts.

    `latest`: the last event that said what is expected next, or that is newer than such a one.
    """

    def __init__(self, zone: str, since: str = "0-0", kept_ms: int = KEPT_MS) -> None:
        """`since`: the stream is looked at after that entry."""
        self.zone, self.since, self.kept_ms = zone, since, kept_ms
        self.latest: IntensityObserved | None = None
        self._points: dict[Kind, dict[int, Known]] = {"average": {}, "marginal": {}}
        self._times: dict[Kind, list[int]] = {"average": [], "marginal": []}
        self._newest_real: dict[Kind, int] = {}

    def apply(self, message: Message) -> None:
        """Take in one event of the stream; those of other zones and clocks are left out."""
        event = message.event
        if not isinstance(event, IntensityObserved) or event.zone != self.zone:
            return
        if entry_order(message.entry_id) <= entry_order(self.since):
            return
        kind, time = event.kind, event.time
        known = Known(
            event.intensity, event.estimated, event.source, event.resolution_ms, event.simulated
        )
        if time not in self._points[kind]:
            insort(self._times[kind], time)
        self._points[kind][time] = known
        if not known.own:
            self._newest_real[kind] = max(time, self._newest_real.get(kind, time))
        if self.latest is None or event.forecast or time >= self.latest.time:
            self.latest = event
            self._forget(kind, time - self.kept_ms)

    def get(self, kind: Kind, time: int) -> Known | None:
        return self._points[kind].get(time)

    def holding(self, kind: Kind, time: int) -> Known | None:
        """The point at `time`, or the last before it."""
        index = bisect_right(self._times[kind], time)
        return self._points[kind][self._times[kind][index - 1]] if index else None

    def times(self, kind: Kind, start: int, end: int) -> list[int]:
        """Of the points with start <= time <= end."""
        times = self._times[kind]
        return times[bisect_left(times, start) : bisect_right(times, end)]

    def oldest(self, kind: Kind) -> int | None:
        return self._times[kind][0] if self._times[kind] else None

    def newest(self, kind: Kind) -> int | None:
        return self._times[kind][-1] if self._times[kind] else None

    def newest_real(self, kind: Kind) -> int | None:
        """Of those that a source gave."""
        return self._newest_real.get(kind)

    def real(self, kind: Kind, simulated: bool) -> list[tuple[Point, int]]:
        """What sources gave of one grid, with the resolution in ms, oldest first."""
        known = ((time, self._points[kind][time]) for time in self._times[kind])
        return [
            (Point(time, each.value, each.estimated), each.resolution_ms)
            for time, each in known
            if not each.own and each.simulated == simulated
        ]

    def _forget(self, kind: Kind, before: int) -> None:
        times = self._times[kind]
        gone = bisect_left(times, before)
        for time in times[:gone]:
            del self._points[kind][time]
        del times[:gone]
