"""A record in words."""

from __future__ import annotations

import json
from typing import Any

from carbon_orchestrator.job_view import SUMMARY_FIELDS, details, summary


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


def test_a_summary_is_the_head_of_the_details() -> None:
    fields = record(state="rejected", reason="no such type", ended_at=3)
    row = [fields.get(name.encode()) for name in SUMMARY_FIELDS]
    line, whole = summary("x", row), details("x", fields)
    assert line is not None
    assert line.items() <= whole.items()
    assert line["reason"] == "no such type"
    assert [each["event"] for each in whole["timeline"]] == ["submitted", "rejected"]


def test_what_is_gone_has_no_summary() -> None:
    assert summary("x", [None] * len(SUMMARY_FIELDS)) is None
