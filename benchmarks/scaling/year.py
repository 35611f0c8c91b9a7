"""A year of one grid: prepared once, then run in each way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from benchmarks.scaling.jobs import Coming, routed
from benchmarks.scaling.pool import Pool, Rules, Sums
from benchmarks.scaling.ways import HIGH, MEDIUM, ByIntensity, Fixed, Keda, Ours, Way, by_bands
from carbon_orchestrator.config import (
    Config,
    PolicyName,
    PoolConfig,
    ScaledPool,
    Scaler,
    complete,
)
from carbon_orchestrator.events import POOLS, GridState
from carbon_orchestrator.events import Pool as PoolName
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.scaler.deciding import Params, grid_state
from carbon_orchestrator.simulation import forecasts
from carbon_orchestrator.simulation.forecasts import Span
from carbon_orchestrator.simulation.grid import TraceGrid
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Job

MINUTE = 60_000
SLOTS, LARGEST = 2, 12
#: The router keeps a minute free besides what a look and a new worker take.
CONFIG = complete(
    Config(
        margin="5m",
        pools={
            "fast": PoolConfig(slots=SLOTS),
            "eco": PoolConfig(slots=SLOTS, slowdown=1.5, energy=0.9),
        },
        scaler=Scaler(
            pools={pool: ScaledPool(max=LARGEST, medium=MEDIUM, high=HIGH) for pool in POOLS}
        ),
    )
)
PARAMS = Params.of(CONFIG, "fast", 1.0)
RULES = Rules(PARAMS, step=2 * MINUTE, start_up=2 * MINUTE, ahead=6 * MINUTE)


def _fixed(size: int) -> Callable[[Trace], Way]:
    return lambda trace: Fixed(size)


WAYS: dict[str, Callable[[Trace], Way]] = {
    **{f"fixed, {size}": _fixed(size) for size in (12, 6, 4)},
    "backlog": lambda trace: Keda(SLOTS, lambda grid, now: LARGEST),
    "intensity ceiling": lambda trace: Keda(SLOTS, ByIntensity(trace, LARGEST)),
    "ceiling by our bands": lambda trace: Keda(SLOTS, by_bands(PARAMS)),
    "ours": lambda trace: Ours(PARAMS),
}


class Year(NamedTuple):
    """`states`: what is known of the grid at each step of the trace."""

    trace: Trace
    states: Sequence[GridState]
    coming: dict[PoolName, Coming]

    @property
    def jobs(self) -> int:
        return sum(len(each.handed) for each in self.coming.values())


def prepared(trace: Trace, jobs: Sequence[Job], policy: PolicyName) -> Year:
    """With the project's own forecasts, of two hours: the scaler looks no further."""
    steps = 7_200_000 // trace.step_ms
    ahead = forecasts.own(trace, Span(0, len(trace.values), steps))
    config = msgspec.structs.replace(CONFIG, policy=policy)
    grid = TraceGrid(trace, ahead, Bands.of(config.threshold), points=True)
    states = [grid_state(grid.outlook(number)) for number in range(len(trace.values))]
    return Year(trace, states, routed(jobs, grid, config, RULES.ahead))


def run(year: Year, way: str, seed: int = 0) -> Sums:
    """All pools, each with its own scaler."""
    trace, sums = year.trace, Sums()
    for number, coming in enumerate(year.coming.values()):
        pool = Pool(WAYS[way](trace), coming, trace.series, RULES, sums, seed + number)
        for index, grid in enumerate(year.states):
            start = trace.time(index)
            for now in range(start, start + trace.step_ms, RULES.step):
                pool.look(grid, now)
        pool.finish(trace.end)
    return sums
