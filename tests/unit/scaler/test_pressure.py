"""What deadlines ask of a lane that is read in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.scaler.pressure import Pressure, Wait, pressure

NOW, AHEAD, HOUR = 1_600_000_000_000, 60_000, 3_600_000


def wait(hours: float | None, length: float = 1.0) -> Wait:
    latest = None if hours is None else NOW + AHEAD + round(hours * HOUR)
    return Wait(latest, round(length * HOUR))


def test_who_must_start_takes_those_before_it_along() -> None:
    assert pressure([], NOW, AHEAD) == Pressure()
    assert pressure([wait(None), wait(0), wait(None)], NOW, AHEAD).pressing == 2
    assert pressure([wait(-5)], NOW, AHEAD) == Pressure(1, 0)


def test_work_before_a_deadline_sets_the_pace() -> None:
    six = [wait(None) for _ in range(6)]
    assert pressure([*six, wait(2)], NOW, AHEAD) == Pressure(0, 3)
    assert pressure([*six, wait(6)], NOW, AHEAD) == Pressure(0, 1)
    # No more slots than there are jobs, however long they run.
    assert pressure([wait(None, 100), wait(1)], NOW, AHEAD) == Pressure(0, 2)


waits = st.lists(
    st.builds(
        Wait,
        latest=st.none() | st.integers(NOW - HOUR, NOW + 10 * HOUR),
        length=st.integers(0, 5 * HOUR),
    ),
    max_size=30,
)


@given(waits)
def test_at_that_pace_everybody_starts_in_time(lane: list[Wait]) -> None:
    """Played through: slots take jobs in order, each at least as long as said."""
    found = pressure(lane, NOW, AHEAD)
    assert 0 <= max(found) <= len(lane)
    behind = [each for each in lane if each.latest is None or each.latest > NOW + AHEAD]
    before = 0
    for position, each in enumerate(lane, 1):
        if each in behind and each.latest is not None:
            left = each.latest - NOW - AHEAD
            # Either the slots can do all the work before it by then, or each job has its own.
            assert before <= found.pace * left or found.pace >= position
        before += each.length
