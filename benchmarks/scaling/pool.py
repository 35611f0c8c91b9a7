"""One pool in virtual time: workers, the lanes that they read in order, and what is counted.

A worker is there some time after it is wanted. Whichever has a free slot takes the next job. Those
that go are idle ones first; one that has jobs and must go interrupts them, and they go on later
from where they were.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from heapq import heappop, heappush
from math import inf
from typing import Literal, NamedTuple

import msgspec

from benchmarks.scaling.jobs import Coming, Handed
from benchmarks.scaling.ways import Demand, Way
from carbon_orchestrator.events import Backlog, GridState, InFlight, ScalingMemory
from carbon_orchestrator.router.outlook import band_of
from carbon_orchestrator.scaler.deciding import Params, need
from carbon_orchestrator.scaler.pressure import pressure
from carbon_orchestrator.signal.series import Series, emissions_ug
from carbon_orchestrator.topology import LANES, Lane

HOUR = 3_600_000
Why = Literal["deadlines", "finishing", "idle"]


class Rules(NamedTuple):
    """`step`: between two looks; `start_up`: until a worker is there; `ahead`: how far a look goes;
    `flap`: within which a change back is one. All grid ms. `watts`: of a worker, jobs besides."""

    params: Params
    step: int
    start_up: int
    ahead: int
    flap: int = HOUR
    watts: float = 100.0


class Sums(msgspec.Struct):
    """Lengths of time in ms, emissions in µg CO2e. `above`: with more workers than the band allows:
    for deadlines, to finish what they have, or idle. `waits`: from hand-over to start, by lane."""

    changes: int = 0
    flaps: int = 0
    above: Counter[Why] = msgspec.field(default_factory=Counter)
    worker_ms: int = 0
    idle_ms: int = 0
    emissions_ug: float = 0.0
    late: int = 0
    interrupted: int = 0
    waits: dict[Lane, list[int]] = msgspec.field(default_factory=lambda: {x: [] for x in LANES})


class _Worker:
    __slots__ = ("ready_at", "running")

    def __init__(self, ready_at: int) -> None:
        self.ready_at = ready_at
        self.running: dict[int, _Run] = {}


class _Run(NamedTuple):
    handed: Handed
    since: int
    end: int


class _Waiting(NamedTuple):
    handed: Handed
    left_ms: int


class Pool:
    """`sums`: where it counts, which pools may share; `prices`: gCO2e/kWh."""

    def __init__(
        self, way: Way, coming: Coming, prices: Series, rules: Rules, sums: Sums, seed: int
    ) -> None:
        self.sums = sums
        self._way, self._prices, self._rules = way, prices, rules
        self._handed, self._soon = deque(coming.handed), deque(coming.soon)
        self._planned = self._pressing = 0
        self._workers: list[_Worker] = []
        self._lanes: dict[Lane, deque[_Waiting]] = {lane: deque() for lane in LANES}
        #: What happens next: (when, number, whose worker); a number that runs nowhere is readiness.
        self._ahead: list[tuple[int, int, _Worker]] = []
        self._number = 0
        self._changed: tuple[int, int] | None = None
        self._random = random.Random(seed)

    def look(self, grid: GridState, now: int) -> None:
        """All that happens until `now`; then the pool is sized, for the next step."""
        self._advance(now)
        before = len(self._workers)
        size = self._way.size(grid, Demand(self._jobs, before, lambda: self._demand(now)), now)
        if size != before:
            self._resize(size, now)
        self._count(grid, now)

    def finish(self, end: int) -> None:
        """The time is over: whoever should have ended by now, and has not, is late."""
        self._advance(end)
        left = [each.handed for lane in self._lanes.values() for each in lane]
        left += [run.handed for worker in self._workers for run in worker.running.values()]
        self.sums.late += sum(_late(each, end) for each in left)

    # -- time ------------------------------------------------------------------------------------

    def _advance(self, until: int) -> None:
        while True:
            next_one = self._ahead[0][0] if self._ahead else inf
            arrival = self._handed[0].at if self._handed else inf
            if min(next_one, arrival) > until:
                break
            if next_one <= arrival:
                now, number, worker = heappop(self._ahead)
                if run := worker.running.pop(number, None):
                    self._burn(run, now)
                    self.sums.late += _late(run.handed, now)
            else:
                handed = self._handed.popleft()
                now = handed.at
                self._lanes[handed.lane].append(_Waiting(handed, handed.work.length_ms))
            self._take(now)
        while self._soon and self._soon[0].at <= until:
            soon = self._soon.popleft()
            self._planned += soon.planned
            self._pressing += soon.pressing

    def _take(self, now: int) -> None:
        slots = self._rules.params.slots
        while lane := next(filter(None, self._lanes.values()), None):
            ready = [each for each in self._workers if each.ready_at <= now]
            free = [each for each in ready if len(each.running) < slots]
            if not free:
                return
            handed, left_ms = lane.popleft()
            if left_ms == handed.work.length_ms:
                self.sums.waits[handed.lane].append(now - handed.at)
            run = _Run(handed, now, now + left_ms)
            worker = self._random.choice(free)
            worker.running[self._expect(run.end, worker)] = run

    def _expect(self, at: int, worker: _Worker) -> int:
        self._number += 1
        heappush(self._ahead, (at, self._number, worker))
        return self._number

    def _burn(self, run: _Run, now: int) -> None:
        work = run.handed.work
        energy_mj = round(work.energy_mj * (now - run.since) / work.length_ms)
        self.sums.emissions_ug += emissions_ug(energy_mj, run.since, now, self._prices)[0]

    # -- size ------------------------------------------------------------------------------------

    @property
    def _busy(self) -> int:
        return sum(bool(worker.running) for worker in self._workers)

    @property
    def _jobs(self) -> int:
        running = sum(len(worker.running) for worker in self._workers)
        return running + sum(map(len, self._lanes.values()))

    def _demand(self, now: int) -> tuple[Backlog, InFlight]:
        """As scaler/demand.py reads it of the streams."""
        urgent, due, rest = (self._lanes[lane] for lane in LANES)
        asked = pressure((each.handed.wait for each in rest), now, self._rules.ahead)
        backlog = Backlog(
            waiting=len(urgent) + len(due) + len(rest),
            soon=self._planned,
            pressing=len(urgent) + len(due) + asked.pressing,
            pressing_soon=self._pressing,
            pace=asked.pace,
        )
        return backlog, InFlight(jobs=self._jobs - backlog.waiting, workers=self._busy)

    def _resize(self, size: int, now: int) -> None:
        before = len(self._workers)
        direction = 1 if size > before else -1
        if self._changed is not None:
            self.sums.changes += 1
            at, last = self._changed
            self.sums.flaps += last != direction and now - at < self._rules.flap
        self._changed = now, direction
        for _ in range(size - before):
            worker = _Worker(now + self._rules.start_up)
            self._workers.append(worker)
            self._expect(worker.ready_at, worker)
        idle_first = sorted(self._workers, key=lambda each: bool(each.running))
        for worker in idle_first[: max(before - size, 0)]:
            self._workers.remove(worker)
            self.sums.interrupted += len(worker.running)
            for run in worker.running.values():
                self._burn(run, now)
                self._lanes[run.handed.lane].appendleft(_Waiting(run.handed, run.end - now))
            worker.running.clear()
        self._take(now)  # what was interrupted, where others have room

    # -- what is counted -------------------------------------------------------------------------

    def _count(self, grid: GridState, now: int) -> None:
        """The step from `now` on."""
        rules, sums = self._rules, self.sums
        size, busy = len(self._workers), self._busy
        sums.worker_ms += size * rules.step
        sums.idle_ms += (size - busy) * rules.step
        assert grid.intensity is not None
        # mJ times g/kWh over 3600 are µg.
        sums.emissions_ug += size * rules.watts * rules.step * grid.intensity / 3600
        allowed = rules.params.limit(band_of(grid.intensity, grid.low, grid.high))
        if size > allowed:
            sums.above[self._why_above(grid, now, allowed, busy)] += rules.step

    def _why_above(self, grid: GridState, now: int, allowed: int, busy: int) -> Why:
        hasty = sum(
            any(run.handed.lane for run in worker.running.values()) for worker in self._workers
        )
        asked = need(self._rules.params, grid, *self._demand(now), now, ScalingMemory())
        if max(hasty, asked.pressed) > allowed:
            return "deadlines"
        return "finishing" if busy > allowed else "idle"


def _late(handed: Handed, now: int) -> bool:
    deadline = handed.job.spec.deadline
    return deadline is not None and now > deadline
