"""What a simulated router learns of the grid, and when."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.curve import Curve
from carbon_orchestrator.router.outlook import Bands, Outlook, outlook
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.simulation.forecasts import Forecasts
from carbon_orchestrator.simulation.traces import Trace
from streams.event import Message

#: How far the points of a forecast reach that `threshold` reads.
_POINTS_MS = 48 * 3_600_000


class Grid(Protocol):
    """Intensity events of one zone. `times`: when each comes to be known, ascending, grid ms."""

    zone: str
    times: Sequence[int]

    def outlook(self, number: int) -> Outlook:
        """As known after event `number`."""
        ...


class TraceGrid:
    """A trace: at each of its steps its value, and a forecast of what follows."""

    def __init__(self, trace: Trace, forecasts: Forecasts, bands: Bands, *, points: bool) -> None:
        """`points`: for a policy that reads the forecast's points, not its curve."""
        self.zone = trace.zone
        self.times: Sequence[int] = range(trace.start, trace.end, trace.step_ms)
        self._trace, self._forecasts, self._bands, self._points = trace, forecasts, bands, points

    def outlook(self, number: int) -> Outlook:
        trace = self._trace
        time, value = self.times[number], float(trace.values[number])
        ahead = self._forecasts.after(number)
        points: list[tuple[int, float]] = []
        if self._points:
            ahead = ahead[: _POINTS_MS // trace.step_ms]
            first = time + trace.step_ms
            times = range(first, first + len(ahead) * trace.step_ms, trace.step_ms)
            points = list(zip(times, ahead.tolist(), strict=True))
        observed = IntensityObserved(
            zone=self.zone,
            time=time,
            intensity=value,
            source="trace",
            resolution_ms=trace.step_ms,
            forecast=points,
        )
        known = outlook(observed, str(number), trace.series, self._bands, time)
        if self._points:
            return known
        edges = time + trace.step_ms * np.arange(len(ahead) + 2, dtype=np.int64)
        curve = Curve(edges, np.concatenate(([value], ahead)))
        return msgspec.structs.replace(known, curve=curve)


class RecordedGrid:
    """Intensity events as a running system received them, to decide as it did."""

    def __init__(
        self, zone: str, events: Sequence[tuple[int, IntensityObserved]], bands: Bands
    ) -> None:
        """`events`: (when the router saw it, event), grid ms; those of other zones are left out."""
        self.zone = zone
        received = sorted((each for each in events if each[1].zone == zone), key=lambda e: e[0])
        self.times: Sequence[int] = [time for time, _ in received]
        known = Intensities(zone, bands)
        self._outlooks = []
        for number, (time, event) in enumerate(received):
            known.apply(Message(f"{time}-{number}", 0, event))
            self._outlooks.append(known.outlook())

    def outlook(self, number: int) -> Outlook:
        return self._outlooks[number]


def latest(grid: Grid, time: int) -> Outlook:
    """The outlook at `time`: "no signal" before the first event."""
    number = bisect_right(grid.times, time) - 1
    return Outlook(zone=grid.zone) if number < 0 else grid.outlook(number)
