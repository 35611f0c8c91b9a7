"""Grid time is a straight line over wall time, the same for all who read the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.clock import GridClock, day, from_fields, parse_time, rfc3339

times = st.integers(0, 250_000_000_000_000)
clocks = st.builds(
    GridClock,
    origin_wall=st.integers(0, 4_000_000_000_000),
    origin_grid=st.integers(0, 4_000_000_000_000),
    speed=st.floats(0.01, 1_000_000),
    signal=st.text(st.characters(exclude_categories=["Cs"])),
)


@given(clocks)
def test_a_clock_is_read_as_it_was_kept(clock: GridClock) -> None:
    kept = {name.encode(): value.encode() for name, value in clock.fields().items()}
    assert from_fields(kept) == clock


@given(clocks, st.integers(0, 10**10))
def test_there_and_back_is_the_same_to_a_tick(clock: GridClock, later: int) -> None:
    wall = clock.origin_wall + later
    tick = max(1.0, 1 / clock.speed)
    assert abs(clock.wall(clock.grid(wall)) - wall) <= tick
    assert clock.grid(clock.origin_wall) == clock.origin_grid


@given(clocks, st.integers(0, 10**9), st.integers(0, 10**9))
def test_time_never_runs_backwards(clock: GridClock, first: int, second: int) -> None:
    early, late = sorted((first, second))
    assert clock.grid(clock.origin_wall + early) <= clock.grid(clock.origin_wall + late)


def test_nobody_has_set_it() -> None:
    clock = from_fields({})
    assert clock.now(lambda: 123) == 123
    assert clock.seconds_until(5000, 3000) == 2


def test_faster() -> None:
    clock = GridClock(1000, 50_000, 60.0, "x")
    assert clock.grid(2000) == 110_000
    assert clock.length(1.5) == 90_000
    assert clock.seconds_until(110_000, 1000) == 1
    assert clock.seconds_until(50_000, 2000) == -1


@given(times)
def test_times_are_read_as_they_are_written(ms: int) -> None:
    assert parse_time(rfc3339(ms)) == ms
    assert rfc3339(ms).startswith(day(ms))


@pytest.mark.parametrize("text", ["", "noon", "2020-13-01", "2020-06-01T25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


def test_without_an_offset_it_is_utc() -> None:
    assert parse_time("1970-01-01T01:00") == parse_time("1970-01-01T02:00+01:00") == 3_600_000
