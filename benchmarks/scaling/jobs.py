"""The jobs of a year, when they come and when the router hands each to a pool. Grid ms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from carbon_orchestrator.config import Config
from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.router.deadline import latest_start
from carbon_orchestrator.router.deciding import lane
from carbon_orchestrator.router.policy import Defer
from carbon_orchestrator.scaler.pressure import Wait
from carbon_orchestrator.simulation.engine import Setup, simulate
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.grid import Grid
from carbon_orchestrator.simulation.job_files import read_jobs
from carbon_orchestrator.simulation.pools import Work, work
from carbon_orchestrator.simulation.workload import HOUR_MS, MIX, Job, Options, in_order, job
from carbon_orchestrator.topology import Lane

WEEK_MS = 168 * HOUR_MS
_JITTER_MS = HOUR_MS // 2
_TAIL_MS = 72 * HOUR_MS  # in which the last jobs end
_WATTS_CPU = 100.0


class Recorded(NamedTuple):
    """What is taken of recorded workloads. `times`: when jobs come, ms of the week, of each source;
    `runs`: how long they run, ms, and on how many CPUs."""

    times: Sequence[Sequence[int]]
    runs: Sequence[tuple[int, float]]


def recorded(data: Path) -> Recorded:
    """Arrivals of a week of PAI's and of Let's Wait Awhile's working hours; runs of PAI's."""
    pai = read_jobs(data / "pai_1k.csv", Options())
    office = read_jobs(data / "lwa_jobs.csv", Options())
    times = [[each.spec.submitted_at % WEEK_MS for each in jobs] for jobs in (pai, office)]
    return Recorded(times, [(each.length_ms, each.energy_mj / each.length_ms) for each in pai])


def jobs_of(known: Recorded, start: int, end: int, a_day: float, seed: int) -> list[Job]:
    """Jobs over [start, end): each comes in some week when some job of some source came in its
    own, or up to half an hour later, and runs as another did, at 100 W a CPU. Urgency and time to
    spare are those of simulation/workload.py."""
    random = np.random.default_rng(seed)
    weeks = np.arange(start // WEEK_MS, end // WEEK_MS + 1).repeat(round(a_day * 7))
    count = len(weeks)
    sources = np.array([random.choice(times, count) for times in known.times])
    moments = random.permuted(sources, axis=0)[0] + random.integers(_JITTER_MS, size=count)
    at = weeks * WEEK_MS + moments // 1000 * 1000
    runs = random.integers(len(known.runs), size=count)
    kinds = random.choice(len(MIX), count, p=[share for _, share, _, _ in MIX])
    made = []
    for number in np.flatnonzero((start <= at) & (at < end - _TAIL_MS)).tolist():
        length_ms, cpus = known.runs[runs[number]]
        urgency, _, slack, _ = MIX[kinds[number]]
        wait = None if slack is None else round(slack * HOUR_MS)
        watts = cpus * _WATTS_CPU
        made.append(
            job(
                *(number, int(at[number]), length_ms, Options()),
                urgency=urgency,
                max_wait_ms=wait,
                watts=watts,
            )
        )
    return in_order(made)


class Handed(NamedTuple):
    """A job as a pool gets it: when, in which lane, and by when it must start there."""

    at: int
    job: Job
    lane: Lane
    wait: Wait
    work: Work


class Soon(NamedTuple):
    """From `at` on so many more are planned for soon, and so many of them must start then."""

    at: int
    planned: int
    pressing: int


class Coming(NamedTuple):
    """All that one pool is handed, and what the scaler sees coming, by time."""

    handed: list[Handed]
    soon: list[Soon]


def routed(jobs: Sequence[Job], grid: Grid, config: Config, ahead: int) -> dict[Pool, Coming]:
    """What the router hands to each pool. `ahead`: how far "soon" reaches."""
    coming = {pool: Coming([], []) for pool in POOLS}
    for fate in simulate(jobs, [grid], Setup(config=config, pools={grid.zone: POOLS})):
        pool, handed = _handed(fate, config)
        coming[pool].handed.append(handed)
        for planned, soon in _soon(fate, ahead):
            coming[planned].soon.append(soon)
    for each in coming.values():
        each.handed.sort(key=lambda handed: handed.at)
        each.soon.sort()
    return coming


def _handed(fate: Fate, config: Config) -> tuple[Pool, Handed]:
    at, answer, _ = fate.decisions[-1]
    assert fate.view is not None
    assert not isinstance(answer, Defer)
    wait = Wait(latest_start(fate.view, answer.pool), fate.view.longest(answer.pool))
    chosen = lane(fate.job.spec.urgency, answer)
    return answer.pool, Handed(at, fate.job, chosen, wait, work(fate.job, answer.pool, config))


def _soon(fate: Fate, ahead: int) -> Iterator[tuple[Pool, Soon]]:
    for (at, plan, _), (until, _, _) in pairwise(fate.decisions):
        assert isinstance(plan, Defer)
        since = max(at, plan.planned_start - ahead)
        if since < until:
            yield plan.pool, Soon(since, 1, 0)
            yield plan.pool, Soon(until, -1, 0)
        pressing = max(since, plan.latest_start - ahead)
        if pressing < until:
            yield plan.pool, Soon(pressing, 0, 1)
            yield plan.pool, Soon(until, 0, -1)
