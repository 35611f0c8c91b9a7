"""The pools of a simulation: who runs, and who stands in line for room."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import NamedTuple

from carbon_orchestrator.config import Config
from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.deciding import lane
from carbon_orchestrator.router.policy import Dispatch
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.workload import Job
from carbon_orchestrator.topology import LANES

Place = tuple[Pool, str]


class Work(NamedTuple):
    """What a whole job takes on a pool: wall ms, mJ."""

    length_ms: int
    energy_mj: int


def work(job: Job, pool: Pool, config: Config) -> Work:
    """By the pool's slowdown and energy against FAST, as configured."""
    settings = config.pools[pool]
    return Work(
        max(round(job.length_ms * settings.slowdown), 1), round(job.energy_mj * settings.energy)
    )


class Pools:
    """`slots`: jobs that each pool runs at once; a pool that is not named has room for all. Jobs
    without room wait in the order of their lanes, as in the dispatch streams."""

    def __init__(self, slots: Mapping[Place, int]) -> None:
        self._free = dict(slots)
        self._lines: dict[Place, list[tuple[int, int, Fate]]] = {place: [] for place in slots}
        self._arrivals = 0

    def enter(self, place: Place, fate: Fate, answer: Dispatch) -> bool:
        """Whether the job may start at once; else it stands in line."""
        if place not in self._free:
            return True
        if self._free[place]:
            self._free[place] -= 1
            return True
        self._arrivals += 1
        rank = LANES.index(lane(fate.job.spec.urgency, answer))
        heappush(self._lines[place], (rank, self._arrivals, fate))
        return False

    def leave(self, place: Place) -> Fate | None:
        """A job ended; returns who starts in its place."""
        if place not in self._free:
            return None
        if self._lines[place]:
            return heappop(self._lines[place])[2]
        self._free[place] += 1
        return None
