"""What a worker writes about an attempt: from deliveries and results to transactions, pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from carbon_orchestrator import record
from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import DEFAULT_ATTEMPTS, Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import (
    Decision,
    JobCompleted,
    JobDispatched,
    JobFailed,
    JobStarted,
    JobSuspended,
    Pool,
)
from carbon_orchestrator.lifecycle import State
from carbon_orchestrator.router.capacity import Booking
from carbon_orchestrator.router.waiting import Plan
from carbon_orchestrator.topology import WORKER, Topology
from carbon_orchestrator.worker.burnt import Grid, Run, Share, burnt
from carbon_orchestrator.worker.execution import Execution, Outcome
from carbon_orchestrator.worker.next_attempt import interrupted, retried, retry_delay
from carbon_orchestrator.worker.segments import FIRST, Segments, pause_plan
from streams.codec import envelope
from streams.commit import Transaction
from streams.consumer import dead_letter
from streams.event import Entry

_encode = msgspec.json.Encoder().encode
#: Fields of a record that are sums over its attempts.
SUMS = ("energy_mj", "emissions_ug", "baseline_ug", "unpriced_mj", "embodied_ug")


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
    reason: str | None = None  # of a suspension
    resume_at: int | None = None  # likewise
    output: str = ""
    output_bytes: int = 0
    energy_mj: int = 0
    energy_method: str = ""
    energy_uncertainty: float = 0.0
    emissions_ug: int = 0
    baseline_ug: int = 0
    unpriced_mj: int = 0
    embodied_ug: int = 0
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


#: The fields of a record that `takeover` needs, in order, and then the request to pause.
TAKEOVER_FIELDS = ("state", "attempt", "failures", "cancel", "dispatch", "suspend")


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

    def __init__(
        self, topology: Topology, config: Config, pool: Pool, worker: str, slots: int | None = None
    ) -> None:
        self.topology = topology
        self.config = config
        self.pool = pool
        self.worker = worker
        self.share = Share.of(config, slots or config.pools[pool].slots)
        self.retention_s = round(seconds(config.retention.jobs))

    def start(self, attempt: Attempt, at: int) -> Transaction:
        """The first start: holds if the job still waits for just this attempt."""
        return self._started(attempt, "dispatched", {"attempt": str(attempt.number)}, at)

    def take_over(self, attempt: Attempt, at: int, suspend: str | None = None) -> Transaction:
        """Start again as the next attempt: holds if nobody else has meanwhile, and its record's
        request to pause is still `suspend`, which is withdrawn."""
        fence = {"attempt": str(attempt.number - 1), "dispatch": str(attempt.event.attempt)}
        return self._started(attempt, "running", fence, at, suspend)

    def drop(self, entry: Entry) -> Transaction:
        """Acknowledge a delivery that has nothing left to say."""
        return Transaction().require_ack(entry.stream, WORKER, entry.id)

    def give_up(self, attempt: Attempt, at: int, suspend: str | None = None) -> Transaction:
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
        if spec.interruptible:
            self._withdraw(transaction, attempt, suspend)
        transaction.absorb(dead_letter(entry, WORKER, self.topology.dead_letters, reason))
        self._leave(transaction, attempt)
        failed = JobFailed(
            **self._common(attempt, at, at, 0), error=reason, final=True, outcome="lost"
        )
        transaction.emit(self.topology.completions, envelope(failed, WORKER))
        return transaction

    def _started(
        self,
        attempt: Attempt,
        old: State,
        fence: dict[str, str],
        at: int,
        suspend: str | None = None,
    ) -> Transaction:
        spec = attempt.event.spec
        transaction = Transaction()
        record.move(
            transaction,
            self.topology,
            attempt.job_id,
            old,
            "running",
            spec.submitted_at,
            {
                "attempt": attempt.number,
                "dispatch": attempt.event.attempt,
                f"{attempt.number}.started": _encode(Started(at, self.worker)),
            },
            self.retention_s,
            only_if=fence,
        )
        if spec.interruptible:
            if old == "running":
                self._withdraw(transaction, attempt, suspend)
            else:
                transaction.write("HDEL", self.topology.record(spec.job_id), "suspend")
            transaction.put(self.topology.interruptible, spec.submitted_at, attempt.job_id)
        started = JobStarted(
            job_id=attempt.job_id,
            attempt=attempt.number,
            at=at,
            pool=self.pool,
            worker=self.worker,
        )
        transaction.emit(self.topology.completions, envelope(started, WORKER, spec.traceparent))
        return transaction

    def finish(
        self,
        attempt: Attempt,
        result: Execution,
        started_at: int,
        at: int,
        grid: Grid,
        clock: GridClock,
        before: Segments = FIRST,
        young: frozenset[str] = frozenset(),
    ) -> tuple[Transaction, bool]:
        """The end of an attempt: its outcome, energy and emissions, all or nothing; and
        whether it is the job's end too. `before`, of an interruptible job: what its record
        says; if that has changed the transaction does not hold. Nor does it if it is priced by
        an intensity among the `young` that is gone (signal/intensities.py)."""
        spec, key = attempt.event.spec, self.topology.record(attempt.job_id)
        # As long as what ran on ECO would have taken on FAST: that is the baseline's pool.
        on_fast = before.fast_ms + before.eco_ms * attempt.event.fast_length
        ran_before = clock.length(on_fast / 1000)
        outcome, plan, failures = self._verdict(attempt, result, before, at, clock)
        run = Run(started_at, at, result.run_ms, outcome, ran_before)
        emissions = burnt(
            attempt.event, attempt.number, self.pool, result.energy, run, grid, self.share
        )
        states: dict[str, State] = {"completed": "completed", "cancelled": "cancelled"}
        new: State = states.get(outcome, "failed") if plan is None else "deferred"
        pause = plan if outcome == "suspended" else None
        finished = Finished(
            at=at,
            outcome=outcome,
            run_ms=result.run_ms,
            exit_code=result.exit_code,
            error=result.error,
            reason=None if pause is None else pause.reason,
            resume_at=None if pause is None else pause.start,
            output=result.output,
            output_bytes=result.output_bytes,
            energy_mj=emissions.energy_mj,
            energy_method=emissions.energy_method,
            energy_uncertainty=emissions.energy_uncertainty,
            emissions_ug=emissions.emissions_ug,
            baseline_ug=emissions.baseline_ug,
            unpriced_mj=emissions.unpriced_mj,
            embodied_ug=emissions.embodied_ug,
            limitations=result.limitations,
        )
        fields: dict[str, str | bytes | int] = {
            f"{attempt.number}.finished": _encode(finished),
            "failures": failures,
        }
        if plan is not None:
            fields["plan"] = plan.encode()
        else:
            fields["ended_at"] = at
            if result.error is not None:
                fields["reason"] = result.error
        sums = {name: getattr(emissions, name) for name in SUMS}
        if attempt.number == 1:  # nothing to add to yet
            fields |= sums
            sums = {}
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
            None if plan is None else plan.wakes,
            only_if={"attempt": str(attempt.number)},
        )
        self._leave(transaction, attempt)
        if spec.interruptible:
            if pause is not None:
                transaction.require_field(key, "cancel", "")
            self._withdraw(transaction, attempt, before.suspend, keep_room=pause is not None)
            if outcome in ("suspended", "interrupted"):
                sums |= {f"ran_{self.pool}_ms": result.run_ms, "segments": 1}
        if emissions.priced_by in young:
            entry_id = str(emissions.priced_by).partition("/")[0]
            transaction.require_entry(self.topology.intensity, entry_id)
        transaction.require_ack(attempt.entry.stream, WORKER, attempt.entry.id)
        for name, amount in sums.items():
            transaction.increment(key, name, amount)
        end = self._end(attempt, result, started_at, at, outcome, plan, before)
        transaction.emit(self.topology.completions, envelope(end, WORKER, spec.traceparent))
        transaction.emit(self.topology.emissions, envelope(emissions, WORKER, spec.traceparent))
        return transaction, plan is None

    def _verdict(
        self,
        attempt: Attempt,
        result: Execution,
        before: Segments,
        at: int,
        clock: GridClock,
    ) -> tuple[Outcome, Plan | None, int]:
        """What the attempt counts for, the plan of the next one, if there is one, and how many
        have failed."""
        spec, outcome = attempt.event.spec, result.outcome
        if outcome == "suspended":
            if before.cancel is not None:
                return "cancelled", None, attempt.failures
            if (plan := pause_plan(before.suspend)) is not None:
                return outcome, plan, attempt.failures
            outcome = "interrupted"  # asked to pause, and then the request was gone
        if outcome == "interrupted":
            return outcome, interrupted(at), attempt.failures
        if outcome in ("completed", "cancelled"):
            return outcome, None, attempt.failures
        failures = attempt.failures + 1
        job_type = self.config.types.get(spec.type)
        # A type that this worker does not have may be another's: once is not enough to tell.
        usual = DEFAULT_ATTEMPTS if job_type is None else job_type.max_attempts
        most = spec.max_attempts if spec.max_attempts is not None else usual
        if failures >= most:
            return outcome, None, failures
        delay = retry_delay(seconds(self.config.retry_delay), failures)
        start = at + clock.length(delay)
        return outcome, retried(at, start, result.error, delay), failures

    def _end(
        self,
        attempt: Attempt,
        result: Execution,
        started_at: int,
        at: int,
        outcome: Outcome,
        plan: Plan | None,
        before: Segments,
    ) -> JobCompleted | JobSuspended | JobFailed:
        common = self._common(attempt, started_at, at, result.run_ms) | {
            "exit_code": result.exit_code,
            "output_bytes": result.output_bytes,
            "limitations": result.limitations,
        }
        if outcome == "completed":
            total = before.total_ms(self.pool, result.run_ms)
            common |= {"error": result.error}
            return JobCompleted(**common, segments=before.count + 1, total_run_ms=total)
        if outcome == "suspended" and plan is not None:
            common |= {"error": result.error}
            return JobSuspended(**common, resume_at=plan.start, reason=plan.reason)
        return JobFailed(
            **common,
            error=result.error or outcome,
            silent=result.error is None,
            final=plan is None,
            cancelled=outcome == "cancelled",
            outcome=outcome,
            retry_at=None if plan is None else plan.start,
        )

    def _leave(self, transaction: Transaction, attempt: Attempt) -> None:
        """The attempt no longer takes up the room that was booked for it."""
        self._give_back(transaction, attempt.event.decision)
        if attempt.event.spec.interruptible:
            transaction.drop(self.topology.interruptible, attempt.job_id)

    def _withdraw(
        self,
        transaction: Transaction,
        attempt: Attempt,
        suspend: str | None,
        *,
        keep_room: bool = False,
    ) -> None:
        """Guard that the request to pause is still `suspend` and take it off the record, with
        the room that was booked for going on later."""
        key = self.topology.record(attempt.job_id)
        transaction.require_field(key, "suspend", suspend or "")
        if suspend is None:
            return
        transaction.write("HDEL", key, "suspend")
        plan = pause_plan(suspend)
        if plan is not None and not keep_room:
            self._give_back(transaction, plan)

    def _give_back(self, transaction: Transaction, plan: Plan | Decision) -> None:
        if plan.end is not None and plan.pool is not None:
            books = self.topology.booked(plan.pool, plan.zone or "")
            Booking.of(plan.start, plan.end).write(transaction, books, -1)

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
