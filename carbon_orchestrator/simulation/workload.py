"""The jobs of a simulation: what is submitted when, how long it runs, and what it burns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from carbon_orchestrator.events import Spec, Urgency

HOUR_MS = 3_600_000
#: Of jobs whose file tells nothing about power.
WATTS = 100.0


class Job(NamedTuple):
    """`spec` is what the router sees; the rest comes to light as the job runs.

    `length_ms`, `energy_mj`: of the whole job on FAST, wall ms and mJ. `max_wait_ms`: how long it
    may be deferred where it has no deadline, grid ms; None for what the policy is set to.
    `seen_at`: when the router first decides about it, if not at once, grid ms.
    """

    spec: Spec
    length_ms: int
    energy_mj: int
    max_wait_ms: int | None = None
    seen_at: int | None = None

    @property
    def arrives(self) -> int:
        """When the router first decides about it."""
        return self.spec.submitted_at if self.seen_at is None else self.seen_at

    @property
    def feasible(self) -> bool:
        """Whether it meets its deadline if it starts at once on FAST."""
        spec = self.spec
        return spec.deadline is None or spec.submitted_at + self.length_ms <= spec.deadline


class WorkloadError(ValueError):
    """Jobs that cannot be read; the message says where and what to do."""


class Options(NamedTuple):
    """What a file of jobs leaves open.

    `known`: lengths are stated at submission, else they are learned. `interruptible`: for files
    that do not say.
    """

    known: bool = True
    interruptible: bool = False
    watts: float = WATTS
    rule: str | None = None
    start: int = 0  # of the carbon trace, ms; times in a file may count from it


def job(
    number: int,
    submitted_at: int,
    length_ms: int,
    options: Options,
    *,
    name: str = "",
    type: str = "simulated",
    urgency: Urgency = "flexible",
    deadline: int | None = None,
    max_wait_ms: int | None = None,
    interruptible: bool | None = None,
    watts: float | None = None,
) -> Job:
    """One job; where lengths are known, a longest wait becomes a deadline."""
    if deadline is None and max_wait_ms is not None and options.known:
        deadline, max_wait_ms = submitted_at + max_wait_ms + length_ms, None
    spec = Spec(
        job_id=name or str(number),
        type=type,
        urgency=urgency,
        submitted_at=submitted_at,
        deadline=deadline,
        expected_duration=length_ms / 1000 if options.known else None,
        interruptible=options.interruptible if interruptible is None else interruptible,
    )
    energy_mj = round((options.watts if watts is None else watts) * length_ms)
    return Job(spec, length_ms, energy_mj, max_wait_ms)


def in_order(jobs: Sequence[Job]) -> list[Job]:
    return sorted(jobs, key=lambda each: each.spec.submitted_at)


#: Generated jobs: share, slack (hours), whether they may be suspended.
MIX: tuple[tuple[Urgency, float, float | None, bool], ...] = (
    ("urgent", 0.2, None, False),
    ("normal", 0.4, 6.0, False),
    ("flexible", 0.2, 24.0, False),
    ("flexible", 0.2, 24.0, True),
)
_MEDIAN_H, _SPREAD, _LONGEST_H = 1.0, 1.0, 24.0


def generated(count: int, start: int, end: int, options: Options, seed: int = 0) -> list[Job]:
    """`count` jobs submitted evenly at random over [start, end), ms, less the longest window.

    Lengths are log-normal (median 1 h, sigma 1, 1 min to 24 h, whole minutes), as run times of
    batch jobs are known to be; power is 50 to 400 W, even. 20 % are urgent; 40 % normal, with 6 h
    to spare before their deadline; 40 % flexible, with 24 h, half of those interruptible.
    Three types, by power. The same seed gives the same jobs.
    """
    random = np.random.default_rng(seed)
    last = end - round((_LONGEST_H * 2 + 1) * HOUR_MS)
    if last <= start:
        raise WorkloadError("the trace is too short to generate jobs over; it needs three days")
    submitted = np.sort(random.integers(start, last, count)) // 1000 * 1000
    minutes = np.clip(random.lognormal(np.log(_MEDIAN_H * 60), _SPREAD, count), 1, _LONGEST_H * 60)
    watts = random.uniform(50, 400, count)
    kinds = random.choice(len(MIX), count, p=[share for _, share, _, _ in MIX])
    jobs = []
    for number in range(count):
        urgency, _, slack, interruptible = MIX[kinds[number]]
        length_ms = round(float(minutes[number])) * 60_000
        power = float(watts[number])
        at = int(submitted[number])
        jobs.append(
            job(
                number,
                at,
                length_ms,
                options,
                type=("inference", "analytics", "training")[min(int((power - 50) // 117), 2)],
                urgency=urgency,
                max_wait_ms=None if slack is None else round(slack * HOUR_MS),
                interruptible=interruptible,
                watts=power,
            )
        )
    return jobs
