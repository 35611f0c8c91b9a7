"""What is expected next, as an event says it: learned from the past, a week in 8 KB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from carbon_orchestrator.signal.correction import Correction
from carbon_orchestrator.signal.forecaster import Floats, Forecast, Forecaster
from carbon_orchestrator.signal.provider import Expected, Point
from carbon_orchestrator.signal.published import OWN

HOUR_MS = 3_600_000
STEPS_MS = (HOUR_MS, HOUR_MS // 2, HOUR_MS // 4)
REACH_MS = 7 * 24 * HOUR_MS
LARGEST = 7_000  # bytes of the three lists as JSON: an event stays below 8 KB
#: Hours that are told by the step, and in how many hours together those that follow.
_SHAPES = ((48, 1), (48, 2), (48, 3), (48, 4), (48, 6), (48, 12), (36, 12), (24, 24))


class Expectation(NamedTuple):
    """gCO2e/kWh expected from each time on, with 10 % and 90 % quantiles, as events have it."""

    forecast: list[tuple[int, float]]
    low: list[float]
    high: list[float]
    source: str | None


NOTHING = Expectation([], [], [], None)


def step_for(resolution_ms: int) -> int:
    """The step by which to learn a signal of that resolution: 15, 30 or 60 minutes."""
    return next((step for step in STEPS_MS if step <= resolution_ms), STEPS_MS[-1])


class Ahead:
    """Learns one zone's intensities of one kind, in order of time, and says what follows.

    Finer points than `step_ms` are averaged; coarser ones hold for their resolution.
    """

    def __init__(self, step_ms: int) -> None:
        self.step_ms = step_ms
        self._own = Forecaster(step_ms)
        self._corrections: dict[str, Correction] = {}
        self._time: int | None = None
        self._sum, self._count = 0.0, 0
        self._level = 0.0  # of the last step learned

    @property
    def last(self) -> int | None:
        """The last step learned, ms."""
        return self._own.last

    def feed(self, points: Iterable[tuple[Point, int]]) -> None:
        """Observe points with their resolutions (ms)."""
        for point, resolution_ms in points:
            self.observe(point.time, point.value, resolution_ms)

    def observe(self, time: int, value: float, resolution_ms: int) -> None:
        """A point that is not after the last one is not looked at."""
        if self._time is not None:
            if time <= self._time:
                return
            if time // self.step_ms != self._time // self.step_ms:
                self._close(self._time // self.step_ms)
        self._time = time
        step = time // self.step_ms
        self._sum, self._count = self._sum + value, self._count + 1
        until = (time + resolution_ms) // self.step_ms
        if until > step:
            self._close(step)
        for later in range(step + 1, until):
            self._learn(later, value)

    def expect(
        self, after: int, resolution_ms: int, expected: Sequence[Expected] = (), source: str = ""
    ) -> Expectation:
        """What follows `after` (grid ms): as `source` expects it, corrected, else our own."""
        if self.last is None:
            return NOTHING
        steps = REACH_MS // self.step_ms
        said = _on_steps(expected, self.last, self.step_ms, self._level, steps)
        if said.size:
            correction = self._corrections.setdefault(source, Correction(self._own))
            forecast, name = correction.correct(self._level, said, steps), f"{source}, corrected"
        else:
            forecast, name = self._own.forecast(steps), OWN
        return self._told(forecast, after, resolution_ms, name)

    def own(self, after: int, until: int) -> list[Point]:
        """Our own forecast of the steps after `after`, up to `until`, as estimates."""
        if self.last is None or until <= self.last:
            return []
        steps = (until - self.last) // self.step_ms
        values = self._own.forecast(steps).expected.round(1).tolist() if steps else []
        times = range(self.last + self.step_ms, until + 1, self.step_ms)
        points = zip(times, values, strict=True)
        return [Point(time, value, estimated=True) for time, value in points if time > after]

    def _close(self, step: int) -> None:
        if self._count:
            self._learn(step, self._sum / self._count)
        self._sum, self._count = 0.0, 0

    def _learn(self, step: int, value: float) -> None:
        time = step * self.step_ms
        if self._own.last is not None and time <= self._own.last:
            return
        self._own.observe(time, value)
        for correction in self._corrections.values():
            correction.observe(time, value)
        self._level = value

    def _told(self, forecast: Forecast, after: int, resolution_ms: int, source: str) -> Expectation:
        """By steps for two days, then by the hour, or as coarsely as it takes to fit an event."""
        assert self.last is not None
        fine = max(resolution_ms // self.step_ms, 1)
        hour = HOUR_MS // self.step_ms
        told = NOTHING
        for near_hours, hours in _SHAPES:
            near = near_hours * hour // fine * fine
            widths = (fine, max(hours * hour // fine, 1) * fine)
            starts = np.concatenate(
                [
                    np.arange(0, near, widths[0]),
                    np.arange(near, len(forecast.expected), widths[1]),
                ]
            )
            times = (self.last + self.step_ms * (starts + 1)).tolist()
            columns = [
                _means(values, starts)
                for values in (forecast.expected, forecast.low, forecast.high)
            ]
            first = sum(time <= after for time in times)
            value, low, high = (column[first:] for column in columns)
            told = Expectation(list(zip(times[first:], value, strict=True)), low, high, source)
            if _size(told) <= LARGEST:
                break
        return told


def _means(values: Floats, starts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[float]:
    """Of the stretches that begin at `starts`, to one decimal."""
    widths = np.diff(np.append(starts, len(values)))
    means: list[float] = (np.add.reduceat(values, starts) / widths).round(1).tolist()
    return means


def _size(told: Expectation) -> int:
    """Bytes as JSON: [1700000000000,123.4], for a point, 123.4, for a quantile."""
    digits = sum(len(repr(value)) for _, value in told.forecast)
    digits += sum(len(repr(value)) for value in (*told.low, *told.high))
    return digits + len(told.forecast) * (17 + 2)


def _on_steps(
    expected: Sequence[Expected], last: int, step_ms: int, level: float, most: int
) -> Floats:
    """A source's points as means of the steps after `last`, of which the intensity was `level`;
    gaps are bridged by straight lines. Empty where nothing is expected."""
    sums = np.zeros(most)
    counts = np.zeros(most)
    for time, value in expected:
        index = (time - last) // step_ms - 1
        if 0 <= index < most:
            sums[index] += value
            counts[index] += 1
    known = np.flatnonzero(counts)
    if not known.size:
        return np.empty(0)
    xs = np.concatenate(([-1], known))
    ys = np.concatenate(([level], sums[known] / counts[known]))
    return np.asarray(np.interp(np.arange(known[-1] + 1), xs, ys), dtype=np.float64)
