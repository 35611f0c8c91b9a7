"""What a worker writes about an attempt: from deliveries and results to transactions, pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from carbon_orchestrator import record
from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import DEFAULT_ATTEMPTS, Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import (
    EmissionsRecorded,
    JobCompleted,
    JobDispatched,
    JobFailed,
    JobStarted,
    Pool,
)
from carbon_orchestrator.lifecycle import State
from carbon_orchestrator.router.routing import Plan
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.series import emissions_ug
from carbon_orchestrator.topology import WORKER, Topology
from carbon_orchestrator.worker.execution import Execution
from streams.codec import envelope
from streams.commit import Transaction
from streams.consumer import dead_letter
from streams.event import Entry

_encode = msgspec.json.Encoder().encode
_LONGEST_RETRY_SECONDS = 60.0


class Started(msgspec.Struct, frozen=True):
    """The start of an attempt as kept in the job's record. Grid ms."""

    at: int
    worker: str


class Finished(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of an attempt as kept in the job's record. Grid ms."""

    at: int
    outcome: str
    run_ms: int
    exit_code: int | None = None
    error: str | None = None
    output: str = ""
    output_bytes: int = 0
    energy_mj: int = 0
    energy_method: str = ""
    energy_uncertainty: float = 0.0
    emissions_ug: int = 0
    baseline_ug: int = 0
    unpriced_mj: int = 0
    limitations: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True):
    """One attempt that this worker runs or is about to run."""

    entry: Entry
    event: JobDispatched
    number: int
    failures: int = 0

    @property
    def job_id(self) -> str:
        return self.event.spec.job_id


#: The fields of a record that `takeover` needs, in order.
TAKEOVER_FIELDS = ("state", "attempt", "failures", "cancel", "dispatch")


def takeover(
    entry: Entry, event: JobDispatched, row: list[bytes | None]
) -> tuple[Literal["start", "take over", "drop"], Attempt]:
    """What to do with a delivery, given the TAKEOVER_FIELDS of the job's record.

    "start": it waits for its first start. "take over": it runs, on a worker whose lease has
    ended. "drop": it has moved on without this delivery (it may run by a later one).
    """
    state, raw_attempt, failures = row[0], int(row[1] or 0), int(row[2] or 0)
    dispatch = int(row[4] or 0)
    if state == b"dispatched" and raw_attempt == event.attempt:
        return "start", Attempt(entry, event, event.attempt, failures)
    if state == b"running" and dispatch == event.attempt:
        return "take over", Attempt(entry, event, raw_attempt + 1, failures)
    return "drop", Attempt(entry, event, raw_attempt, failures)


class Attempts:
    """Transactions of one worker in one pool."""

    def __init__(self, topology: Topology, config: Config, pool: Pool, worker: str) -> None:
        self.topology = topology
        self.config = config
        self.pool = pool
        self.worker = worker
        self.retention_s = round(seconds(config.retention.jobs))

    def start(self, attempt: Attempt, at: int) -> Transaction:
        """The first start: holds if the job still waits for just this attempt."""
        return self._started(attempt, "dispatched", {"attempt": str(attempt.number)}, at)

    def take_over(self, attempt: Attempt, at: int) -> Transaction:
        """Start again as the next attempt: holds if nobody else has meanwhile."""
        fence = {"attempt": str(attempt.number - 1), "dispatch": str(attempt.event.attempt)}
        return self._started(attempt, "running", fence, at)

    def drop(self, entry: Entry) -> Transaction:
        """Acknowledge a delivery that has nothing left to say."""
        return Transaction().require_ack(entry.stream, WORKER, entry.id)

    def give_up(self, attempt: Attempt, at: int) -> Transaction:
        """A job whose workers keep dying (an `attempt` to take over): failed, and a dead letter."""
        spec, entry = attempt.event.spec, attempt.entry
        reason = f"delivered {entry.deliveries} times; its workers died or lost their leases"
        attempt = msgspec.structs.replace(attempt, number=attempt.number - 1)
        transaction = Transaction()
        record.move(
            transaction,
            self.topology,
            spec.job_id,
            "running",
            "failed",
            spec.submitted_at,
            {"reason": reason, "ended_at": at},
            self.retention_s,
            only_if={"attempt": str(attempt.number)},
        )
        transaction.absorb(dead_letter(entry, WORKER, self.topology.dead_letters, reason))
        failed = JobFailed(**self._common(attempt, at, at, 0), error=reason, final=True)
        transaction.emit(self.topology.completions, envelope(failed, WORKER))
        return transaction

    def _started(self, attempt: Attempt, old: State, fence: dict[str, str], at: int) -> Transaction:
        transaction = Transaction()
        record.move(
            transaction,
            self.topology,
            attempt.job_id,
            old,
            "running",
            attempt.event.spec.submitted_at,
            {
                "attempt": attempt.number,
                "dispatch": attempt.event.attempt,
                f"{attempt.number}.started": _encode(Started(at, self.worker)),
            },
            self.retention_s,
            only_if=fence,
        )
        started = JobStarted(
            job_id=attempt.job_id,
            attempt=attempt.number,
            at=at,
            pool=self.pool,
            worker=self.worker,
        )
        transaction.emit(
            self.topology.completions, envelope(started, WORKER, attempt.event.spec.traceparent)
        )
        return transaction

    def finish(
        self,
        attempt: Attempt,
        result: Execution,
        started_at: int,
        at: int,
        intensities: Intensities,
        clock: GridClock,
    ) -> tuple[Transaction, bool]:
        """The end of an attempt: its outcome, energy and emissions, all or nothing; and
        whether it is the job's end too."""
        spec, key = attempt.event.spec, self.topology.record(attempt.job_id)
        job_type = self.config.types.get(spec.type)
        emissions = self._emissions(attempt, result, started_at, at, intensities)
        failed = result.outcome in ("failed", "timeout")
        failures = attempt.failures + failed
        # A type that this worker does not have may be another's: once is not enough to tell.
        usual = DEFAULT_ATTEMPTS if job_type is None else job_type.max_attempts
        most = spec.max_attempts if spec.max_attempts is not None else usual
        again = result.outcome == "interrupted" or (failed and failures < most)
        states: dict[str, State] = {"completed": "completed", "cancelled": "cancelled"}
        new: State = "deferred" if again else states.get(result.outcome, "failed")
        finished = Finished(
            at=at,
            outcome=result.outcome,
            run_ms=result.run_ms,
            exit_code=result.exit_code,
            error=result.error,
            output=result.output,
            output_bytes=result.output_bytes,
            energy_mj=emissions.energy_mj,
            energy_method=emissions.energy_method,
            energy_uncertainty=emissions.energy_uncertainty,
            emissions_ug=emissions.emissions_ug,
            baseline_ug=emissions.baseline_ug,
            unpriced_mj=emissions.unpriced_mj,
            limitations=result.limitations,
        )
        fields: dict[str, str | bytes | int] = {
            f"{attempt.number}.finished": _encode(finished),
            "failures": failures,
        }
        wake: int | None = None
        if again:
            plan = self._retry_plan(result, failures, at, clock)
            fields["plan"] = _encode(plan)
            wake = plan.start
        else:
            fields["ended_at"] = at
            if result.error is not None:
                fields["reason"] = result.error
        sums = ("energy_mj", "emissions_ug", "baseline_ug", "unpriced_mj")
        first = attempt.number == 1
        if first:  # nothing to add to yet
            fields |= {name: getattr(emissions, name) for name in sums}
        transaction = Transaction()
        record.move(
            transaction,
            self.topology,
            spec.job_id,
            "running",
            new,
            spec.submitted_at,
            fields,
            self.retention_s,
            wake,
            only_if={"attempt": str(attempt.number)},
        )
        transaction.require_ack(attempt.entry.stream, WORKER, attempt.entry.id)
        for name in () if first else sums:
            transaction.increment(key, name, getattr(emissions, name))
        common = self._common(attempt, started_at, at, result.run_ms)
        if result.outcome == "completed":
            end: JobCompleted | JobFailed = JobCompleted(**common)
        else:
            end = JobFailed(
                **common,
                error=result.error or result.outcome,
                final=not again,
                cancelled=result.outcome == "cancelled",
                exit_code=result.exit_code,
            )
        transaction.emit(self.topology.completions, envelope(end, WORKER, spec.traceparent))
        transaction.emit(self.topology.emissions, envelope(emissions, WORKER, spec.traceparent))
        return transaction, not again

    def _retry_plan(self, result: Execution, failures: int, at: int, clock: GridClock) -> Plan:
        if result.outcome == "interrupted":
            return Plan(at, at, "its worker was stopped; it runs again elsewhere")
        delay = min(
            seconds(self.config.retry_delay) * 2 ** max(0, failures - 1), _LONGEST_RETRY_SECONDS
        )
        start = at + clock.length(delay)
        reason = f"attempt failed ({result.error}); tried again after {delay:g} s"
        return Plan(at, start, reason, not_before=start)

    def _emissions(
        self,
        attempt: Attempt,
        result: Execution,
        started_at: int,
        at: int,
        intensities: Intensities,
    ) -> EmissionsRecorded:
        spec, energy = attempt.event.spec, result.energy
        series, latest = intensities.series, intensities.latest
        emitted = unpriced = baseline = 0
        if energy.mj:
            emitted, unpriced = emissions_ug(energy.mj, started_at, at, series)
            # The baseline: the same run, begun the moment it was submitted.
            baseline, baseline_unpriced = emissions_ug(
                energy.mj, spec.submitted_at, spec.submitted_at + at - started_at, series
            )
            if baseline_unpriced:
                # Nothing may be claimed as avoided for a time about which nothing is known.
                baseline = emitted
        return EmissionsRecorded(
            job_id=spec.job_id,
            attempt=attempt.number,
            at=at,
            started_at=started_at,
            zone=intensities.zone,
            pool=self.pool,
            type=spec.type,
            project=spec.project,
            energy_mj=energy.mj,
            energy_method=energy.method,
            energy_uncertainty=energy.uncertainty,
            emissions_ug=emitted,
            baseline_ug=baseline,
            unpriced_mj=unpriced,
            intensity_source=latest.source if latest else None,
            intensity_kind=latest.kind if latest else None,
            estimated=latest.estimated if latest else False,
            simulated=latest.simulated if latest else False,
        )

    def _common(self, attempt: Attempt, started_at: int, at: int, run_ms: int) -> dict[str, Any]:
        spec = attempt.event.spec
        return {
            "job_id": spec.job_id,
            "attempt": attempt.number,
            "at": at,
            "started_at": started_at,
            "run_ms": run_ms,
            "pool": self.pool,
            "type": spec.type,
            "urgency": spec.urgency,
            "project": spec.project,
            "submitted_at": spec.submitted_at,
            "deadline": spec.deadline,
        }
