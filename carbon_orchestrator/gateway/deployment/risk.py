"""Which jobs are likely to miss their deadlines. Pure; all times are ms on the grid clock.

A job is at risk where its expected end lies after its deadline: with the length that 95 of 100
jobs like it do not exceed, begun when a slot is expected to be free. Those before it in the line
are taken to last as long as such jobs do on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import Any, NamedTuple

import msgspec

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import JobDispatched
from carbon_orchestrator.router.words import length

#: A job that runs longer than expected is expected to run this share of its length on.
_OVERRUN = 0.05


class InLine(NamedTuple):
    """A job that runs in a pool, or waits in its lanes (`started_at` None)."""

    job_id: str
    type: str
    deadline: int | None
    mean: int
    longest: int
    started_at: int | None = None

    @classmethod
    def of(cls, event: JobDispatched, started_at: int | None) -> InLine:
        decision, spec = event.decision, event.spec
        fast = decision.pool == "fast"
        longest = decision.fast_ms if fast else decision.eco_ms
        mean = decision.fast_mean_ms if fast else decision.eco_mean_ms
        return cls(spec.job_id, spec.type, spec.deadline, mean or longest, longest, started_at)


class Risk(msgspec.Struct, frozen=True):
    """A job at risk, and why, in words."""

    job_id: str
    type: str
    deadline: int
    expected_end: int
    why: str

    def json(self) -> dict[str, Any]:
        return {
            "id": self.job_id,
            "type": self.type,
            "deadline": rfc3339(self.deadline),
            "expected_end": rfc3339(self.expected_end),
            "why": self.why,
        }


def in_pool(jobs: Sequence[InLine], site: str, slots: int, now: int) -> list[Risk]:
    """Those at risk of a pool's jobs: the running ones, then the others in the order of its lanes.
    A pool of no slots is taken for one whose first worker is about to come."""
    running = [job for job in jobs if job.started_at is not None]
    free_at = [_end(job, job.mean, now) for job in running]
    free_at += [now] * max(slots - len(running), 0 if free_at else 1)
    heapify(free_at)
    found = []
    before = 0
    for job in jobs:
        if job.started_at is not None:
            end = _end(job, job.longest, now)
            ran = length(now - job.started_at)
            why = f"it has run for {ran}, and may take {length(end - job.started_at)} in all"
        else:
            begin = max(free_at[0], now)
            heapreplace(free_at, begin + job.mean)
            end = begin + job.longest
            offered = f"{site} has {slots} slot{'s' * (slots > 1)}"
            offered = offered if slots else f"no worker of {site} is alive"
            why = f"it may take {length(job.longest)}, {before} wait before it, and {offered}"
            before += 1
        if job.deadline is not None and end > job.deadline:
            found.append(Risk(job.job_id, job.type, job.deadline, end, why))
    return found


def overdue(
    job_id: str, job_type: str, deadline: int, latest_start: int, margin: int, now: int
) -> Risk | None:
    """A deferred job whose latest start, `margin` before what would be too late, is over."""
    end = now + max(deadline - margin - latest_start, 0)
    if now <= latest_start or end <= deadline:
        return None
    why = f"it should have started {length(now - latest_start)} ago; is a router at work?"
    return Risk(job_id, job_type, deadline, end, why)


def undecided(job_id: str, job_type: str, deadline: int, longest: int, now: int) -> Risk | None:
    """A job about which no router has decided, that may take `longest` on FAST."""
    if now + longest <= deadline:
        return None
    why = f"it may take {length(longest)}, and no router has decided about it yet"
    return Risk(job_id, job_type, deadline, now + longest, why)


def _end(job: InLine, run: int, now: int) -> int:
    begun = now if job.started_at is None else job.started_at
    return max(begun + run, now + round(run * _OVERRUN))
