"""A run of the running system against simulations of the same inputs, job by job.

Two simulations, each with its own notion of time. The *timed* one looks at the jobs when the
router did and lets runs last as they did. It must make every decision of every job as it is on
record, and no other: kind, zone, pool, moment, planned and latest start, reason. The *free* one is
told of times only when jobs and intensities came and how long jobs ran in all: nothing but running
takes time. Compared are the runs that it gives each job, by zone and pool. Where jobs compete for
room it tells how far latencies carry: who comes a moment later gets another hour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, get_args

from carbon_orchestrator.config import Config
from carbon_orchestrator.router.policy import Defer
from carbon_orchestrator.simulation.engine import Setup, simulate
from carbon_orchestrator.simulation.fate import Decided, Fate
from carbon_orchestrator.simulation.pools import Place
from carbon_orchestrator.simulation.recorded import Kind, Made, Record
from carbon_orchestrator.simulation.timed import simulate_timed

_KINDS: tuple[Kind, ...] = get_args(Kind)


class Divergence(NamedTuple):
    """The first decision about a job that is not the same in both; None where one has no more."""

    job_id: str
    number: int
    recorded: Made | None
    simulated: Made | None


class Agreement(NamedTuple):
    """`decisions`: those compared that are on record, of which `equal` come before the first of
    their job that is not the same in the simulation; `apart_ms`: by how much a start differs at
    most, grid ms, among jobs that agree."""

    jobs: int
    decisions: int
    equal: int
    divergences: list[Divergence]
    apart_ms: int


def timed(record: Record, config: Config, slots: Mapping[Place, int], speed: float) -> Agreement:
    """The record against the simulation with its times. `slots`: the room of the pools as the
    router knew it; `speed`: grid ms per wall ms."""
    setup = _setup(config, slots, speed)
    fates = simulate_timed(record.jobs, record.grids, setup, record.timing)
    return _compared(record, fates, config, _KINDS, lambda made: made)


def free(record: Record, config: Config, slots: Mapping[Place, int], speed: float) -> Agreement:
    """The record against the simulation in which nothing takes time but running."""
    fates = simulate(record.jobs, record.grids, _setup(config, slots, speed))
    return _compared(record, fates, config, ("dispatch",), lambda made: (made.zone, made.pool))


def _setup(config: Config, slots: Mapping[Place, int], speed: float) -> Setup:
    pools = {config.zone: ("fast", "eco"), **config.site_pools}
    return Setup(config=config, pools=pools, slots=slots, speed=speed, ask_always=True)


def _compared(
    record: Record,
    fates: Sequence[Fate],
    config: Config,
    kinds: Sequence[Kind],
    what: Callable[[Made], object],
) -> Agreement:
    decisions, equal, apart_ms = 0, 0, 0
    divergences = []
    for fate in fates:
        job_id = fate.job.spec.job_id
        there = [made for made in record.decisions[job_id] if made.kind in kinds]
        all_here = (_made(decided, config) for decided in fate.decisions)
        here = [made for made in all_here if made.kind in kinds]
        decisions += len(there)
        same = [what(one) == what(other) for one, other in zip(there, here, strict=False)]
        number = same.index(False) if False in same else len(same)
        equal += number
        if number < max(len(there), len(here)):
            divergences.append(Divergence(job_id, number, _nth(there, number), _nth(here, number)))
            continue
        differences = (abs(one.start - other.start) for one, other in zip(there, here, strict=True))
        apart_ms = max(apart_ms, *differences)
    return Agreement(len(fates), decisions, equal, divergences, apart_ms)


def _made(decided: Decided, config: Config) -> Made:
    at, answer = decided.at, decided.answer
    return Made(
        at,
        "suspend" if decided.running else "defer" if isinstance(answer, Defer) else "dispatch",
        "" if answer.zone == config.zone else answer.zone,
        answer.pool,
        answer.planned_start if isinstance(answer, Defer) else at,
        answer.latest_start,
        answer.reason,
    )


def _nth(made: Sequence[Made], number: int) -> Made | None:
    return made[number] if number < len(made) else None
