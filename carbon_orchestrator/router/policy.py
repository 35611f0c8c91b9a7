"""The interface of a policy: a pure function from what is known to what to do.

All times are milliseconds on the grid clock. A policy reads no clock and does no I/O: the
router, the simulator and the audit call the very same function with the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.router.outlook import Outlook


class JobView(msgspec.Struct, frozen=True):
    """What a policy may know of a job; lengths and energies are of what is left to run.

    `fast_ms`, `eco_ms`: a high quantile of its length on each pool, which deadlines are kept
    by; `fast_mean_ms`, `eco_mean_ms`: its expected length, which emissions are reckoned by;
    `fast_energy`, `eco_energy`: its expected energy, in one unit.
    """

    urgency: Urgency
    submitted_at: int
    deadline: int | None
    fast_ms: int
    eco_ms: int
    margin_ms: int  # kept free before the deadline for hand-over
    fast_mean_ms: int = 0
    eco_mean_ms: int = 0
    fast_energy: float = 1.0
    eco_energy: float = 1.0
    interruptible: bool = False
    resume_ms: int = 0  # running time that a suspension costs
    running: Pool | None = None  # where it runs, for a job that may be suspended

    def longest(self, pool: Pool) -> int:
        return self.fast_ms if pool == "fast" else self.eco_ms

    def mean(self, pool: Pool) -> int:
        if pool == "fast":
            return self.fast_mean_ms or self.fast_ms
        return self.eco_mean_ms or self.eco_ms

    def energy(self, pool: Pool) -> float:
        return self.fast_energy if pool == "fast" else self.eco_energy


#: Stretches of time (start, end) in which a pool has no room for the job; None: no such pool.
Full = Sequence[tuple[int, int]] | None


class Site(NamedTuple):
    """A zone in which the job may run: its grid, and where its pools have no room."""

    outlook: Outlook
    fast_full: Full = ()
    eco_full: Full = ()

    def full(self, pool: Pool) -> Full:
        return self.fast_full if pool == "fast" else self.eco_full


class Dispatch(msgspec.Struct, frozen=True):
    """Run now, on this pool of this zone; for a job that runs already: let it."""

    zone: str
    pool: Pool
    reason: str
    due: bool = False  # dispatched because it could wait no longer
    band: Band | None = None
    latest_start: int | None = None


class Defer(msgspec.Struct, frozen=True):
    """Wait; look again at `planned_start`, which is never after `latest_start`."""

    zone: str
    pool: Pool
    planned_start: int
    latest_start: int
    reason: str
    band: Band | None = None


class Policy(Protocol):
    """`decide(job, sites, now)`, where `sites` are the zones in which the job may run, the
    submitter's first choice first; `name` and `version` go on record with each decision.

    `forecasts`: it plans by the forecast and the room in the pools, so room is booked for its
    plans; `pauses`: it may pause jobs that run, so it is asked about them too.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def forecasts(self) -> bool: ...
    @property
    def pauses(self) -> bool: ...

    def decide(self, job: JobView, sites: Sequence[Site], now: int) -> Dispatch | Defer: ...
