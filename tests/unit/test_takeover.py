"""What a worker makes of a delivery, by the record of its job."""

from __future__ import annotations

import msgspec
import pytest

from carbon_orchestrator.events import Decision, JobDispatched, Spec
from carbon_orchestrator.worker.attempts import takeover
from streams.event import Entry

DECISION = Decision(
    at=1,
    policy="run_now",
    policy_version=1,
    params=msgspec.Raw(b"{}"),
    fast_ms=1,
    eco_ms=1,
    margin_ms=0,
    pool="fast",
    start=1,
    reason="now",
)
SPEC = Spec(job_id="0" * 26 + "-0", type="t", urgency="normal", submitted_at=1)
ENTRY = Entry("dispatch.fast", "1-0", ())


def row(state: str, attempt: int, dispatch: int | None) -> list[bytes | None]:
    started = None if dispatch is None else b"%d" % dispatch
    return [state.encode(), b"%d" % attempt, b"1", None, started]


@pytest.mark.parametrize(
    ("dispatched", "record", "action", "number"),
    [
        (1, row("dispatched", 1, None), "start", 1),
        (2, row("dispatched", 2, 1), "start", 2),
        (1, row("running", 1, 1), "take over", 2),
        (1, row("running", 4, 1), "take over", 5),
        (3, row("running", 3, 3), "take over", 4),
        # It failed and was dispatched again, and runs by that: the old delivery is void.
        (1, row("running", 2, 2), "drop", 2),
        (1, row("running", 3, 2), "drop", 3),
        (1, row("dispatched", 2, 1), "drop", 2),
        (1, row("deferred", 1, 1), "drop", 1),
        (1, row("completed", 1, 1), "drop", 1),
        (1, [None] * 5, "drop", 0),
    ],
)
def test_a_delivery_counts_only_while_its_dispatch_is_the_jobs_latest(
    dispatched: int, record: list[bytes | None], action: str, number: int
) -> None:
    event = JobDispatched(attempt=dispatched, spec=SPEC, decision=DECISION)
    what, attempt = takeover(ENTRY, event, record)
    assert (what, attempt.number) == (action, number)
