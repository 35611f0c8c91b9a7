"""A pool over a year of a recorded grid, sized in different ways, in virtual time.

    python -m benchmarks.scaling --data ../shared/data [--carbon FILE[:COLUMN]] [--seed 0]
        [--days 365] [--at-once] [--json FILE]

The jobs are those that simulation/workload.py makes, about a third of what the largest pool can
run. One that is not urgent is handed to the pool when carbon is not high, or at its latest start,
much as `threshold` does; with --at-once when it is submitted, so that scaling alone minds carbon.
Five ways:

- fixed, largest and fixed, half: no scaling.
- backlog: as Kubernetes' autoscaler does (KEDA's default): up at once, down to the most that was
  wanted in five minutes.
- carbon ceiling: the same under a ceiling that depends on intensity only, as Azure's
  carbon-aware-keda-operator sets maxReplicaCount; with the limits of our bands.
- ours: scaler/deciding.py, as configured by default.

The shares of the largest size in the three bands are those of that operator's example: 110, 60
and 10 of 110. A worker has two slots, is there two minutes after it is wanted, and goes idle ones
first. One that has jobs and must go interrupts them; they go on later from where they were. "above
cap" is the time with more workers than the plain band of the moment allows, and the hours that
such workers were idle (the others are for deadlines, or finish what they have); "flaps" are changes
against the direction of one less than half an hour before; CO2 counts 100 W for each worker and
100 W for each job, by the trace, and is relative to the first row.
Waits count from when a job was handed to the pool.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, Protocol

import msgspec

from carbon_orchestrator.config import Config, PoolConfig, ScaledPool, Scaler, complete
from carbon_orchestrator.events import Backlog, GridState, InFlight, ScalingMemory
from carbon_orchestrator.router.outlook import Bands, band_of
from carbon_orchestrator.scaler.deciding import Params, decide
from carbon_orchestrator.scaler.pressure import Wait, pressure
from carbon_orchestrator.signal.csv_trace import CsvTrace, path_and_column
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Job, Options, generated

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
STEP = START_UP = 2 * MINUTE
AHEAD = 3 * STEP
SLOTS, LARGEST = 2, 12
JOBS_A_DAY = 120
WATTS_WORKER, WATTS_JOB = 100.0, 100.0
FLAP = 30 * MINUTE
FOREVER_MS = 253_339_228_800_000
TRACES = {"DE 2020": "lwa_ger_ci.csv", "GB 2020": "lwa_gb_ci.csv", "ES 2022": "ES_2022_hourly.csv"}
CONFIG = complete(
    Config(
        pools={"eco": PoolConfig(slots=SLOTS)},
        scaler=Scaler(pools={"eco": ScaledPool(max=LARGEST, medium=60 / 110, high=10 / 110)}),
    )
)
PARAMS = Params.of(CONFIG, "eco", 1.0)


# -- ways to size a pool -------------------------------------------------------------------------


class Way(Protocol):
    def size(
        self, grid: GridState, backlog: Backlog, in_flight: InFlight, current: int, now: int
    ) -> int: ...


class Fixed:
    def __init__(self, size: int) -> None:
        self._size = size

    def size(
        self, grid: GridState, backlog: Backlog, in_flight: InFlight, current: int, now: int
    ) -> int:
        return self._size


class ByBacklog:
    """`ceiling`: whether intensity sets the most."""

    def __init__(self, *, ceiling: bool) -> None:
        self._ceiling = ceiling
        self._wanted: deque[tuple[int, int]] = deque()

    def size(
        self, grid: GridState, backlog: Backlog, in_flight: InFlight, current: int, now: int
    ) -> int:
        wanted = min(ceil((backlog.waiting + in_flight.jobs) / SLOTS), LARGEST)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] <= now - 5 * MINUTE:
            self._wanted.popleft()
        size = max(each for _, each in self._wanted)
        return min(size, cap(grid)) if self._ceiling else size


class Ours:
    def __init__(self) -> None:
        self._memory = ScalingMemory()

    def size(
        self, grid: GridState, backlog: Backlog, in_flight: InFlight, current: int, now: int
    ) -> int:
        scale = decide(PARAMS, grid, backlog, in_flight, current, now, self._memory)
        self._memory = scale.memory
        return scale.replicas


def cap(grid: GridState) -> int:
    """What the plain band of the moment allows."""
    assert grid.intensity is not None
    return PARAMS.limit(band_of(grid.intensity, grid.low, grid.high))


WAYS: dict[str, Callable[[], Way]] = {
    "fixed, largest": lambda: Fixed(LARGEST),
    "fixed, half": lambda: Fixed(LARGEST // 2),
    "backlog": lambda: ByBacklog(ceiling=False),
    "carbon ceiling": lambda: ByBacklog(ceiling=True),
    "ours": Ours,
}


# -- the pool ------------------------------------------------------------------------------------


class Waiting(NamedTuple):
    """`latest`: by when it must start, grid ms; `left_ms`: how long it has still to run."""

    job: Job
    at: int  # when it was handed to the pool
    latest: int | None
    left_ms: int


class Worker:
    __slots__ = ("ready_at", "running")

    def __init__(self, ready_at: int) -> None:
        self.ready_at = ready_at
        self.running: dict[int, tuple[Waiting, int]] = {}  # and when it ends


class Sums(msgspec.Struct):
    changes: int = 0
    flaps: int = 0
    above: int = 0
    idle_above_ms: int = 0
    worker_ms: int = 0
    micrograms: float = 0.0
    late: int = 0
    interrupted: int = 0
    urgent_waits: list[int] = []
    waits: list[int] = []


class Pool:
    """Workers, the two lanes that they read in order, and what is counted."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.workers: list[Worker] = []
        self.urgent: deque[Waiting] = deque()
        self.rest: deque[Waiting] = deque()
        self.ends: list[tuple[int, int, Worker]] = []
        self.number = 0  # of the runs that were started
        self.sums = Sums()
        self._changed: tuple[int, int] | None = None

    def arrive(self, job: Job, at: int) -> None:
        latest = latest_start(job)
        due = latest is not None and latest <= at + AHEAD
        lane = self.urgent if job.spec.urgency == "urgent" or due else self.rest
        lane.append(Waiting(job, at, latest, job.length_ms))

    def step(self, grid: GridState, now: int) -> None:
        """One step from `now` on."""
        self._finish(now)
        self._resize(grid, now)
        self._take(now)
        busy = [len(worker.running) for worker in self.workers]
        running, idle = sum(busy), busy.count(0)
        over = max(len(busy) - cap(grid), 0)
        sums = self.sums
        sums.worker_ms += len(busy) * STEP
        sums.above += over > 0
        sums.idle_above_ms += min(over, idle) * STEP
        watts = len(busy) * WATTS_WORKER + running * WATTS_JOB
        # mJ times g/kWh over 3600 are µg.
        sums.micrograms += watts * STEP * (grid.intensity or 0.0) / 3600

    def _finish(self, now: int) -> None:
        while self.ends and self.ends[0][0] <= now:
            end, number, worker = heapq.heappop(self.ends)
            done = worker.running.pop(number, None)
            if done is not None and done[0].job.spec.deadline is not None:
                self.sums.late += end > done[0].job.spec.deadline

    def _resize(self, grid: GridState, now: int) -> None:
        due = pressure((Wait(each.latest, each.left_ms) for each in self.rest), now, AHEAD)
        backlog = Backlog(
            waiting=len(self.urgent) + len(self.rest),
            pressing=len(self.urgent) + due.pressing,
            pace=due.pace,
        )
        busy = [len(worker.running) for worker in self.workers]
        in_flight = InFlight(jobs=sum(busy), workers=len(busy) - busy.count(0))
        current = len(self.workers)
        size = self.way.size(grid, backlog, in_flight, current, now)
        if size == current:
            return
        direction = 1 if size > current else -1
        if current:  # or it is the beginning
            self.sums.changes += 1
            before = self._changed
            self.sums.flaps += bool(before and before[1] != direction and now - before[0] < FLAP)
        self._changed = now, direction
        self.workers += [Worker(now + START_UP) for _ in range(size - current)]
        idle_first = sorted(self.workers, key=lambda each: bool(each.running))
        for worker in idle_first[: max(current - size, 0)]:
            self.workers.remove(worker)
            self.sums.interrupted += len(worker.running)
            for each, end in worker.running.values():
                lane = self.urgent if each.job.spec.urgency == "urgent" else self.rest
                lane.appendleft(each._replace(left_ms=end - now))
            worker.running.clear()

    def _take(self, now: int) -> None:
        for worker in self.workers:
            if worker.ready_at > now:
                continue
            while len(worker.running) < SLOTS and (self.urgent or self.rest):
                lane = self.urgent or self.rest
                each = lane.popleft()
                waits = self.sums.urgent_waits if lane is self.urgent else self.sums.waits
                if each.left_ms == each.job.length_ms:
                    waits.append(now - each.at)
                self.number += 1
                end = now + each.left_ms
                worker.running[self.number] = each, end
                heapq.heappush(self.ends, (end, self.number, worker))


# -- a year --------------------------------------------------------------------------------------


class Task(NamedTuple):
    name: str
    path: str
    way: str
    seed: int
    days: int
    at_once: bool


class Row(NamedTuple):
    trace: str
    way: str
    days: float
    sums: Sums
    jobs: int


def half_hours(path: str) -> Trace:
    read = CsvTrace.read(*path_and_column(path))
    return Trace.of(asyncio.run(read.history(0, FOREVER_MS)), HOUR // 2)


def grids(trace: Trace) -> Iterator[GridState]:
    """What is known of the grid at each step of the trace."""
    bands = Bands.of(CONFIG.threshold)
    values = trace.values.tolist()
    before = bands.window_ms // trace.step_ms
    for number, value in enumerate(values):
        low, high = bands.limits(values[max(0, number - before) : number + 1])
        time = trace.time(number)
        yield GridState(intensity=value, low=low, high=high, valid_until=time + bands.max_age_ms)


def latest_start(job: Job) -> int | None:
    return None if job.spec.deadline is None else job.spec.deadline - job.length_ms


def handed_over(job: Job, trace: Trace, states: Sequence[GridState]) -> int:
    """When a router that waits out high carbon hands a job to the pool."""
    at, latest = job.spec.submitted_at, latest_start(job)
    if latest is None:
        return at
    number = trace.index(at)
    while number < len(states) and cap(states[number]) == PARAMS.limit("high"):
        number += 1
    return min(max(at, trace.time(number)), max(at, latest - AHEAD))


def run(task: Task) -> Row:
    whole = half_hours(task.path)
    count = min(len(whole.values), task.days * DAY // whole.step_ms)
    trace = msgspec.structs.replace(whole, values=whole.values[:count])
    days = count * trace.step_ms / DAY
    jobs = generated(round(JOBS_A_DAY * days), trace.start, trace.end, Options(), task.seed)
    states = list(grids(trace))
    coming = [
        (job.spec.submitted_at if task.at_once else handed_over(job, trace, states), job)
        for job in jobs
    ]
    arriving = deque(sorted(coming, key=lambda each: each[0]))
    pool = Pool(WAYS[task.way]())
    for number, grid in enumerate(states):
        start = trace.time(number)
        for now in range(start, start + trace.step_ms, STEP):
            while arriving and arriving[0][0] <= now:
                at, job = arriving.popleft()
                pool.arrive(job, at)
            pool.step(grid, now)
    left = [*pool.urgent, *pool.rest]
    assert not left or left[0].at > trace.end - 7 * DAY, "a queue without end"
    return Row(task.name, task.way, days, pool.sums, len(jobs))


# -- the table -----------------------------------------------------------------------------------

TITLES = (
    *("trace", "way", "CO2", "worker h", "changes/day", "flaps/day", "above cap, idle"),
    *("due waits p99", "others wait mean, p95", "late", "interrupted"),
)


def cells(row: Row, base: Row) -> list[str]:
    sums = row.sums
    waits = sorted(sums.waits)
    urgent = sorted(sums.urgent_waits)
    return [
        row.trace,
        row.way,
        f"{100 * sums.micrograms / base.sums.micrograms:.1f} %",
        f"{sums.worker_ms / HOUR:,.0f}",
        f"{sums.changes / row.days:.1f}",
        f"{sums.flaps / row.days:.2f}",
        f"{100 * sums.above * STEP / DAY / row.days:.1f} %, {sums.idle_above_ms / HOUR:,.0f} h",
        f"{at(urgent, 0.99) / MINUTE:.0f} min",
        f"{fmean(waits) / MINUTE:.0f} min, {at(waits, 0.95) / MINUTE:.0f} min",
        f"{sums.late} of {row.jobs}",
        str(sums.interrupted),
    ]


def at(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def chosen(arguments: argparse.Namespace) -> dict[str, str]:
    found = {str(Path(path).name): path for path in arguments.carbon}
    if arguments.data is not None:
        for name, file in TRACES.items():
            if (arguments.data / file).exists():
                found[name] = str(arguments.data / file)
            else:
                print(f"{arguments.data / file}: there is no such file; skipped")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a directory with the traces of the papers")
    parser.add_argument("--carbon", action="append", default=[], help="a trace, FILE[:COLUMN]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--at-once", action="store_true", help="jobs do not wait for the router")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    traces = chosen(arguments)
    if not traces:
        print("skipped: give traces by --data DIR or --carbon FILE[:COLUMN]")
        return 0
    tasks = [
        Task(name, path, way, arguments.seed, arguments.days, arguments.at_once)
        for name, path in traces.items()
        for way in WAYS
    ]
    try:
        with ProcessPoolExecutor() as pool:
            rows = list(pool.map(run, tasks))
    except SignalError as error:
        print(error, file=sys.stderr)
        return 2
    bases = {row.trace: row for row in reversed(rows)}
    table = [cells(row, bases[row.trace]) for row in rows]
    for line in (TITLES, ["---"] * len(TITLES), *table):
        print(f"| {' | '.join(line)} |")
    if arguments.json:
        arguments.json.write_text(
            json.dumps([dict(zip(TITLES, row, strict=True)) for row in table])
        )
    # Ours is to interrupt nobody, ever.
    return int(any(row.sums.interrupted for row in rows if row.way == "ours"))


if __name__ == "__main__":
    sys.exit(main())
