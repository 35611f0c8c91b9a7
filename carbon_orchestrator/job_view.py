"""What people see of a job: its record put into words and a timeline. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import Pool, Spec, Urgency
from carbon_orchestrator.lifecycle import TERMINAL, State

_spec = msgspec.json.Decoder(Spec).decode
_decode = msgspec.json.Decoder().decode


class _Said(msgspec.Struct):
    """What a line of a list says of a job's spec: decoding no more takes half the time."""

    type: str
    submitted_at: int
    urgency: Urgency = "normal"
    project: str = "default"
    deadline: int | None = None


class _Planned(msgspec.Struct):
    """Likewise of its plan."""

    start: int
    reason: str
    latest_start: int | None = None
    pool: Pool | None = None
    zone: str | None = None


class _Begun(msgspec.Struct):
    at: int


_said = msgspec.json.Decoder(_Said).decode
_planned = msgspec.json.Decoder(_Planned).decode
_begun = msgspec.json.Decoder(_Begun).decode
#: What a list shows of every job's record, in this order, and what besides of those that were
#: tried or are over: waiting jobs have none of it, and asking for it takes a third longer.
FIRST_FIELDS = ("state", "attempt", "spec", "plan")
LATER_FIELDS = ("pool", "reason", "energy_mj", "emissions_ug", "ended_at")
#: The states in which a job without an attempt has none of the LATER_FIELDS.
UNTRIED: tuple[State, ...] = ("submitted", "deferred")
_LATER_FIELDS = [each.encode() for each in LATER_FIELDS]
_NONE_LATER = (None,) * (len(LATER_FIELDS) + 1)


def summary(
    job_id: str, first: Sequence[Any], later: Sequence[bytes | None] | None
) -> dict[str, Any]:
    """One line of a list of jobs, from the FIRST_FIELDS of its record and `later`: its LATER_FIELDS
    and the `N.started` of its latest attempt, None where there are none."""
    state, attempt, spec, plan = first
    return _head(job_id, state, attempt, _said(spec), plan, later or _NONE_LATER)


def details(job_id: str, record: Mapping[bytes, bytes]) -> dict[str, Any]:
    """All there is to say of a job: state, timeline with reasons, energy and emissions."""
    spec = _spec(record[b"spec"])
    get, attempt = record.get, record.get(b"attempt")
    later = [*map(get, _LATER_FIELDS), get(_of(int(attempt or 0), b"started"))]
    job = _head(job_id, record[b"state"], attempt, spec, get(b"plan"), later)
    job["payload"] = spec.payload
    job["labels"] = spec.labels
    job["interruptible"] = spec.interruptible
    job["expected_duration"] = spec.expected_duration
    job["timeout"] = spec.timeout
    job["max_attempts"] = spec.max_attempts
    job["zones"] = spec.zones
    job["replans"] = int(record.get(b"replans", 0))
    job["failures"] = int(record.get(b"failures", 0))
    job["segments"] = int(record.get(b"segments", 0))
    if (dispatched := _dispatched(record)) is not None:
        job["zone"] = dispatched.get("zone")
        if job["state"] in ("dispatched", "running", "completed"):
            job["reason"] = dispatched["reason"]
    job["timeline"], job["runs"] = _timeline(spec, record)
    if "energy_mj" in job and job["runs"]:
        last = job["runs"][-1]
        job["energy_method"] = last.get("energy_method")
        job["energy_uncertainty"] = last.get("energy_uncertainty")
        baseline = int(record.get(b"baseline_ug", 0))
        job["baseline_ug"] = baseline
        job["avoided_ug"] = baseline - job["emissions_ug"]
        job["unpriced_mj"] = int(record.get(b"unpriced_mj", 0))
        embodied = int(record.get(b"embodied_ug", 0))
        job["embodied_ug"] = embodied
        job["sci_ug"] = job["emissions_ug"] + embodied  # ISO/IEC 21031:2024, R: this job
    return job


def _dispatched(record: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    """The latest dispatch; a takeover is an attempt without one."""
    for number in range(int(record.get(b"attempt", 0)), 0, -1):
        if (raw := record.get(_of(number, b"dispatched"))) is not None:
            decoded: dict[str, Any] = _decode(raw)
            return decoded
    return None


def _head(
    job_id: str,
    raw_state: bytes,
    attempt: bytes | None,
    spec: Spec | _Said,
    plan: bytes | None,
    later: Sequence[bytes | None],
) -> dict[str, Any]:
    pool, reason, energy, emissions, ended_at, started = later
    state = raw_state.decode()
    over = state in TERMINAL
    job: dict[str, Any] = {
        "id": job_id,
        "state": state,
        "type": spec.type,
        "urgency": spec.urgency,
        "project": spec.project,
        "submitted_at": rfc3339(spec.submitted_at),
        "deadline": None if spec.deadline is None else rfc3339(spec.deadline),
        "attempts": int(attempt) if attempt else 0,
        "pool": pool.decode() if pool else None,
        "started_at": rfc3339(_begun(started).at) if started else None,
        "finished_at": rfc3339(int(ended_at)) if over and ended_at else None,
    }
    if plan and state == "deferred":
        planned = _planned(plan)
        job["planned_start"] = rfc3339(planned.start)
        if planned.latest_start is not None:
            job["latest_start"] = rfc3339(planned.latest_start)
        job["planned_pool"] = planned.pool
        job["planned_zone"] = planned.zone
        job["reason"] = planned.reason
    if over and reason:
        job["reason"] = reason.decode("utf-8", "replace")
    if energy or state == "completed":
        job["energy_mj"] = int(energy or 0)
        job["emissions_ug"] = int(emissions or 0)
    return job


def _of(number: int, what: bytes) -> bytes:
    """The name of a field of an attempt."""
    return b"%d.%b" % (number, what)


def _timeline(
    spec: Spec, record: Mapping[bytes, bytes]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The steps in order of time, and the ended attempts."""
    steps: list[tuple[int, int, dict[str, Any]]] = []
    runs: list[dict[str, Any]] = []
    suspended: set[tuple[int, str | None]] = set()

    def add(at: int, what: str, **more: Any) -> None:
        shown = {name: value for name, value in more.items() if value is not None}
        steps.append((at, len(steps), {"at": rfc3339(at), "event": what, **shown}))

    add(spec.submitted_at, "submitted")
    for number in range(1, int(record.get(b"attempt", 0)) + 1):
        if (raw := record.get(_of(number, b"dispatched"))) is not None:
            dispatched = _decode(raw)
            add(
                dispatched["at"],
                "dispatched",
                attempt=number,
                pool=dispatched["pool"],
                zone=dispatched.get("zone"),
                reason=dispatched["reason"],
                intensity=dispatched.get("intensity"),
                band=dispatched.get("band"),
            )
        if (raw := record.get(_of(number, b"started"))) is not None:
            started = _decode(raw)
            add(started["at"], "started", attempt=number, worker=started["worker"])
        if (raw := record.get(_of(number, b"finished"))) is not None:
            finished = _decode(raw)
            runs.append({"attempt": number, **finished, "at": rfc3339(finished["at"])})
            resume_at = finished.get("resume_at")
            add(
                finished["at"],
                finished["outcome"],
                attempt=number,
                reason=finished.get("reason", finished.get("error")),
                planned_start=None if resume_at is None else rfc3339(resume_at),
            )
            if resume_at is not None:
                runs[-1]["resume_at"] = rfc3339(resume_at)
                suspended.add((resume_at, finished.get("reason")))
    plan = _decode(record[b"plan"]) if b"plan" in record else None
    # After the attempts: a retry is planned the moment one ends. A suspension tells its plan.
    if plan is not None and (plan["start"], plan["reason"]) not in suspended:
        add(
            plan["at"],
            "deferred",
            reason=plan["reason"],
            planned_start=rfc3339(plan["start"]),
            zone=plan.get("zone"),
            intensity=plan.get("intensity"),
            band=plan.get("band"),
        )
    state = record[b"state"].decode()
    if state in ("rejected", "cancelled") and not (runs and runs[-1]["outcome"] == state):
        reason = record.get(b"reason", b"").decode("utf-8", "replace")
        add(int(record.get(b"ended_at", spec.submitted_at)), state, reason=reason)
    return [step for _, _, step in sorted(steps, key=lambda each: each[:2])], runs
