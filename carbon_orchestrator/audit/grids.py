"""The intensities on record, as they were known at any moment: by time, and by the place in the
stream up to which it had been read.

Memory grows with the intensities on record (some 200 bytes each, without their forecasts), not
with jobs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands, Outlook, outlook
from carbon_orchestrator.signal.series import Series
from streams.event import Message, entry_order

#: A kind of intensities, and whether they are simulated.
Sort = tuple[str, bool]
_LAST = 1 << 200


def place_order(entry_id: str, index: int = 0) -> int:
    """A number that sorts as events do in a stream."""
    ms, sequence = entry_order(entry_id)
    return (ms << 84) + (sequence << 20) + index


def order_of(place: str) -> int:
    """The same of a place as events name it, "entry/index"."""
    entry, _, index = place.partition("/")
    return place_order(entry, int(index or 0))


class Grids:
    """Intensities of all zones; times are grid ms."""

    def __init__(self) -> None:
        self._points: dict[tuple[str, Sort], list[tuple[int, int, float]]] = {}
        self._first: dict[str, tuple[int, Sort]] = {}
        self.known: set[str] = set()  # places of the events

    def add(self, message: Message) -> None:
        """Take in an event of the intensity stream, in its order."""
        event: IntensityObserved = message.event
        order = place_order(message.entry_id, message.index)
        sort = (event.kind, event.simulated)
        point = (event.time, order, event.intensity)
        points = self._points.setdefault((event.zone, sort), [])
        if not points or points[-1] < point:
            points.append(point)
        else:
            insort(points, point)
        self._first.setdefault(event.zone, (order, sort))
        self.known.add(f"{message.entry_id}/{message.index}")

    def series(
        self, zone: str, sort: tuple[str | None, bool], upto: int, start: int, end: int, hold: int
    ) -> Series:
        """What was known of [start, end] by the events up to `upto` (an order): as `Intensities.of`
        has it, but for what that has forgotten. `hold`: as of Series, ms."""
        series = Series(hold)
        kind, simulated = sort
        if kind is None:
            order, first = self._first.get(zone, (_LAST, ("", False)))
            if order > upto:
                return series
            kind, simulated = first
        points = self._points.get((zone, (kind, simulated)), [])
        begin = bisect_left(points, (start - hold,))
        for time, order, value in points[begin : bisect_right(points, (end, _LAST))]:
            if order <= upto:
                series.add(time, value)
        return series

    def outlook(self, event: IntensityObserved, place: str, bands: Bands) -> Outlook:
        """What the router knew of the zone from this event on, until the next one."""
        start = event.time - bands.window_ms
        sort = (event.kind, event.simulated)
        series = self.series(event.zone, sort, order_of(place), start, event.time, 0)
        return outlook(event, place, series, bands, event.time)
