"""What to do with a delivery, given what the job's record says."""

from __future__ import annotations

import msgspec
import pytest

from carbon_orchestrator.events import Decision, JobDispatched, Spec
from carbon_orchestrator.lifecycle import STATES
from carbon_orchestrator.worker.attempts import takeover
from streams.event import Entry

DECISION = Decision(
    at=0,
    policy="p",
    policy_version=1,
    params=msgspec.Raw(b"{}"),
    fast_ms=1,
    eco_ms=1,
    margin_ms=0,
    pool="fast",
    start=0,
    reason="r",
)
EVENT = JobDispatched(attempt=2, spec=Spec(job_id="x", type="t", submitted_at=0), decision=DECISION)
ENTRY = Entry("s", "1-0", ())


@pytest.mark.parametrize("state", [None, *STATES])
@pytest.mark.parametrize("attempt", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("dispatch", [None, 1, 2, 3])
def test_only_the_attempt_that_was_dispatched_starts_and_only_a_running_one_is_taken_over(
    state: str | None, attempt: int | None, dispatch: int | None
) -> None:
    row = [
        None if state is None else state.encode(),
        None if attempt is None else b"%d" % attempt,
        b"1",
        None,
        None if dispatch is None else b"%d" % dispatch,
    ]
    action, found = takeover(ENTRY, EVENT, row)
    if state == "dispatched" and attempt == 2:
        assert (action, found.number) == ("start", 2)
    elif state == "running" and dispatch == 2:
        # The next number is the fence that shuts the earlier worker out.
        assert (action, found.number) == ("take over", (attempt or 0) + 1)
    else:
        assert action == "drop"
    assert found.failures == 1
