"""Which jobs need not be asked about at an intensity event, because the answer can wait.

Every waiting job is decided about anew at every event. Most answers are "wait" again; what they
say of later events is overtaken by those. So it is enough to ask about jobs that could start
before the next event, or that run and could be paused. This finds them for all jobs at once, and
rather too many than too few: who is left out would have had no other fate (the tests compare).

Times are in steps of the forecast from the event on, prices g/kWh.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from carbon_orchestrator.router.curve import Curve, Values

Flags = NDArray[np.bool_]
_HOUR_MS = 3_600_000
#: What counts as a tie, as a share of the highest intensity, and of a length of time, ms.
_TIE = 1e-7
_TIE_MS = 2


class Ahead:
    """A forecast as the screen needs it: even steps from the event on, long enough for `reach`."""

    def __init__(self, curve: Curve, step_ms: int, reach: float, min_saving: float) -> None:
        """`reach`: in steps."""
        count = int(reach) + 3
        values = curve.values[:count]
        if len(values) < count:
            values = np.concatenate((values, np.full(count - len(values), curve.tail)))
        self.values: Values = values
        self.area: Values = np.concatenate(([0.0], np.cumsum(values)))
        self.tie = _TIE * float(np.abs(values).max())
        self.slack = _TIE_MS / step_ms
        self.waiting = min_saving * step_ms / _HOUR_MS

    def until(self, times: Values) -> Values:
        """The area up to each time."""
        whole = times.astype(np.int64)
        return np.asarray(self.area[whole] + (times - whole) * self.values[whole])


class Wanted(NamedTuple):
    """Jobs: how long each runs and when it must start at the latest (0: now)."""

    length: Values
    latest: Values


def even(curve: Curve, now: int, step_ms: int) -> bool:
    """Whether the curve has even steps from `now` on."""
    edges = curve.edges
    return int(edges[0]) == now and bool((np.diff(edges) == step_ms).all())


def may_start_unbroken(jobs: Wanted, ahead: Ahead, soon: float) -> Flags:
    """Whether the cheapest unbroken run of each may begin before `soon`."""
    length, last = jobs
    whole = length.astype(np.int64)
    rest = length - whole
    at_once = ahead.until(length) / length
    slope = ahead.waiting * at_once
    # Starts at an edge.
    edges = np.arange(int(last.max()) + 1)
    ends = edges + whole[:, None]
    cost = (ahead.area[ends] + rest[:, None] * ahead.values[ends] - ahead.area[edges]) / length[
        :, None
    ] + slope[:, None] * edges
    cost[edges > last[:, None]] = np.inf
    soonest = cost[:, edges < soon].min(axis=1)
    best = cost.min(axis=1)
    # Runs that end at an edge.
    if rest.any():
        edges = np.arange(1, int(last.max()) + 2)
        starts = edges - rest[:, None]
        begins = ahead.area[edges] - rest[:, None] * ahead.values[edges - 1]
        cost = (ahead.area[edges + whole[:, None]] - begins) / length[:, None]
        cost += slope[:, None] * starts
        cost[starts > last[:, None]] = np.inf
        best = np.minimum(best, cost.min(axis=1))
        soonest = np.minimum(soonest, np.where(starts < soon, cost, np.inf).min(axis=1))
    final = (ahead.until(last + length) - ahead.until(last)) / length + slope * last
    best = np.minimum(best, final)
    soonest = np.where(last < soon, np.minimum(soonest, final), soonest)
    return np.asarray(soonest <= best + ahead.tie)


def may_start_in_parts(jobs: Wanted, ahead: Ahead, soon: float) -> Flags:
    """Whether the first step may be among the cheapest pieces of each."""
    cheaper = _cheaper_than_now(jobs, ahead, -ahead.tie)
    return np.asarray((cheaper < jobs.length + ahead.slack) | (jobs.latest < soon))


def may_pause(jobs: Wanted, ahead: Ahead) -> Flags:
    """Whether the first step may be too dear for each, which runs, or not needed in full."""
    cheaper = _cheaper_than_now(jobs, ahead, ahead.tie)
    return np.asarray(cheaper > jobs.length - 1 - ahead.slack)


def _cheaper_than_now(jobs: Wanted, ahead: Ahead, tie: float) -> Values:
    """How many steps before the end of each job's time are cheaper than the first one."""
    length, latest = jobs
    end = latest + length
    edges = np.arange(int(end.max()) + 1)
    pieces = np.clip(end[:, None] - edges, 0.0, 1.0)
    prices: Any = ahead.values[edges]
    if ahead.waiting:
        slope = ahead.waiting * ahead.until(length) / length
        prices = prices + slope[:, None] * edges
        cheaper = prices < prices[:, :1] + tie
    else:
        cheaper = (prices < prices[0] + tie)[None, :]
    if tie > 0:
        pieces[:, 0] = 0.0
    return np.asarray((pieces * cheaper).sum(axis=1))
