"""What the router writes for each decision: from events and records to transactions, pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from carbon_orchestrator import record
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import (
    CancelRequested,
    Decision,
    JobCancelled,
    JobDeferred,
    JobDispatched,
    JobRejected,
    JobSubmitted,
    Spec,
)
from carbon_orchestrator.lifecycle import WAITING, State
from carbon_orchestrator.router.deciding import lane, on_record, policy_of, view
from carbon_orchestrator.router.expectation import RunTimes
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Defer, Dispatch
from carbon_orchestrator.submission import (
    DeadlinePassed,
    Invalid,
    UnknownType,
    accept,
    derived_job_id,
    is_job_id,
)
from carbon_orchestrator.topology import ROUTER, Topology
from streams.codec import entry_fields, envelope
from streams.commit import Transaction
from streams.dead_letters import bury
from streams.event import Entry, Message

SOURCE = "router"
_encode = msgspec.json.Encoder().encode


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deferral as kept in the job's record. Grid ms."""

    at: int
    start: int
    reason: str
    latest_start: int | None = None
    pool: str | None = None
    intensity: float | None = None
    band: str | None = None
    not_before: int = 0  # of a retry: no policy may start it earlier


class Waiting(msgspec.Struct, frozen=True):
    """A deferred job as read from its record."""

    spec: Spec
    attempt: int
    plan: Plan
    replans: int
    cancel: str | None
    failures: int


class Routing:
    """The router's decisions as transactions. Times are grid ms, passed in."""

    def __init__(self, topology: Topology, config: Config) -> None:
        self.topology = topology
        self.config = config
        self.policy, self.params = policy_of(config)
        self.retention_s = round(seconds(config.retention.jobs))

    # -- a job comes in --------------------------------------------------------------------

    def submitted(
        self,
        message: Message,
        entry: Entry,
        arrived: int,
        outlook: Outlook,
        learned: RunTimes,
        now: int,
        speed: float,
    ) -> Transaction:
        """The first decision about a job; `arrived` is when its entry came."""
        event: JobSubmitted = message.event
        job_id = self._job_id(message)
        at = event.submitted_at if event.submitted_at is not None else arrived
        transaction = Transaction()
        try:
            spec = accept(event, self.config, job_id, at, message.traceparent)
        except (UnknownType, DeadlinePassed) as error:
            return self._rejected(transaction, event, job_id, at, str(error), now)
        except Invalid as error:
            alone = len(entry.messages) + len(entry.faults) == 1
            bury(
                transaction,
                self.topology.dead_letters,
                reason=f"{error.field}: {error}" if error.field else str(error),
                stream=entry.stream,
                entry_id=entry.id,
                group=ROUTER,
                deliveries=entry.deliveries,
                fields=entry.fields if alone else (b"batch", b"[" + envelope(event, SOURCE) + b"]"),
            )
            # A gateway with another configuration accepted it: its record must not wait for ever.
            self._refused(transaction.step(), job_id, at, str(error), now)
            return transaction
        job = view(spec, self.config, learned, speed)
        answer = self.policy.decide(job, outlook, now)
        decision = on_record(answer, job, outlook, self.policy, self.params, now)
        fields: dict[str, str | bytes | int] = {"spec": _encode(spec)}
        if isinstance(answer, Defer):
            fields["plan"] = _encode(_plan(decision))
            record.admit(
                transaction,
                self.topology,
                job_id,
                "deferred",
                spec.submitted_at,
                fields,
                self.retention_s,
                wake=answer.planned_start,
            )
            self._emit(transaction, JobDeferred(job_id=job_id, decision=decision))
        else:
            fields |= {"attempt": 1, "pool": answer.pool, "1.dispatched": _dispatched(decision)}
            record.admit(
                transaction,
                self.topology,
                job_id,
                "dispatched",
                spec.submitted_at,
                fields,
                self.retention_s,
            )
            self._hand_over(transaction, spec, 1, 0, answer, decision)
        return transaction

    def _job_id(self, message: Message) -> str:
        number = self.topology.partition.number
        event: JobSubmitted = message.event
        if event.job_id is not None and is_job_id(event.job_id, number):
            return event.job_id
        if message.id is not None:
            # CloudEvents: the same source and id is the same event, however often it comes.
            return derived_job_id(number, "event", message.source or "", message.id)
        return derived_job_id(number, "entry", message.entry_id, str(message.index))

    def _rejected(
        self,
        transaction: Transaction,
        event: JobSubmitted,
        job_id: str,
        at: int,
        reason: str,
        now: int,
    ) -> Transaction:
        spec = Spec(
            job_id=job_id,
            type=event.type[:64],
            urgency=event.urgency,
            submitted_at=at,
            project=event.project[:64],
        )
        record.admit(
            transaction,
            self.topology,
            job_id,
            "rejected",
            at,
            {"spec": _encode(spec), "reason": reason, "ended_at": now},
            self.retention_s,
        )
        self._emit(transaction, JobRejected(job_id=job_id, at=now, reason=reason))
        return transaction

    def _refused(
        self, transaction: Transaction, job_id: str, at: int, reason: str, now: int
    ) -> None:
        """Reject a job that has a record already, if it has."""
        record.move(
            transaction,
            self.topology,
            job_id,
            "submitted",
            "rejected",
            at,
            {"reason": reason, "ended_at": now},
            self.retention_s,
        )
        self._emit(transaction, JobRejected(job_id=job_id, at=now, reason=reason))

    # -- a deferred job is looked at again ---------------------------------------------------

    def reconsidered(
        self, waiting: Waiting, outlook: Outlook, learned: RunTimes, now: int, speed: float
    ) -> Transaction | None:
        """What becomes of a deferred job now; None if its plan stands."""
        spec, plan = waiting.spec, waiting.plan
        transaction = Transaction()
        if waiting.cancel is not None:
            self._cancelled(transaction, "deferred", spec.job_id, waiting.cancel, now)
            return transaction
        if now < plan.not_before:
            return None
        job = view(spec, self.config, learned, speed)
        answer = self.policy.decide(job, outlook, now)
        if (
            isinstance(answer, Defer)
            and answer.planned_start == plan.start
            and answer.pool == plan.pool
        ):
            return None
        decision = on_record(answer, job, outlook, self.policy, self.params, now)
        # It may have run and come back since the record was read: that is another waiting.
        same = {"attempt": str(waiting.attempt) if waiting.attempt else ""}
        if isinstance(answer, Defer):
            record.move(
                transaction,
                self.topology,
                spec.job_id,
                "deferred",
                "deferred",
                spec.submitted_at,
                {"plan": _encode(_plan(decision)), "replans": waiting.replans + 1},
                self.retention_s,
                wake=answer.planned_start,
                only_if=same,
            )
            self._emit(transaction, JobDeferred(job_id=spec.job_id, decision=decision))
        else:
            attempt = waiting.attempt + 1
            record.move(
                transaction,
                self.topology,
                spec.job_id,
                "deferred",
                "dispatched",
                spec.submitted_at,
                {
                    "attempt": attempt,
                    "pool": answer.pool,
                    f"{attempt}.dispatched": _dispatched(decision),
                },
                self.retention_s,
                # A cancellation that came since the record was read must not be lost.
                only_if={**same, "cancel": ""},
            )
            self._hand_over(transaction, spec, attempt, waiting.failures, answer, decision)
        return transaction

    # -- a job is cancelled ------------------------------------------------------------------

    def cancel_requested(self, event: CancelRequested, now: int) -> Transaction:
        """At once where it only waits; where it runs, its worker is told."""
        transaction = Transaction()
        if not is_job_id(event.job_id, self.topology.partition.number):
            return transaction
        for state in WAITING:
            self._cancelled(transaction.step(), state, event.job_id, event.reason[:500], now)
        running = transaction.step()
        key = self.topology.record(event.job_id)
        running.require_field(key, "state", "running")
        running.set_fields(key, {"cancel": event.reason[:500] or "cancelled"})
        return transaction

    def _cancelled(
        self, transaction: Transaction, state: State, job_id: str, reason: str, now: int
    ) -> None:
        record.move(
            transaction,
            self.topology,
            job_id,
            state,
            "cancelled",
            now,
            {"reason": reason, "ended_at": now},
            self.retention_s,
        )
        self._emit(transaction, JobCancelled(job_id=job_id, at=now, reason=reason))

    # -- shared ------------------------------------------------------------------------------

    def _hand_over(
        self,
        transaction: Transaction,
        spec: Spec,
        attempt: int,
        failures: int,
        answer: Dispatch,
        decision: Decision,
    ) -> None:
        event = JobDispatched(attempt=attempt, spec=spec, decision=decision, failures=failures)
        stream = self.topology.dispatch(answer.pool, lane(spec, answer))
        transaction.add_entry(stream, entry_fields(event, SOURCE, spec.traceparent))

    def _emit(
        self, transaction: Transaction, event: JobDeferred | JobRejected | JobCancelled
    ) -> None:
        transaction.emit(self.topology.deferrals, envelope(event, SOURCE))


def _plan(decision: Decision) -> Plan:
    return Plan(
        at=decision.at,
        start=decision.start,
        reason=decision.reason,
        latest_start=decision.latest_start,
        pool=decision.pool,
        intensity=decision.intensity,
        band=decision.band,
    )


class Dispatched(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dispatch as kept in the job's record. Grid ms."""

    at: int
    pool: str
    reason: str
    intensity: float | None = None
    band: str | None = None
    latest_start: int | None = None


def _dispatched(decision: Decision) -> bytes:
    return _encode(
        Dispatched(
            decision.at,
            decision.pool,
            decision.reason,
            decision.intensity,
            decision.band,
            decision.latest_start,
        )
    )


_spec_decoder = msgspec.json.Decoder(Spec)
_plan_decoder = msgspec.json.Decoder(Plan)
#: The fields of a record that `waiting` needs, in order.
WAITING_FIELDS = ("state", "spec", "attempt", "plan", "replans", "cancel", "failures")


def waiting(row: list[bytes | None]) -> Waiting | None:
    """A deferred job from the WAITING_FIELDS of its record; None if it is not deferred."""
    state, spec, attempt, plan, replans, cancel, failures = row
    if state != b"deferred" or spec is None or plan is None:
        return None
    return Waiting(
        _spec_decoder.decode(spec),
        int(attempt or 0),
        _plan_decoder.decode(plan),
        int(replans or 0),
        None if cancel is None else cancel.decode("utf-8", "replace"),
        int(failures or 0),
    )


def learned_from(rows: Mapping[tuple[str, str], Mapping[bytes, bytes]]) -> RunTimes:
    """Histograms as read from their hashes."""
    return {
        (job_type, "fast" if pool == "fast" else "eco"): {
            int(index): int(count) for index, count in counts.items()
        }
        for (job_type, pool), counts in rows.items()
    }
