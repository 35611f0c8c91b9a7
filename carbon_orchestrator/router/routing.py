"""What the router writes for each decision: from events and records to transactions, pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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
    StopRequested,
    SuspendRequested,
)
from carbon_orchestrator.lifecycle import WAITING, State
from carbon_orchestrator.router.capacity import Booking
from carbon_orchestrator.router.deciding import NOTHING_DONE, lane, on_record, policy_of, view, wake
from carbon_orchestrator.router.expectation import Done, OnFast, RunTimes
from carbon_orchestrator.router.policy import Defer, Dispatch
from carbon_orchestrator.router.sites import Sites
from carbon_orchestrator.router.waiting import Dispatched, Plan, Running, Waiting, waiting
from carbon_orchestrator.submission import (
    DeadlinePassed,
    Invalid,
    UnknownType,
    accept,
    is_job_id,
    rejected_spec,
    submitted_id,
)
from carbon_orchestrator.topology import ROUTER, Topology
from streams.codec import entry_fields, envelope
from streams.commit import Transaction
from streams.dead_letters import bury
from streams.event import Entry, Message

SOURCE = "router"
_encode = msgspec.json.Encoder().encode


class Known(NamedTuple):
    """What the router knows at one moment, besides the jobs. `now` in grid ms; `speed`: grid ms
    per wall ms; `ended_id`: the last completion that the room in `sites` takes account of; `young`:
    places of intensities so new that they may be lost with a primary."""

    sites: Sites
    learned: RunTimes
    now: int
    speed: float = 1.0
    ended_id: str | None = None
    young: frozenset[str] = frozenset()


class Routing:
    """The router's decisions as transactions. Times are grid ms, passed in."""

    def __init__(self, topology: Topology, config: Config) -> None:
        self.topology = topology
        self.config = config
        self.policy, self.params = policy_of(config)
        self.retention_s = round(seconds(config.retention.jobs))
        self._on_fast = OnFast()

    # -- a job comes in --------------------------------------------------------------------

    def submitted(
        self,
        message: Message,
        entry: Entry,
        arrived: int,
        known: Known,
    ) -> Transaction:
        """The first decision about a job; `arrived` is when its entry came."""
        now = known.now
        event: JobSubmitted = message.event
        topology = self.topology
        urgent = entry.stream == topology.jobs_urgent
        job_id = submitted_id(message, topology.partition.number, urgent=urgent)
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
        answer, decision = self.decide(spec, known)
        self._require(transaction, decision, known)
        fields: dict[str, str | bytes | int] = {"spec": _encode(spec)}
        if isinstance(answer, Defer):
            wake = self._wake(answer, known)
            fields["plan"] = Plan.of(decision, wake).encode()
            record.admit(
                transaction,
                self.topology,
                job_id,
                "deferred",
                spec.submitted_at,
                fields,
                self.retention_s,
                wake=wake,
            )
            self._emit(transaction, JobDeferred(job_id=job_id, decision=decision))
        else:
            fields |= _dispatch_fields(1, decision)
            record.admit(
                transaction,
                self.topology,
                job_id,
                "dispatched",
                spec.submitted_at,
                fields,
                self.retention_s,
            )
            self._hand_over(transaction, spec, 1, (0, 0), answer, decision, known.learned)
        self._book(transaction, known.sites, decision)
        return transaction

    def _rejected(
        self,
        transaction: Transaction,
        event: JobSubmitted,
        job_id: str,
        at: int,
        reason: str,
        now: int,
    ) -> Transaction:
        spec = rejected_spec(event, job_id, at)
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

    def reconsidered(self, waiting: Waiting, known: Known) -> Transaction | None:
        """What becomes of a deferred job now; None if its plan stands."""
        spec, plan, now = waiting.spec, waiting.plan, known.now
        transaction = Transaction()
        if waiting.cancel is not None:
            self._cancelled(transaction, "deferred", spec.job_id, waiting.cancel, now)
            self._book(transaction, known.sites, plan, -1)
            return transaction
        if now < plan.not_before:
            return None
        # Its own booking must not stand in its way.
        self._account(known.sites, plan, -1)
        answer, decision = self.decide(spec, known, waiting.done)
        if (
            isinstance(answer, Defer)
            and answer.planned_start == plan.start
            and answer.pool == plan.pool
            and decision.zone == plan.zone
        ):
            self._account(known.sites, plan)
            return self._awaken(waiting, self._wake(answer, known))
        same = waiting.same
        self._require(transaction, decision, known)
        if isinstance(answer, Defer):
            wake = self._wake(answer, known)
            record.move(
                transaction,
                self.topology,
                spec.job_id,
                "deferred",
                "deferred",
                spec.submitted_at,
                {"plan": Plan.of(decision, wake).encode(), "replans": waiting.replans + 1},
                self.retention_s,
                wake=wake,
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
                _dispatch_fields(attempt, decision),
                self.retention_s,
                # A cancellation that came since the record was read must not be lost.
                only_if={**same, "cancel": ""},
            )
            before = waiting.failures, waiting.replans
            self._hand_over(transaction, spec, attempt, before, answer, decision, known.learned)
        self._write(transaction, plan, -1)
        self._book(transaction, known.sites, decision)
        return transaction

    def _awaken(self, waiting: Waiting, wake: int) -> Transaction | None:
        """The plan stands, but when to look again may have changed with what is known."""
        spec, plan = waiting.spec, waiting.plan
        if wake == plan.wakes:
            return None
        plan = msgspec.structs.replace(plan, wake=None if wake == plan.start else wake)
        key, transaction = self.topology.record(spec.job_id), Transaction()
        transaction.require_fields(key, {"state": "deferred", **waiting.same})
        transaction.set_fields(key, {"plan": plan.encode()})
        return transaction.put(self.topology.wake, wake, spec.job_id)

    # -- a running job is looked at again ------------------------------------------------------

    def suspended(self, running: Running, known: Known) -> Transaction | None:
        """Ask a running job to pause, where that is greener; None where it goes on."""
        spec, dispatched = running.spec, running.dispatched
        pool, zone = dispatched.pool, dispatched.zone or self.config.zone
        ran = max(0, round((known.now - running.started_at) / known.speed))
        done = running.done.so_far(pool, ran)
        # The room that it has must not look taken to it.
        own = None if dispatched.end is None else Booking.of(dispatched.at, dispatched.end)
        if own is not None:
            known.sites.book(pool, zone, own, -1)
        answer, decision = self.decide(spec, known, done, zone)
        if own is not None:
            known.sites.book(pool, zone, own)
        if not isinstance(answer, Defer):
            return None
        key = self.topology.record(spec.job_id)
        transaction = Transaction()
        self._require(transaction, decision, known)
        transaction.require_fields(
            key, {"state": "running", "attempt": str(running.attempt), "suspend": "", "cancel": ""}
        )
        plan = Plan.of(decision, self._wake(answer, known))
        transaction.set_fields(key, {"suspend": plan.encode()})
        event = SuspendRequested(job_id=spec.job_id, attempt=running.attempt, decision=decision)
        self._emit(transaction, event)
        self._book(transaction, known.sites, decision)
        return transaction

    # -- a job is cancelled ------------------------------------------------------------------

    def cancel_requested(
        self, event: CancelRequested, sites: Sites, now: int, row: list[bytes | None] | None = None
    ) -> Transaction:
        """At once where it only waits; where it runs, its worker is told. `row`: the
        WAITING_FIELDS of its record, for a policy that books room."""
        transaction = Transaction()
        if not is_job_id(event.job_id, self.topology.partition.number):
            return transaction
        reason = event.reason[:500]
        planned = None if row is None else waiting(row)
        if planned is not None:
            step = transaction.step()
            same = planned.same
            self._cancelled(step, "deferred", event.job_id, reason, now, same)
            self._book(step, sites, planned.plan, -1)
        for state in WAITING:
            self._cancelled(transaction.step(), state, event.job_id, reason, now)
        stop = transaction.step()
        key = self.topology.record(event.job_id)
        stop.require_field(key, "state", "running")
        stop.require_field(key, "cancel", "")
        stop.set_fields(key, {"cancel": reason or "cancelled"})
        asked = StopRequested(job_id=event.job_id, at=now, reason=reason or "cancelled")
        self._emit(stop, asked)
        return transaction

    def _cancelled(
        self,
        transaction: Transaction,
        state: State,
        job_id: str,
        reason: str,
        now: int,
        only_if: Mapping[str, str] | None = None,
    ) -> None:
        record.move(
            transaction,
            self.topology,
            job_id,
            state,
            "cancelled",
            None,
            {"reason": reason, "ended_at": now},
            self.retention_s,
            only_if=only_if,
        )
        self._emit(transaction, JobCancelled(job_id=job_id, at=now, reason=reason))

    # -- shared ------------------------------------------------------------------------------

    def decide(
        self, spec: Spec, known: Known, done: Done = NOTHING_DONE, zone: str | None = None
    ) -> tuple[Dispatch | Defer, Decision]:
        """What to do with a job, and why. `zone`: where it runs, for a job that does."""
        job = view(spec, self.config, known.learned, known.speed, self.policy, done)
        sites = known.sites.of(spec.zones if zone is None else [zone], job, known.now)
        answer = self.policy.decide(job, sites, known.now)
        home, ended_id = self.config.zone, known.ended_id
        return answer, on_record(
            answer, job, sites, self.policy, self.params, known.now, home, ended_id
        )

    def _require(self, transaction: Transaction, decision: Decision, known: Known) -> None:
        """What it was decided from must be on record still."""
        if known.young:
            places = [decision.intensity_id, *(each.intensity_id for each in decision.considered)]
            for place in places:
                if place in known.young:
                    transaction.made_from(self.topology.intensity, place.partition("/")[0])

    def _wake(self, answer: Defer, known: Known) -> int:
        return wake(answer, known.sites.outlooks[answer.zone], self.policy)

    def _book(
        self, transaction: Transaction, sites: Sites, plan: Plan | Decision, sign: int = 1
    ) -> None:
        """Book room for a plan, or give it back (-1), on record and in what is known."""
        self._write(transaction, plan, sign)
        self._account(sites, plan, sign)

    def _write(self, transaction: Transaction, plan: Plan | Decision, sign: int) -> None:
        if plan.end is not None and plan.pool is not None:
            key = self.topology.booked(plan.pool, plan.zone or "")
            Booking.of(plan.start, plan.end).write(transaction, key, sign)

    def _account(self, sites: Sites, plan: Plan | Decision, sign: int = 1) -> None:
        if plan.end is not None and plan.pool is not None:
            booking = Booking.of(plan.start, plan.end)
            sites.book(plan.pool, plan.zone or self.config.zone, booking, sign)

    def _hand_over(
        self,
        transaction: Transaction,
        spec: Spec,
        attempt: int,
        before: tuple[int, int],
        answer: Dispatch,
        decision: Decision,
        learned: RunTimes,
    ) -> None:
        """`before`: its failures and replans."""
        energy, length = self._on_fast.of(spec.type, answer.pool, learned)
        event = JobDispatched(
            attempt=attempt,
            spec=spec,
            decision=decision,
            failures=before[0],
            replans=before[1],
            fast_energy=energy,
            fast_length=length,
        )
        into = lane(spec.urgency, answer)
        stream = self.topology.dispatch(answer.pool, into, decision.zone or "")
        transaction.add_entry(stream, entry_fields(event, SOURCE, spec.traceparent))

    def _emit(
        self,
        transaction: Transaction,
        event: JobDeferred | SuspendRequested | StopRequested | JobRejected | JobCancelled,
    ) -> None:
        transaction.emit(self.topology.deferrals, envelope(event, SOURCE))


def _dispatch_fields(attempt: int, decision: Decision) -> dict[str, str | bytes | int]:
    return {
        "attempt": attempt,
        "pool": decision.pool,
        f"{attempt}.dispatched": Dispatched.of(decision).encode(),
    }
