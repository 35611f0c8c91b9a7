"""Several policies over the same jobs and the same grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from carbon_orchestrator.config import Config, PolicyName
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.router.deciding import policy_of
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.simulation.engine import Setup, simulate
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.forecasts import Forecasts, Span
from carbon_orchestrator.simulation.grid import TraceGrid
from carbon_orchestrator.simulation.optimum import optimum_ug
from carbon_orchestrator.simulation.pools import work
from carbon_orchestrator.simulation.results import Outcome, emitted_ug, outcome
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Job, WorkloadError

_FARTHEST_MS = 10 * 86_400_000


class Run(NamedTuple):
    """One policy's: what became of each job, and what each emitted (µg CO2e)."""

    fates: list[Fate]
    emissions: list[int]


class Comparison(NamedTuple):
    """`runs` by policy, run_now among them; `optima` (µg CO2e): of each job."""

    outcomes: list[Outcome]
    runs: dict[str, Run]
    optima: list[float]


Progress = Callable[[str, float], None]


def idealise(config: Config) -> Config:
    """As papers about carbon-aware scheduling assume: no time is kept free before deadlines,
    stopping and going on costs nothing, any saving is worth any wait, all pools are alike."""
    pools = {
        pool: msgspec.structs.replace(settings, slowdown=1.0, energy=1.0)
        for pool, settings in config.pools.items()
    }
    greenest = msgspec.structs.replace(config.greenest, min_saving=0.0, resume_cost=0)
    return msgspec.structs.replace(config, margin=0, greenest=greenest, pools=pools)


def fitting(jobs: Sequence[Job], trace: Trace, config: Config) -> list[Job]:
    """The jobs whose whole window lies within the trace. Raises WorkloadError if none does."""
    inside = [
        job
        for job in jobs
        if trace.start <= job.spec.submitted_at and _window_end(job, config) <= trace.end
    ]
    if not inside:
        raise WorkloadError("no job lies within the carbon trace; their times must overlap")
    return inside


def span(jobs: Sequence[Job], trace: Trace, config: Config) -> Span:
    """The steps of the trace at which forecasts are needed, and how far; 10 days at most."""
    ends = [_window_end(job, config) for job in jobs]
    longest = max(end - job.spec.submitted_at for end, job in zip(ends, jobs, strict=True))
    first = trace.index(min(job.spec.submitted_at for job in jobs))
    last = min(trace.index(max(ends)) + 1, len(trace.values))
    return Span(first, last, min(longest, _FARTHEST_MS) // trace.step_ms + 1)


def _window_end(job: Job, config: Config) -> int:
    spec = job.spec
    length_ms = max(work(job, pool, config).length_ms for pool in POOLS)
    longest = milliseconds(config.greenest.max_wait) if job.max_wait_ms is None else job.max_wait_ms
    if spec.urgency == "urgent" and spec.deadline is None:
        longest = 0
    end = spec.submitted_at + longest + length_ms
    return end if spec.deadline is None else max(spec.deadline, spec.submitted_at + length_ms)


def compare(
    jobs: Sequence[Job],
    trace: Trace,
    forecasts: Forecasts,
    setup: Setup,
    policies: Sequence[PolicyName],
    progress: Progress | None = None,
) -> Comparison:
    """Each policy's outcome; `progress` is told its name and the share that is done."""
    pools = setup.pools.get(trace.zone, POOLS)
    optima = []
    for number, job in enumerate(jobs):
        optima.append(optimum_ug(job, trace, setup.config, pools))
        if progress is not None and number % 1000 == 0:
            progress("optimum", number / len(jobs))
    if progress is not None:
        progress("optimum", 1.0)
    runs: dict[str, Run] = {}
    outcomes = []
    for policy in dict.fromkeys(("run_now", *policies)):
        runs[policy] = _run(policy, jobs, trace, forecasts, setup, progress)
        fates, emissions = runs[policy]
        base = sum(runs["run_now"].emissions)
        if policy in policies:
            outcomes.append(outcome(policy, fates, emissions, base, sum(optima)))
    return Comparison(outcomes, runs, optima)


def _run(
    policy: PolicyName,
    jobs: Sequence[Job],
    trace: Trace,
    forecasts: Forecasts,
    setup: Setup,
    progress: Progress | None,
) -> Run:
    config = msgspec.structs.replace(setup.config, policy=policy)
    points = not policy_of(config)[0].forecasts
    grid = TraceGrid(trace, forecasts, Bands.of(config.threshold), points=points)
    tell = None if progress is None else lambda share: progress(policy, share)
    fates = simulate(jobs, [grid], msgspec.structs.replace(setup, config=config), tell)
    emissions = [emitted_ug(fate, {trace.zone: trace.series}) for fate in fates]
    if progress is not None:
        progress(policy, 1.0)
    return Run(fates, emissions)
