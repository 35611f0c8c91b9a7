"""The times of decisions say what was known, whatever happens within a tick of the clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.router.moments import Moments


def test_a_change_within_a_tick_lies_between_what_was_decided_before_and_after() -> None:
    moments = Moments(lambda: 7)
    before = moments.now()
    first = moments.change()
    between = moments.now()
    second = moments.change()
    after = moments.now()
    assert before < first < between < second < after


def test_deciding_alone_does_not_run_ahead_of_the_clock() -> None:
    moments = Moments(lambda: 7)
    moments.change()
    assert len({moments.now() for _ in range(100)}) == 1


def test_a_clock_that_goes_on_is_followed() -> None:
    times = iter([5, 5, 1000, 2000])
    moments = Moments(lambda: next(times))
    assert [moments.change(), moments.now()] == [5, 6]
    assert [moments.change(), moments.now()] == [1000, 2000]


def test_a_clock_that_is_set_back_is_followed() -> None:
    times = iter([2000, 1000, 1000])
    moments = Moments(lambda: next(times))
    assert moments.change() == 2000
    assert moments.now() == 1000
    assert moments.change() == 1001


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans())))
def test_decisions_and_changes_are_never_at_one_time(steps: list[tuple[int, bool]]) -> None:
    clock, last, changed = 1, 0, 0
    moments = Moments(lambda: clock)
    for tick, change in steps:
        clock += tick
        told = moments.change() if change else moments.now()
        assert told >= clock
        assert told > (last if change else changed)
        last = max(last, told)
        changed = told if change else changed
