"""Ways to size a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil
from typing import NamedTuple, Protocol

import numpy as np

from carbon_orchestrator.events import Backlog, GridState, InFlight, ScalingMemory
from carbon_orchestrator.router.outlook import band_of
from carbon_orchestrator.scaler.deciding import Params, decide
from carbon_orchestrator.simulation.traces import Trace

MINUTE = 60_000
#: Of that operator's example: workers in the three bands, and with its carbon awareness off.
LOW, MEDIUM, HIGH, OFF = 110 / 110, 60 / 110, 10 / 110, 100 / 110


class Demand(NamedTuple):
    """What wants a pool that has `current` workers; `ahead` as the scaler's own look has it."""

    jobs: int  # that wait or run
    current: int
    ahead: Callable[[], tuple[Backlog, InFlight]]


class Way(Protocol):
    def size(self, grid: GridState, demand: Demand, now: int) -> int:
        """How many workers there should be `now`, grid ms."""
        ...


class Fixed:
    def __init__(self, size: int) -> None:
        self._size = size

    def size(self, grid: GridState, demand: Demand, now: int) -> int:
        return self._size


class Ours:
    def __init__(self, params: Params) -> None:
        self._params = params
        self._memory = ScalingMemory()

    def size(self, grid: GridState, demand: Demand, now: int) -> int:
        backlog, in_flight = demand.ahead()
        scale = decide(self._params, grid, backlog, in_flight, demand.current, now, self._memory)
        self._memory = scale.memory
        return scale.replicas


class Keda:
    """KEDA with the number of jobs as its metric, `slots` of them a worker, all else by default:
    the autoscaler of Kubernetes ignores a tenth more or less, goes up at once (four workers or as
    many as there are each 15 s), and down to the most that was wanted in five minutes; a limit
    below what is there counts at once."""

    def __init__(self, slots: int, limit: Callable[[GridState, int], int]) -> None:
        self._slots, self._limit = slots, limit
        self._lately: deque[tuple[int, int]] = deque()

    def size(self, grid: GridState, demand: Demand, now: int) -> int:
        current, limit = demand.current, self._limit(grid, now)
        wanted = ceil(demand.jobs / self._slots)
        if current and abs(demand.jobs / (self._slots * current) - 1) <= 0.1:
            wanted = current
        self._lately.append((now, min(wanted, limit)))
        while self._lately[0][0] <= now - 5 * MINUTE:
            self._lately.popleft()
        return min(max(size for _, size in self._lately), limit)


def by_bands(params: Params) -> Callable[[GridState, int], int]:
    """What the plain band of the moment allows."""

    def limit(grid: GridState, now: int) -> int:
        assert grid.intensity is not None
        return params.limit(band_of(grid.intensity, grid.low, grid.high))

    return limit


class ByIntensity:
    """maxReplicaCount as the carbon-aware KEDA operator sets it, with the settings of its README
    (github.com/Azure/carbon-aware-keda-operator): thirds between the least and the greatest
    intensity, here of the whole trace, as it advises; carbon does not count (ecoModeOff) where
    intensity was at 92 % of that range (555 in 370 to 571) or above for 45 minutes."""

    def __init__(self, trace: Trace, largest: int) -> None:
        least, most = float(np.min(trace.values)), float(np.max(trace.values))
        self._low, self._medium = (least + (most - least) * part / 3 for part in (1, 2))
        self._off = least + (most - least) * (555 - 370) / (571 - 370)
        self._largest = largest
        self._since: int | None = None

    def __call__(self, grid: GridState, now: int) -> int:
        intensity = grid.intensity
        assert intensity is not None
        if intensity < self._off:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= 45 * MINUTE:
            return ceil(self._largest * OFF)
        share = LOW if intensity <= self._low else MEDIUM if intensity <= self._medium else HIGH
        return ceil(self._largest * share)
