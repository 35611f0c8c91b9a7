"""The interface of a policy: a pure function from what is known to what to do.

All times are milliseconds on the grid clock. A policy reads no clock and does no I/O: the
router, the simulator and the audit call the very same function with the same arguments.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.router.outlook import Outlook


class JobView(msgspec.Struct, frozen=True):
    """What a policy may know of a job."""

    urgency: Urgency
    submitted_at: int
    deadline: int | None
    fast_ms: int  # expected length on FAST in grid-clock ms, a high quantile
    eco_ms: int  # the same on ECO
    margin_ms: int  # kept free before the deadline for hand-over, grid-clock ms


class Dispatch(msgspec.Struct, frozen=True):
    """Run now, on this pool."""

    pool: Pool
    reason: str
    due: bool = False  # dispatched because it could wait no longer
    band: Band | None = None
    latest_start: int | None = None


class Defer(msgspec.Struct, frozen=True):
    """Wait; look again at `planned_start`, which is never after `latest_start`."""

    pool: Pool
    planned_start: int
    latest_start: int
    reason: str
    band: Band | None = None


class Policy(Protocol):
    """`decide(job, outlook, now)`; `name` and `version` go on record with each decision."""

    name: str
    version: int

    def decide(self, job: JobView, outlook: Outlook, now: int) -> Dispatch | Defer: ...


def latest_start(job: JobView, pool: Pool) -> int | None:
    """The last moment to start on `pool` and still meet the deadline; None without one."""
    if job.deadline is None:
        return None
    return job.deadline - job.margin_ms - (job.fast_ms if pool == "fast" else job.eco_ms)
