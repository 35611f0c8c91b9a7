"""Expected intensity as a step function of time, and the cheapest ways to run under it.

Times are ms on the grid clock, intensities gCO2e/kWh. A cost is a mean intensity over the time
run: emissions are that times the energy spent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Values = NDArray[np.float64]

_DAY_MS = 86_400_000


class Curve:
    """`values[i]` holds from `edges[i]` to `edges[i + 1]`; edges ascend strictly, one more than
    values. After the last edge the mean of the last day before it holds, so that no time of
    which nothing is known looks better or worse than another.
    """

    __slots__ = ("_area", "_edges", "_flow", "_steps", "edges", "tail", "values")

    def __init__(self, edges: Times, values: Values) -> None:
        if len(edges) != len(values) + 1 or not len(values):
            raise ValueError("a curve needs at least one value, and one edge more than values")
        self.edges, self.values = edges, values
        self._edges: list[int] | None = None
        self._flow = (edges - edges[0]).astype(np.float64)
        widths = np.diff(self._flow)
        self._area = np.concatenate(([0.0], np.cumsum(values * widths)))
        since = int(np.searchsorted(edges, edges[-1] - _DAY_MS, "right")) - 1
        since = max(since, 0)
        self.tail = float(
            (self._area[-1] - self._area[since]) / (self._flow[-1] - self._flow[since])
        )
        #: By the number of edges at or before a time.
        self._steps = np.concatenate((values[:1], values, [self.tail]))

    @classmethod
    def of(
        cls, time: int, value: float, forecast: Sequence[tuple[int, float]], step_ms: int
    ) -> Curve:
        """From what holds at `time` and (time, value) pairs of what is expected after it.

        Each value holds until the next, the last for `step_ms`; pairs at or before `time`, and
        all but the last of one time, are left out.
        """
        points = {at: expected for at, expected in forecast if at > time}
        times = sorted(points)
        last = times[-1] if times else time
        edges = np.array([time, *times, last + max(step_ms, 1)], dtype=np.int64)
        return cls(edges, np.array([value, *(points[at] for at in times)], dtype=np.float64))

    def breaks(self, start: int, end: int) -> Times:
        """The edges after `start` and before `end`."""
        if self._edges is None:
            self._edges = self.edges.tolist()
        first, last = bisect_right(self._edges, start), bisect_left(self._edges, end)
        return self.edges[first:last]

    def means(self, starts: Times, length: int) -> Values:
        """Mean intensity over [s, s + length) for each start; at an instant where length is 0."""
        if length <= 0:
            return self.at(starts)
        return (self._integral(starts + length) - self._integral(starts)) / length

    def mean(self, start: int, end: int) -> float:
        """Mean intensity over [start, end)."""
        return float(self.means(np.array([start], dtype=np.int64), end - start)[0])

    def at(self, times: Times) -> Values:
        """Intensity at each time; before the first edge the first value."""
        index = self.edges.searchsorted(times, "right")
        return self._steps[index]

    def _integral(self, times: Times) -> Values:
        offsets = (times - self.edges[0]).astype(np.float64)
        area: Any = np.interp(offsets, self._flow, self._area)
        # Before the first edge and after the last one, interp holds the end values.
        area += np.maximum(offsets - self._flow[-1], 0.0) * self.tail
        area += np.minimum(offsets, 0.0) * self.values[0]
        return np.asarray(area, dtype=np.float64)

    # -- one run without a break ------------------------------------------------------------------

    def starts(self, now: int, latest: int, length: int, more: Sequence[int] = ()) -> Times:
        """Where the mean over a window of `length` can be least, ascending: now, the latest
        start, and where the window begins or ends at an edge; and `more`, if in between.

        Between these the mean is linear in the start, so its minimum lies at one of them.
        """
        if latest <= now:
            return np.array([now], dtype=np.int64)
        begin = self.breaks(now, latest)
        end = self.breaks(now + length, latest + length) - length
        parts: list[Any] = [begin, end, (now, latest)]
        if more:
            parts.append([each for each in more if now < each < latest])
        return np.unique(np.concatenate(parts).astype(np.int64))

    # -- a run that may be broken -----------------------------------------------------------------

    def slots(
        self, now: int, end: int, full: Sequence[tuple[int, int]] = ()
    ) -> tuple[Times, Times, Values]:
        """(starts, lengths, values) of the pieces of [now, end) outside `full`, ascending."""
        breaks = self.breaks(now, end)
        edges = np.empty(len(breaks) + 2, dtype=np.int64)
        edges[0], edges[1:-1], edges[-1] = now, breaks, end
        if full:
            cuts = [edge for stretch in full for edge in stretch if now < edge < end]
            edges = np.union1d(edges, np.array(cuts, dtype=np.int64))
        starts, lengths = edges[:-1], edges[1:] - edges[:-1]
        values = self.at(starts)
        if full:
            free = outside(starts, lengths, full)
            starts, lengths, values = starts[free], lengths[free], values[free]
        return starts, lengths, values


def outside(starts: Times, lengths: Times | int, full: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Whether [start, start + length) meets none of the stretches (ascending, disjoint)."""
    begins = np.array([begin for begin, _ in full], dtype=np.int64)
    ends = np.array([end for _, end in full], dtype=np.int64)
    before = np.searchsorted(ends, starts, "right")
    within = np.searchsorted(begins, starts + lengths, "left")
    return np.asarray(before == within)
