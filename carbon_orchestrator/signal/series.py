"""Carbon intensity over time as a step function, and the emissions of energy spent under it.

Times are milliseconds on the grid clock, intensities gCO2e/kWh, energies millijoules (mJ),
emissions micrograms of CO2e (µg).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Series:
    """Intensities of one zone: each holds until the next one, but no longer than `hold_ms`.

    Before the first point, and where none holds, intensity is unknown.
    """

    __slots__ = ("_times", "_values", "hold_ms")

    def __init__(self, hold_ms: int) -> None:
        if hold_ms < 0:
            raise ValueError(f"hold_ms must be 0 or more, not {hold_ms}")
        self.hold_ms = hold_ms
        self._times: list[int] = []
        self._values: list[float] = []

    def __len__(self) -> int:
        return len(self._times)

    @property
    def last(self) -> tuple[int, float] | None:
        """The newest point, (time, gCO2e/kWh)."""
        return (self._times[-1], self._values[-1]) if self._times else None

    def add(self, time: int, value: float) -> None:
        """Record that intensity is `value` from `time` on; a point of the same time is revised."""
        if not self._times or time > self._times[-1]:
            self._times.append(time)
            self._values.append(value)
            return
        index = bisect_left(self._times, time)
        if self._times[index] == time:
            self._values[index] = value
        else:
            self._times.insert(index, time)
            self._values.insert(index, value)

    def forget_before(self, time: int) -> None:
        """Drop points older than `time`, save the one that still holds then."""
        holding = bisect_right(self._times, time) - 1
        if holding > 0:
            del self._times[:holding]
            del self._values[:holding]

    def at(self, time: int) -> float | None:
        """Intensity at `time`, None where unknown."""
        point = self.holding(time)
        return None if point is None else point[1]

    def holding(self, time: int) -> tuple[int, float] | None:
        """The point, (its time, gCO2e/kWh), that holds at `time`, None where unknown."""
        index = bisect_right(self._times, time) - 1
        known = index >= 0 and time < self._until(index)
        return (self._times[index], self._values[index]) if known else None

    def values_between(self, start: int, end: int) -> list[float]:
        """Values of the points with start <= time <= end, oldest first."""
        return self._values[bisect_left(self._times, start) : bisect_right(self._times, end)]

    def points_between(self, start: int, end: int) -> list[tuple[int, float]]:
        """(time, gCO2e/kWh) of the points with start <= time <= end, oldest first."""
        first, last = bisect_left(self._times, start), bisect_right(self._times, end)
        return list(zip(self._times[first:last], self._values[first:last], strict=True))

    def pieces(self, start: int, end: int) -> Iterator[tuple[float, int]]:
        """(intensity, milliseconds) of each known stretch of [start, end)."""
        index = max(bisect_right(self._times, start) - 1, 0)
        while index < len(self._times) and self._times[index] < end:
            length = min(self._until(index), end) - max(self._times[index], start)
            if length > 0:
                yield self._values[index], length
            index += 1

    def mean(self, start: int, end: int) -> tuple[float | None, float]:
        """Time-weighted mean over the known part of [start, end], and the known fraction (0-1).

        At an instant (start == end): the value there. (None, 0.0) where nothing is known.
        """
        if end < start:
            raise ValueError(f"end {end} lies before start {start}")
        if end == start:
            value = self.at(start)
            return value, 0.0 if value is None else 1.0
        weighted, known = 0.0, 0
        for value, length in self.pieces(start, end):
            weighted += value * length
            known += length
        return (weighted / known if known else None), known / (end - start)

    def _until(self, index: int) -> int:
        # Held no longer inside a gap either: what was unknown stays unknown when points follow.
        end = self._times[index] + self.hold_ms
        return min(end, self._times[index + 1]) if index + 1 < len(self._times) else end


def emissions_ug(energy_mj: int, start: int, end: int, series: Series) -> tuple[int, int]:
    """(µg CO2e, mJ without a known intensity) of energy spent evenly over [start, end].

    µg = mJ * (g/kWh) / 3600, as 1 kWh = 3.6e9 mJ and 1 g = 1e6 µg. Where start == end, all of
    it is spent at that instant. Integer arithmetic throughout, each result rounded once (half
    up), so the same inputs give the same bits everywhere. Raises ValueError if end < start.
    """
    if end < start:
        raise ValueError(f"end {end} lies before start {start}")
    if end == start:
        value = series.at(start)
        pieces, span = ([] if value is None else [(value, 1)]), 1
    else:
        pieces, span = list(series.pieces(start, end)), end - start
    # A float is n / d with d a power of two, so the largest d divides evenly by the others.
    ratios = [(*value.as_integer_ratio(), length) for value, length in pieces]
    scale = max((d for _, d, _ in ratios), default=1)
    weighted = sum(n * (scale // d) * length for n, d, length in ratios)
    unknown = span - sum(length for _, length in pieces)
    return (
        _rounded(energy_mj * weighted, 3600 * scale * span),
        _rounded(energy_mj * unknown, span),
    )


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
