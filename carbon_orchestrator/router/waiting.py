"""Jobs as the router finds them in their records, and their plans as it leaves them there."""

from __future__ import annotations

import msgspec

from carbon_orchestrator.events import Decision, Pool, Spec
from carbon_orchestrator.router.expectation import Done

_encode = msgspec.json.Encoder().encode


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deferral as kept in the job's record. Grid ms."""

    at: int
    start: int
    reason: str
    latest_start: int | None = None
    pool: Pool | None = None
    zone: str | None = None  # None: home
    end: int | None = None  # where room is booked from `start` on
    intensity: float | None = None
    band: str | None = None
    not_before: int = 0  # of a retry: no policy may start it earlier
    wake: int | None = None  # when it is looked at again at the latest, where not at `start`

    @classmethod
    def of(cls, decision: Decision, wake: int | None = None) -> Plan:
        return cls(
            at=decision.at,
            start=decision.start,
            reason=decision.reason,
            latest_start=decision.latest_start,
            pool=decision.pool,
            zone=decision.zone,
            end=decision.end,
            intensity=decision.intensity,
            band=decision.band,
            wake=None if wake == decision.start else wake,
        )

    @property
    def wakes(self) -> int:
        """When it is looked at again at the latest."""
        return self.start if self.wake is None else self.wake

    def encode(self) -> bytes:
        return _encode(self)


class Dispatched(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dispatch as kept in the job's record. Grid ms."""

    at: int
    pool: Pool
    reason: str
    zone: str | None = None
    end: int | None = None
    intensity: float | None = None
    band: str | None = None
    latest_start: int | None = None

    @classmethod
    def of(cls, decision: Decision) -> Dispatched:
        return cls(
            at=decision.at,
            pool=decision.pool,
            reason=decision.reason,
            zone=decision.zone,
            end=decision.end,
            intensity=decision.intensity,
            band=decision.band,
            latest_start=decision.latest_start,
        )

    def encode(self) -> bytes:
        return _encode(self)


class Waiting(msgspec.Struct, frozen=True):
    """A deferred job as read from its record."""

    spec: Spec
    attempt: int
    plan: Plan
    replans: int
    cancel: str | None
    failures: int
    done: Done

    @property
    def same(self) -> dict[str, str]:
        """The fields of its record by which it waits as it did when that was read: it may have
        run and come back since, or have another plan."""
        return {
            "attempt": str(self.attempt) if self.attempt else "",
            "replans": str(self.replans) if self.replans else "",
        }


class Running(msgspec.Struct, frozen=True):
    """A job that runs and may be suspended, as read from its record."""

    spec: Spec
    attempt: int
    dispatched: Dispatched
    started_at: int  # grid ms
    done: Done  # before this attempt


_spec = msgspec.json.Decoder(Spec)
_plan = msgspec.json.Decoder(Plan)
_dispatched = msgspec.json.Decoder(Dispatched)

#: The fields of a record that `waiting` needs, in order.
WAITING_FIELDS = (
    *("state", "spec", "attempt", "plan", "replans", "cancel", "failures"),
    *("ran_fast_ms", "ran_eco_ms", "segments"),
)
#: The fields of a record that `running` needs, in order; and then those of its attempt.
RUNNING_FIELDS = (
    *("state", "spec", "attempt", "dispatch", "cancel", "suspend"),
    *("ran_fast_ms", "ran_eco_ms", "segments"),
)


def waiting(row: list[bytes | None]) -> Waiting | None:
    """A deferred job from the WAITING_FIELDS of its record; None if it is not deferred."""
    state, spec, attempt, plan, replans, cancel, failures, fast, eco, segments = row
    if state != b"deferred" or spec is None or plan is None:
        return None
    return Waiting(
        _spec.decode(spec),
        int(attempt or 0),
        _plan.decode(plan),
        int(replans or 0),
        None if cancel is None else cancel.decode("utf-8", "replace"),
        int(failures or 0),
        Done(int(fast or 0), int(eco or 0), segments=int(segments or 0)),
    )


def attempt_fields(row: list[bytes | None]) -> tuple[str, str] | None:
    """The two fields that `running` needs besides, by the RUNNING_FIELDS; None where the job
    does not run, or is being stopped already."""
    state, spec, attempt, dispatch, cancel, suspend, *_ = row
    if state != b"running" or spec is None or attempt is None or dispatch is None:
        return None
    if cancel is not None or suspend is not None:
        return None
    return f"{int(dispatch)}.dispatched", f"{int(attempt)}.started"


def running(row: list[bytes | None], dispatched: bytes, started: bytes) -> Running:
    """A running job from the RUNNING_FIELDS of its record and the fields of its attempt."""
    _, spec, attempt, _, _, _, fast, eco, segments = row
    assert spec is not None
    return Running(
        _spec.decode(spec),
        int(attempt or 0),
        _dispatched.decode(dispatched),
        int(msgspec.json.decode(started)["at"]),
        Done(int(fast or 0), int(eco or 0), segments=int(segments or 0)),
    )
