"""A job as its submitter sees it. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from carbon_orchestrator.client import notebook
from carbon_orchestrator.lifecycle import TERMINAL, WAITING

_G = 1e-6  # grams in a microgram
_J = 1e-3  # joules in a millijoule


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job. `intensity` in gCO2e/kWh."""

    at: datetime
    event: str
    attempt: int | None = None
    pool: str | None = None
    zone: str | None = None
    worker: str | None = None
    reason: str | None = None
    planned_start: datetime | None = None
    intensity: float | None = None
    band: str | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that has ended, at `at`, having run for `run_ms` of wall time. `output`: the
    end of what it wrote; `error`: why it failed."""

    at: datetime
    attempt: int
    outcome: str
    run_ms: int = 0
    exit_code: int | None = None
    error: str | None = None
    reason: str | None = None
    output: str = ""
    output_bytes: int = 0
    energy_mj: int = 0
    emissions_ug: int = 0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running job has come, as it said at `at`: `fraction` of 1, where it is known;
    `finish_at`: when it is expected to be done."""

    at: datetime
    fraction: float | None = None
    message: str | None = None
    finish_at: datetime | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """A job as it stood when it was asked for; all times on the grid clock.

    `state` is submitted, deferred, dispatched or running, and in the end completed, failed,
    cancelled or rejected. What a list leaves out (`payload`, `timeline`, `runs`, ...) is there
    once the job itself is asked for. `reason` says why it waits, or why it ended as it did.
    """

    id: str
    state: str
    type: str
    urgency: str = "normal"
    project: str = "default"
    submitted_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline: datetime | None = None
    attempts: int = 0
    pool: str | None = None
    zone: str | None = None
    reason: str | None = None
    planned_start: datetime | None = None
    latest_start: datetime | None = None
    planned_pool: str | None = None
    planned_zone: str | None = None
    progress: Progress | None = None
    payload: Any = None
    labels: dict[str, str] = {}
    interruptible: bool = False
    replans: int = 0
    failures: int = 0
    segments: int = 0
    timeline: tuple[Step, ...] = ()
    runs: tuple[Run, ...] = ()
    energy_mj: int | None = None
    energy_method: str | None = None
    energy_uncertainty: float | None = None  # relative
    emissions_ug: int | None = None
    baseline_ug: int | None = None
    avoided_ug: int | None = None
    unpriced_mj: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in TERMINAL

    @property
    def succeeded(self) -> bool:
        return self.state == "completed"

    @property
    def waiting(self) -> bool:
        """Whether it neither runs nor has ended; `reason` says why it is deferred."""
        return self.state in WAITING

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None if it has not, or where that is not known."""
        if self.finished_at is not None:
            return self.finished_at
        return self.timeline[-1].at if self.ended and self.timeline else None

    @property
    def output(self) -> str:
        """The end of what its last attempt wrote."""
        return self.runs[-1].output if self.runs else ""

    @property
    def error(self) -> str | None:
        """Why its last attempt failed."""
        return self.runs[-1].error if self.runs else None

    @property
    def energy_j(self) -> float | None:
        """Energy of all its attempts, in joules."""
        return None if self.energy_mj is None else self.energy_mj * _J

    @property
    def emissions_g(self) -> float | None:
        """What all its attempts emitted, in grams of CO2e."""
        return None if self.emissions_ug is None else self.emissions_ug * _G

    @property
    def baseline_g(self) -> float | None:
        """What it would have emitted, run at once on FAST at home, in grams of CO2e."""
        return None if self.baseline_ug is None else self.baseline_ug * _G

    @property
    def avoided_g(self) -> float | None:
        """`baseline_g` less `emissions_g`."""
        return None if self.avoided_ug is None else self.avoided_ug * _G

    def __repr__(self) -> str:
        parts = [f"{self.id} {self.type}: {self.state}"]
        if self.pool is not None and not self.waiting:
            parts.append(f"on {self.pool.upper()}{f' in {self.zone}' if self.zone else ''}")
        if self.planned_start is not None:
            parts.append(f"until {shown(self.planned_start)}")
        if self.emissions_g is not None:
            parts.append(f"with {self.emissions_g:.3g} gCO2e")
        why = f" ({self.reason})" if self.reason else ""
        return f"<Job {' '.join(parts)}{why}>"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return notebook.facts(self._rows())

    def _rows(self) -> dict[str, str]:
        return {
            "job": self.id,
            "type": f"{self.type}, {self.urgency}",
            "state": self.state,
            "progress": "" if self.progress is None else progress_text(self.progress),
            "why": self.reason or "",
            "planned start": _time(self.planned_start),
            "deadline": _time(self.deadline),
            "pool": " in ".join(each for each in (self.pool, self.zone) if each),
            "attempts": str(self.attempts or ""),
            "energy": "" if self.energy_j is None else f"{self.energy_j:.4g} J",
            "emitted": _grams(self.emissions_g),
            "avoided": _grams(self.avoided_g),
            "error": self.error or "",
        }


class JobList(list[Job]):
    """A list of jobs, which is a table in a notebook: `JobList(client.jobs(limit=20))`."""

    def _repr_html_(self) -> str:
        """A table for notebooks, of the first jobs."""
        columns = ("job", "type", "state", "pool", "planned start", "emitted", "why")
        rows = ([job._rows()[each] for each in columns] for job in self)
        return notebook.table(columns, rows, len(self))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be decided about a job, were it submitted now. `would`: "dispatch" or "defer",
    to `start` at the earliest; `intensity` in gCO2e/kWh now, `expected_intensity` while it runs.
    """

    would: str
    reason: str
    pool: str | None = None
    zone: str | None = None
    start: datetime | None = None
    latest_start: datetime | None = None
    deadline: datetime | None = None
    intensity: float | None = None
    expected_intensity: float | None = None
    band: str | None = None
    policy: str | None = None

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        return notebook.facts(
            {
                "would": self.would,
                "why": self.reason,
                "pool": " in ".join(each for each in (self.pool, self.zone) if each),
                "start": _time(self.start),
                "latest start": _time(self.latest_start),
                "deadline": _time(self.deadline),
                "intensity now": _intensity(self.intensity, self.band),
                "expected": _intensity(self.expected_intensity),
            }
        )


def progress_text(progress: Progress) -> str:
    """Such as "42 %, epoch 3 of 7, done about 18:30"."""
    parts = [] if progress.fraction is None else [f"{100 * progress.fraction:.0f} %"]
    parts += [progress.message] if progress.message else []
    if progress.finish_at is not None:
        parts.append(f"done about {shown(progress.finish_at)}")
    return ", ".join(parts)


def shown(moment: datetime) -> str:
    """A time as people read it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()


def _time(moment: datetime | None) -> str:
    return "" if moment is None else shown(moment)


def _grams(grams: float | None) -> str:
    return "" if grams is None else f"{grams:.4g} gCO2e"


def _intensity(value: float | None, band: str | None = None) -> str:
    text = "" if value is None else f"{value:.0f} gCO2e/kWh"
    return f"{text} ({band})" if text and band else text
