"""A record in words."""

from __future__ import annotations

import json
from typing import Any

from carbon_orchestrator.cli.job_text import head, run_rows, suspensions
from carbon_orchestrator.job_view import FIRST_FIELDS, LATER_FIELDS, details, summary


def record(**fields: Any) -> dict[bytes, bytes]:
    spec = {"job_id": "x", "type": "t", "submitted_at": 0, "payload": {"a": 1}}
    fields = {"state": "submitted", "spec": spec, **fields}
    return {
        name.encode(): value.encode() if isinstance(value, str) else json.dumps(value).encode()
        for name, value in fields.items()
    }


DISPATCHED = {"at": 1, "pool": "fast", "reason": "why"}
FAILED = {"at": 5, "outcome": "failed", "run_ms": 3, "error": "broke", "energy_mj": 7}
RETRY = {"at": 5, "start": 2005, "reason": "tried again"}


def test_a_retry_is_told_in_order_though_all_in_one_moment() -> None:
    fields = {
        "state": "deferred",
        "attempt": 1,
        "1.dispatched": DISPATCHED,
        "1.started": {"at": 1, "worker": "w"},
        "1.finished": FAILED,
        "plan": RETRY,
    }
    job = details("x", record(**fields))
    steps = [each["event"] for each in job["timeline"]]
    assert steps == ["submitted", "dispatched", "started", "failed", "deferred"]
    assert job["timeline"][3]["reason"] == "broke"
    assert job["reason"] == "tried again"
    assert job["planned_start"] == "1970-01-01T00:00:02.005Z"


def test_energy_and_what_was_avoided() -> None:
    sums = {"energy_mj": 9, "emissions_ug": 5, "baseline_ug": 8, "unpriced_mj": 1}
    finished = {"at": 5, "outcome": "completed", "run_ms": 3, "energy_method": "m"}
    job = details("x", record(state="completed", attempt=1, **{"1.finished": finished}, **sums))
    assert (job["avoided_ug"], job["energy_method"], job["unpriced_mj"]) == (3, "m", 1)


GREEN = 1_590_969_600_000  # 2020-06-01
PAUSED = {
    "at": GREEN + 60_000,
    "outcome": "suspended",
    "run_ms": 60_000,
    "reason": "suspended: greener later",
    "resume_at": GREEN + 3_600_000,
    "exit_code": 143,
    "error": "exit code 143",
}


def paused(**fields: Any) -> dict[str, Any]:
    """A job that was suspended, as people see it."""
    first = {
        "1.dispatched": {"at": GREEN, "pool": "fast", "reason": "dispatched on FAST: green"},
        "1.started": {"at": GREEN, "worker": "w1"},
        "1.finished": PAUSED,
        "segments": 1,
        "plan": {"at": GREEN + 50_000, "start": PAUSED["resume_at"], "reason": PAUSED["reason"]},
    }
    return details("x", record(**{**first, **fields}))


def test_a_suspension_is_told_once_with_its_plan() -> None:
    job = paused(state="deferred", attempt=1)
    steps = [each["event"] for each in job["timeline"]]
    assert steps == ["submitted", "dispatched", "started", "suspended"]
    assert job["timeline"][-1]["reason"] == "suspended: greener later"
    assert job["timeline"][-1]["planned_start"] == "2020-06-01T01:00:00.000Z"
    assert job["runs"][0]["resume_at"] == "2020-06-01T01:00:00.000Z"
    assert list(suspensions(job)) == ["2020-06-01 00:01"]
    assert next(iter(run_rows(job)))[-1] == ""
    # A later plan is told besides.
    plan = {"at": GREEN + 90_000, "start": GREEN + 7_200_000, "reason": "even later"}
    assert paused(state="deferred", attempt=1, plan=plan)["timeline"][-1]["event"] == "deferred"


def test_a_resumed_job_says_where_it_runs_now_and_why() -> None:
    again = {"at": GREEN + 86_400_000, "pool": "eco", "zone": "FR", "reason": "green in FR"}
    fields = {"2.dispatched": again, "2.started": {"at": GREEN + 86_400_000, "worker": "w2"}}
    job = paused(state="running", attempt=2, dispatch=2, pool="eco", **fields)
    assert (job["reason"], job["zone"], job["segments"]) == ("green in FR", "FR", 1)
    text = "2020-06-01 00:01, resumed 2020-06-02 00:00 on ECO in FR"
    assert list(suspensions(job)) == [text]
    job |= {"labels": {}, "payload": {}}
    facts = dict(head(job, {"clock": {"now": "2020-06-02T00:00:00Z"}}))
    assert (facts["pool"], facts["why"], facts["suspended"]) == ("ECO in FR", "green in FR", text)
    # Taken over: the third attempt is of the second dispatch.
    taken = paused(state="running", attempt=3, dispatch=2, pool="eco", **fields)
    assert (taken["reason"], taken["zone"]) == ("green in FR", "FR")


def test_a_completed_job_says_why_it_ran_where_it_did() -> None:
    fields = {"attempt": 1, "1.dispatched": DISPATCHED, "pool": "fast"}
    job = details("x", record(state="completed", **fields))
    assert (job["reason"], job["zone"]) == ("why", None)
    # A failed one says why it failed.
    assert details("x", record(state="failed", **fields, reason="broke"))["reason"] == "broke"


def test_a_summary_is_the_head_of_the_details() -> None:
    fields = record(state="rejected", reason="no such type", ended_at=3)
    first = [fields.get(name.encode()) for name in FIRST_FIELDS]
    later = [fields.get(name.encode()) for name in LATER_FIELDS]
    line, whole = summary("x", first, [*later, None]), details("x", fields)
    assert line.items() <= whole.items()
    assert line["reason"] == "no such type"
    assert [each["event"] for each in whole["timeline"]] == ["submitted", "rejected"]
