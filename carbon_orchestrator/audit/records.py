"""The record of a job, as its events make it: what the commits wrote that emitted them.

What no event says: the tail of an attempt's output (`output` of `N.finished`), when a router looks
at a plan again (`wake` of `plan` and the score in `wake`), the `digest` of a submission with an
Idempotency-Key, and of a job that no router has seen yet the `spec` if the gateway was configured
otherwise than the routers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import (
    EmissionsRecorded,
    Finish,
    JobCancelled,
    JobCompleted,
    JobDeferred,
    JobDispatched,
    JobFailed,
    JobRejected,
    JobStarted,
    JobSuspended,
    Spec,
    StopRequested,
    SuspendRequested,
)
from carbon_orchestrator.lifecycle import State
from carbon_orchestrator.router.waiting import Dispatched, Plan
from carbon_orchestrator.worker.attempts import SUMS, Finished, Started
from carbon_orchestrator.worker.next_attempt import interrupted, retried, retry_delay

_encode = msgspec.json.Encoder().encode
_spec = msgspec.json.Decoder(Spec)
_plan = msgspec.json.Decoder(Plan)
Value = str | bytes | int


class Kept:
    """A record while it is being made. `score`: of its place among the jobs of its state;
    `wakes`: of a deferred job, its planned start."""

    __slots__ = (
        *("_burnt", "_ends", "fields", "interruptible", "refused", "score", "submitted_at"),
        "wakes",
    )

    def __init__(self) -> None:
        self.fields: dict[str, Value] = {}
        self.score = 0
        self.submitted_at = 0
        self.interruptible = False
        self.wakes: int | None = None
        self.refused: bytes | None = None  # the `spec`, if it is rejected
        self._ends: dict[int, Finished] = {}
        self._burnt: dict[int, EmissionsRecorded] = {}

    def spec(self, spec: Spec) -> None:
        """As accepted; its first decision says so again."""
        self.fields["spec"] = _encode(spec)
        self.submitted_at = self.score = spec.submitted_at
        self.interruptible = spec.interruptible

    def refuse(self, spec: Spec) -> None:
        """What its record would say were it rejected."""
        self.refused = _encode(spec)
        if not self.submitted_at:
            self.submitted_at = self.score = spec.submitted_at

    def apply(self, event: Any, before: State | None, now: State, config: Config | None) -> None:
        """What the commit that emitted the event wrote. `before`, `now`: its state; `config`: of
        the worker that ran it, for the end of an attempt."""
        fields = self.fields
        fields["state"] = now
        if isinstance(event, JobDeferred):
            plan = Plan.of(event.decision)
            fields["plan"] = plan.encode()
            self.wakes = plan.start
            if before == "deferred":
                fields["replans"] = int(fields.get("replans", 0)) + 1
        elif isinstance(event, JobDispatched):
            self._dispatched(event)
        elif isinstance(event, JobStarted):
            started = Started(event.at, event.worker)
            fields |= {"attempt": event.attempt, f"{event.attempt}.started": _encode(started)}
            if before == "dispatched":
                fields["dispatch"] = event.attempt
            if self.interruptible:
                fields.pop("suspend", None)
        elif isinstance(event, SuspendRequested):
            fields["suspend"] = Plan.of(event.decision).encode()
        elif isinstance(event, StopRequested):
            fields["cancel"] = event.reason
        elif isinstance(event, JobRejected | JobCancelled):
            fields |= {"reason": event.reason, "ended_at": event.at}
            if isinstance(event, JobRejected) and self.refused is not None:
                fields["spec"] = self.refused
        elif isinstance(event, Finish):
            self._ended(event, now, config)
        elif isinstance(event, EmissionsRecorded):
            self._emitted(event)
        if now != "deferred":
            self.wakes = None

    def _dispatched(self, event: JobDispatched) -> None:
        self.spec(event.spec)
        self.fields |= {
            "attempt": event.attempt,
            "pool": event.decision.pool,
            f"{event.attempt}.dispatched": Dispatched.of(event.decision).encode(),
        }

    def _ended(self, event: Finish, now: State, config: Config | None) -> None:
        fields = self.fields
        suspend = fields.get("suspend")
        if self.interruptible:
            fields.pop("suspend", None)
        if isinstance(event, JobFailed) and event.outcome == "lost":
            fields |= {"reason": event.error, "ended_at": event.at}
            return
        outcome, error, pause = _said(event)
        finished = Finished(
            at=event.at,
            outcome=outcome,
            run_ms=event.run_ms,
            exit_code=event.exit_code,
            error=error,
            reason=None if pause is None else pause.reason,
            resume_at=None if pause is None else pause.resume_at,
            output_bytes=event.output_bytes,
            limitations=event.limitations,
        )
        failed = outcome in ("failed", "timeout")
        failures = int(fields.get("failures", 0)) + failed
        fields["failures"] = failures
        if now == "deferred":
            plan = _next(event, error, failures, config, suspend)
            fields["plan"] = plan.encode()
            self.wakes = plan.wakes
        else:
            fields["ended_at"] = event.at
            if error is not None:
                fields["reason"] = error
        if self.interruptible and outcome in ("suspended", "interrupted"):
            self._add(f"ran_{event.pool}_ms", event.run_ms)
            self._add("segments", 1)
        self._finished(event.attempt, finished)

    def _add(self, name: str, amount: int) -> None:
        if amount:
            self.fields[name] = int(self.fields.get(name, 0)) + amount

    def _emitted(self, event: EmissionsRecorded) -> None:
        for name in SUMS:
            amount = getattr(event, name)
            if event.attempt == 1:
                self.fields[name] = amount
            else:
                self._add(name, amount)
        self._burnt[event.attempt] = event
        if (finished := self._ends.pop(event.attempt, None)) is not None:
            self._finished(event.attempt, finished)

    def _finished(self, attempt: int, finished: Finished) -> None:
        """Once the end of the attempt and what it burnt are both known."""
        burnt = self._burnt.pop(attempt, None)
        if burnt is None:
            self._ends[attempt] = finished
            return
        whole = msgspec.structs.replace(
            finished,
            energy_mj=burnt.energy_mj,
            energy_method=burnt.energy_method,
            energy_uncertainty=burnt.energy_uncertainty,
            emissions_ug=burnt.emissions_ug,
            baseline_ug=burnt.baseline_ug,
            unpriced_mj=burnt.unpriced_mj,
            embodied_ug=burnt.embodied_ug,
        )
        self.fields[f"{attempt}.finished"] = _encode(whole)


def _said(event: Finish) -> tuple[str, str | None, JobSuspended | None]:
    """The outcome, what was said of it, and the pause, if it is one."""
    if isinstance(event, JobSuspended):
        return "suspended", event.error, event
    if isinstance(event, JobCompleted):
        return "completed", event.error, None
    assert isinstance(event, JobFailed)
    return event.outcome, None if event.silent else event.error, None


def _next(
    event: Finish, error: str | None, failures: int, config: Config | None, suspend: Value | None
) -> Plan:
    """The plan of the next attempt."""
    if isinstance(event, JobSuspended):
        if isinstance(suspend, bytes):
            return _plan.decode(suspend)
        return Plan(event.at, event.resume_at, event.reason)
    assert isinstance(event, JobFailed)
    if event.outcome == "interrupted":
        return interrupted(event.at)
    delay = retry_delay(seconds((config or Config()).retry_delay), failures)
    return retried(event.at, event.retry_at or event.at, error, delay)
