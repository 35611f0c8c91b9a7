"""Where the events about a job are sought, by its record."""

from __future__ import annotations

import msgspec

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.events import Spec
from carbon_orchestrator.gateway.lookup.whereabouts import Search, searches

#: A replay, sixty times faster: a minute on the grid is a second on the wall.
CLOCK = GridClock(origin_wall=1_000_000_000, origin_grid=5_000_000_000, speed=60.0)
MINUTE = 60_000


def sought(spec: Spec, **fields: object) -> list[Search]:
    named = {
        name.encode(): value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        for name, value in fields.items()
    }
    return list(searches(named, spec, CLOCK))


def job(**more: object) -> Spec:
    return msgspec.convert(
        {"job_id": "a", "type": "quick", "submitted_at": CLOCK.origin_grid, **more}, Spec
    )


def places(found: list[Search]) -> list[tuple[tuple[str, ...], int, int | None, str | None]]:
    """With `since` and `until` in wall seconds after the submission."""
    return [
        (
            each.streams,
            round((each.since - CLOCK.origin_wall) / 1000),
            None if each.until is None else round((each.until - CLOCK.origin_wall) / 1000),
            each.finds,
        )
        for each in found
    ]


JOBS = ("jobs.urgent", "jobs")


def test_a_job_that_waits_is_in_few_places() -> None:
    assert places(sought(job(), state="submitted")) == [(JOBS, -2, None, "job.submitted 0")]
    planned = sought(job(), state="deferred", plan={"at": 1, "start": 2, "reason": "x"})
    assert places(planned)[1:] == [(("deferrals",), -2, None, None)]


def test_each_step_of_an_attempt_is_sought_where_and_when_it_was() -> None:
    at = CLOCK.origin_grid
    found = sought(
        job(),
        state="completed",
        attempt="1",
        ended_at=str(at + 3 * MINUTE),
        **{
            "1.dispatched": {"at": at + MINUTE, "pool": "eco", "zone": "FR", "reason": "x"},
            "1.started": {"at": at + 2 * MINUTE, "worker": "w"},
            "1.finished": {"at": at + 3 * MINUTE, "outcome": "completed"},
        },
    )
    lanes = ("dispatch.eco@FR.urgent", "dispatch.eco@FR.due", "dispatch.eco@FR")
    assert places(found) == [
        (JOBS, -2, None, "job.submitted 0"),
        (lanes, -1, None, "job.dispatched 1"),
        (("completions",), 0, None, "job.started 1"),
        (("completions",), 1, None, "end 1"),
        (("emissions",), 1, None, "emissions.recorded 1"),
    ]


def test_what_there_may_be_any_number_of_is_sought_to_the_end() -> None:
    ended = str(CLOCK.origin_grid + 10 * MINUTE)
    found = sought(job(), state="cancelled", cancel="enough", ended_at=ended)
    assert places(found)[1:] == [
        (JOBS, -2, 130, None),
        (("deferrals",), -2, 130, None),
    ]
    runs = sought(job(interruptible=True), state="running", attempt="0")
    assert places(runs)[1:] == [(("deferrals",), -2, None, None)]


def test_a_job_whose_workers_died_has_an_end_without_a_finish() -> None:
    at = CLOCK.origin_grid
    found = sought(
        job(),
        state="failed",
        attempt="2",
        ended_at=str(at + 5 * MINUTE),
        **{
            "1.dispatched": {"at": at, "pool": "fast", "reason": "x"},
            "1.started": {"at": at, "worker": "w"},
            "2.started": {"at": at + MINUTE, "worker": "w"},
        },
    )
    assert places(found)[-2:] == [
        (("completions",), -1, None, "job.started 2"),
        (("completions",), 3, None, "end 2"),
    ]


def test_a_submission_that_says_to_be_younger_than_its_job_is_found() -> None:
    """Publishers may state when they submitted."""
    later = job(submitted_at=CLOCK.origin_grid + 60 * MINUTE)
    found = sought(
        later,
        state="dispatched",
        attempt="1",
        **{"1.dispatched": {"at": CLOCK.origin_grid, "pool": "fast", "reason": "x"}},
    )
    assert places(found)[0] == (JOBS, -2, None, "job.submitted 0")
