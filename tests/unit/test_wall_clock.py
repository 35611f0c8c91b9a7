"""A clock that is held to another: right at every moment, whatever is done to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.wall_clock import TOLERANCE_MS, WallClock

HOUR = 3_600_000
START = 1_800_000_000_000


class World:
    """A server that is right, and a machine whose clock can be set."""

    def __init__(self) -> None:
        self.steady = 5_000
        self.off = 0
        self.clock = WallClock(lambda: self.right + self.off, lambda: self.steady)

    @property
    def right(self) -> int:
        return START + self.steady

    def ask(self, trip: int = 0) -> bool:
        sent, server = self.steady, self.right + trip // 2
        self.steady += trip
        return self.clock.heard(server, sent)

    @property
    def error(self) -> int:
        return self.clock.now() - self.right


def test_a_clock_that_is_right_to_the_second_is_left_alone() -> None:
    world = World()
    world.off = TOLERANCE_MS - 1
    assert not world.ask()
    assert world.error == world.off


def test_one_that_is_an_hour_off_is_corrected_once() -> None:
    world = World()
    world.off = -HOUR
    assert world.ask(trip=40)
    assert world.error == 0
    assert not world.ask(trip=90), "the noise of the next answers moves nothing"
    assert world.error == 0


def test_a_step_between_two_answers_is_seen_at_once() -> None:
    world = World()
    world.ask()
    for world.off in (HOUR, -HOUR, 5_000, 0):
        world.steady += 700
        assert world.error == 0


def test_small_steps_do_not_add_up() -> None:
    world = World()
    world.off = 900
    world.ask()
    world.off = 1_800
    assert world.error == 0


def test_before_the_server_was_heard_the_machine_is_believed() -> None:
    world = World()
    world.off = HOUR
    assert world.error == HOUR


def test_a_slow_answer_tells_nothing() -> None:
    world = World()
    world.off = HOUR
    assert not world.ask(trip=501)
    assert world.error == HOUR


@given(
    st.lists(
        st.tuples(
            st.integers(-HOUR, HOUR),
            st.integers(0, 5_000),
            st.none() | st.integers(0, 500),
        ),
        max_size=30,
    )
)
def test_the_error_stays_within_the_tolerance(steps: list[tuple[int, int, int | None]]) -> None:
    world = World()
    world.ask()
    for world.off, passes, trip in steps:
        world.steady += passes
        if trip is not None:
            world.ask(trip)
        assert abs(world.error) <= TOLERANCE_MS  # halves of odd trips are a ms at most
