"""What is read from the streams of a run, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import Config, JobType, PoolConfig, complete
from carbon_orchestrator.events import (
    Decision,
    Event,
    IntensityObserved,
    JobCompleted,
    JobDeferred,
    JobDispatched,
    JobFailed,
    JobsReviewed,
    JobStarted,
    JobSubmitted,
    Spec,
)
from carbon_orchestrator.simulation.agreement import Divergence, free, timed
from carbon_orchestrator.simulation.recorded import NotComparable, read
from streams.event import Message

START = 1_577_880_000_000
HOUR = 3_600_000
CLOCK = GridClock(1, START, 1000.0)  # a second in a ms
CONFIG = complete(
    Config(
        types={"x": JobType(command=["true"], expected_duration=3.6)},
        default_types=False,
        margin=0,
        pools={"fast": PoolConfig(slots=1), "eco": PoolConfig(slots=1)},
    )
)
SLOTS = {("fast", "local"): 1, ("eco", "local"): 1}


def message(at: int, event: Event) -> Message:
    """On its stream at that grid time."""
    return Message(f"{CLOCK.wall(at)}-0", 0, event)


def observed(hour: int, intensity: float) -> Message:
    event = IntensityObserved(
        zone="local",
        time=START + hour * HOUR,
        intensity=intensity,
        source="s",
        resolution_ms=HOUR,
        forecast=[(START + (hour + 1) * HOUR, 50.0)],
    )
    return message(event.time + 2000, event)


def decision(at: int, start: int, hour: int, reason: str, pool: Any) -> Decision:
    return Decision(
        at=at,
        policy="threshold",
        policy_version=1,
        params=msgspec.Raw(b"{}"),
        intensity_id=observed(hour, 0).entry_id + "/0",
        fast_ms=HOUR,
        eco_ms=HOUR,
        margin_ms=0,
        pool=pool,
        start=start,
        latest_start=START + 9 * HOUR,
        reason=reason,
    )


def run(end: type[JobCompleted | JobFailed] = JobCompleted) -> list[Message]:
    """A job that waits from a dirty hour for a clean one, which is observed 2 s late and known to
    the router before it is on the router's own clock."""
    came, looked = START + 1000 * 600, START + HOUR + 1000
    spec = Spec(job_id="j", type="x", urgency="flexible", submitted_at=came)
    spec = msgspec.structs.replace(spec, deadline=START + 10 * HOUR)
    why = "55.0 g/kWh is low (limits 137-168)"
    more: dict[str, Any] = {"error": "e", "final": True} if end is JobFailed else {}
    ended = end(
        job_id="j",
        attempt=1,
        at=looked + 2 * HOUR,
        started_at=looked + 3000,
        run_ms=3700,
        pool="fast",
        type="x",
        urgency="flexible",
        submitted_at=came,
        deadline=spec.deadline,
        **more,
    )
    planned = (
        "deferred: 250 g/kWh is medium (limits 225-275); planned for 2020-01-01 13:00 UTC when"
        " 50.0 is forecast, latest start 2020-01-01 21:00, on FAST"
    )
    submitted = JobSubmitted(
        type="x",
        urgency="flexible",
        deadline="2020-01-01T22:00:00Z",
        job_id="j",
        submitted_at=came,
    )
    return [
        observed(0, 250),
        observed(1, 55),
        message(came, submitted),
        message(
            came + 5000,
            JobDeferred(
                job_id="j", decision=decision(came + 4000, START + HOUR, 0, planned, "fast")
            ),
        ),
        message(
            looked + 5000,
            JobsReviewed(intensity_id="1", waiting=[(looked - 500, looked, looked + 5000)]),
        ),
        message(
            looked + 4000,
            JobDispatched(
                attempt=1,
                spec=spec,
                decision=decision(looked, looked, 1, f"dispatched on FAST: {why}", "fast"),
            ),
        ),
        message(
            looked + 4000,
            JobStarted(job_id="j", attempt=1, at=looked + 3000, pool="fast", worker="w"),
        ),
        message(looked + 2 * HOUR + 1000, ended),
    ]


def test_the_times_of_the_record_are_the_simulation_s() -> None:
    record = read(run(), CLOCK, CONFIG)
    (job,) = record.jobs
    assert (job.seen_at, job.length_ms) == (START + 604_000, 3700)
    # The router knew the second event when it looked, whatever the stream says.
    assert list(record.grids[0].times) == [START + 2000, START + HOUR + 1000]
    agreement = timed(record, CONFIG, SLOTS, CLOCK.speed)
    assert agreement.divergences == []
    assert (agreement.decisions, agreement.equal, agreement.apart_ms) == (2, 2, 0)
    without = free(record, CONFIG, SLOTS, CLOCK.speed)
    assert (without.divergences, without.decisions, without.apart_ms) == ([], 1, 0)
    assert record.missed == []


def test_a_decision_that_the_simulation_does_not_make_is_named() -> None:
    messages = run()
    looked = START + HOUR + 1000
    (place,) = [n for n, each in enumerate(messages) if isinstance(each.event, JobsReviewed)]
    messages[place] = message(looked, JobsReviewed(intensity_id="1"))
    (place,) = [n for n, each in enumerate(messages) if isinstance(each.event, JobDispatched)]
    event = messages[place].event
    changed = msgspec.structs.replace(event.decision, reason="on a whim")
    messages[place] = message(looked, msgspec.structs.replace(event, decision=changed))
    record = read(messages, CLOCK, CONFIG)
    (found,) = timed(record, CONFIG, SLOTS, CLOCK.speed).divergences
    assert isinstance(found, Divergence)
    assert (found.job_id, found.number) == ("j", 1)
    assert found.recorded is not None
    assert found.recorded.reason == "on a whim"


def test_reviews_say_which_ends_were_known_to_a_look_that_decided_nothing() -> None:
    messages = run()
    before, after = START + HOUR + 2000, START + 4 * HOUR
    started, ended = messages[-2].entry_id, messages[-1].entry_id
    reviews = [JobsReviewed(intensity_id="2", running=[(before - 1, before, before + 9)])]
    reviews += [JobsReviewed(intensity_id="3", ended=[(before, started), (after, ended)])]
    messages += [message(after + 1000, review) for review in reviews]
    assert read(messages, CLOCK, CONFIG).timing.books == [(before, 0), (after, 1)]


def test_what_failed_or_is_not_done_cannot_be_compared() -> None:
    with pytest.raises(NotComparable, match="attempt 1 failed: e"):
        read(run(JobFailed), CLOCK, CONFIG)
    with pytest.raises(NotComparable, match="not completed"):
        read(run()[:-1], CLOCK, CONFIG)
