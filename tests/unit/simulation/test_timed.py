"""The simulation with the times of a record: what the router knew of ends when it looked."""

from __future__ import annotations

import pytest
from small_grids import FAST_ONLY, HOUR, NOW, config, job

from carbon_orchestrator.config import Config
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.router.policy import Defer, Dispatch
from carbon_orchestrator.simulation.engine import Setup
from carbon_orchestrator.simulation.grid import RecordedGrid
from carbon_orchestrator.simulation.timed import Attempt, Timing, simulate_timed
from carbon_orchestrator.simulation.workload import Job

LOOK = NOW + HOUR // 2


def grid(*events: list[float]) -> RecordedGrid:
    """Intensities of the hours from NOW on, said at NOW and then just before LOOK."""
    seen = []
    for time, (first, *hours) in zip((NOW, LOOK - 1), events, strict=True):
        ahead = [(NOW + n * HOUR, value) for n, value in enumerate(hours, 1)]
        event = IntensityObserved(
            zone="local",
            time=NOW,
            intensity=first,
            source="s",
            resolution_ms=HOUR,
            forecast=ahead,
        )
        seen.append((time, event))
    return RecordedGrid("local", seen, Bands.of(Config().threshold))


def attempt(ended: int, place: int, suspended: bool = False) -> Attempt:
    return Attempt(NOW, NOW, ended, ended, ended - NOW, suspended, place)


def submitted(number: int, at: float, hours: float, interruptible: bool = False) -> Job:
    it = job(at, hours, within=12, number=number, interruptible=interruptible)
    return it._replace(seen_at=NOW + round(at * HOUR))


@pytest.mark.parametrize(("ends", "dispatched"), [(0, False), (1, True)])
def test_a_look_that_changes_nothing_knew_of_the_ends_that_its_review_says(
    ends: int, dispatched: bool
) -> None:
    """The first job ends early, just before a look at the second, which waits for its room."""
    jobs = [submitted(0, 0, 2), submitted(1, 0.1, 1)]
    hours = [100.0, 100, 150, 300, 300, 300, 300]
    setup = Setup(
        config=config("greenest_window"),
        pools=FAST_ONLY,
        slots={("fast", "local"): 1},
        ask_always=True,
    )
    timing = Timing(
        sweeps={LOOK: (LOOK - 1, LOOK + 5)},
        pauses={},
        looked={},
        attempts={"0": [attempt(LOOK - 1, 1)]},
        books=[(NOW, 0), (LOOK, ends)],
    )
    _, second = simulate_timed(jobs, [grid(hours, hours)], setup, timing)
    first, then = second.decisions
    assert isinstance(first.answer, Defer)
    assert first.answer.planned_start == NOW + 2 * HOUR
    assert isinstance(then.answer, Dispatch)
    assert (then.at == LOOK) is dispatched
    assert dispatched or then.at >= NOW + 2 * HOUR


@pytest.mark.parametrize(("ends", "start"), [(0, 4), (1, 3)])
def test_who_ended_unknown_to_a_look_was_planned_for_in_it(ends: int, start: int) -> None:
    """Of the two that run one more fits into the greenest hour, beside a third; the first ends
    just before the look that asks both to pause."""
    jobs = [
        submitted(0, 0, 2, interruptible=True),
        submitted(1, 0, 2, interruptible=True),
        submitted(2, 0.1, 1),
    ]
    before = [100.0, 200, 200, 150, 200, 200, 200, 200]
    after = [300.0, 300, 300, 50, 250, 300, 300, 300]
    setup = Setup(
        config=config("greenest_slots"),
        pools=FAST_ONLY,
        slots={("fast", "local"): 2},
        ask_always=True,
    )
    timing = Timing(
        sweeps={},
        pauses={LOOK: (LOOK - 100, LOOK + 5)},
        looked={"1": [LOOK]},
        attempts={
            "0": [attempt(LOOK - 1, 1)],
            "1": [attempt(LOOK + 50, 2, suspended=True)],
        },
        books=[(NOW, 0), (LOOK, ends)],
    )
    ended, paused, third = simulate_timed(jobs, [grid(before, after)], setup, timing)
    assert [type(made.answer) for made in ended.decisions] == [Dispatch]
    assert isinstance(third.decisions[0].answer, Defer)
    assert third.decisions[0].answer.planned_start == NOW + 3 * HOUR
    asked = paused.decisions[1]
    assert (asked.at, asked.running) == (LOOK, True)
    assert isinstance(asked.answer, Defer)
    assert asked.answer.planned_start == NOW + start * HOUR
