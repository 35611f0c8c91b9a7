"""Intensity as a step function, and the exact emissions of energy spent under it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.signal.series import Series, emissions_ug

HOUR = 3_600_000
values = st.floats(0, 1500, allow_nan=False)
points = st.dictionaries(st.integers(0, 1000), values, max_size=30)


def series(known: dict[int, float], hold_ms: int = 100) -> Series:
    made = Series(hold_ms)
    for time, value in known.items():
        made.add(time, value)
    return made


def test_a_value_holds_until_the_next_but_no_longer_than_the_hold() -> None:
    made = series({10: 1.0, 13: 1.5, 20: 2.0}, hold_ms=5)
    assert [made.at(t) for t in (9, 10, 12, 13, 17, 18, 19)] == [
        None, 1.0, 1.0, 1.5, 1.5, None, None,
    ]  # fmt: skip
    assert [made.at(t) for t in (20, 24, 25)] == [2.0, 2.0, None]
    assert made.last == (20, 2.0)
    assert Series(5).last is None


def test_a_point_of_the_same_time_is_a_revision() -> None:
    made = series({10: 1.0, 20: 2.0})
    made.add(10, 7.0)
    assert (made.at(10), made.at(20), len(made)) == (7.0, 2.0, 2)


def test_values_between_takes_both_ends() -> None:
    made = series({10: 1.0, 20: 2.0, 30: 3.0})
    assert made.values_between(10, 20) == [1.0, 2.0]
    assert made.values_between(11, 29) == [2.0]
    assert made.values_between(31, 99) == []


@given(points)
def test_the_order_of_insertion_does_not_matter(known: dict[int, float]) -> None:
    ascending, descending = (
        series(dict(sorted(known.items()))),
        series(dict(sorted(known.items(), reverse=True))),
    )
    probes = range(-1, 1200, 7)
    assert [ascending.at(t) for t in probes] == [descending.at(t) for t in probes]


@given(points, st.integers(0, 1200))
def test_forgetting_changes_nothing_from_then_on(known: dict[int, float], time: int) -> None:
    full, short = series(known), series(known)
    short.forget_before(time)
    assert [short.at(t) for t in range(time, 1300)] == [full.at(t) for t in range(time, 1300)]
    assert len(short.values_between(-1, time - 1)) <= 1


@given(points, st.integers(-50, 1300), st.integers(0, 400))
def test_the_mean_is_that_of_every_millisecond(
    known: dict[int, float], start: int, length: int
) -> None:
    made = series(known)
    mean, fraction = made.mean(start, start + length)
    ticks = [made.at(t) for t in range(start, start + max(length, 1))]
    there = [value for value in ticks if value is not None]
    assert fraction == pytest.approx(len(there) / len(ticks))
    if there:
        assert mean == pytest.approx(sum(there) / len(there))
    else:
        assert mean is None


def test_emissions_of_one_kilowatt_hour() -> None:
    made = series({0: 400.0}, hold_ms=10 * HOUR)
    assert emissions_ug(3_600_000_000, 0, HOUR, made) == (400_000_000, 0)
    assert emissions_ug(3_600_000_000, 5, 5, made) == (400_000_000, 0)


def test_energy_without_a_known_intensity_is_unpriced() -> None:
    made = series({0: 360.0}, hold_ms=100)
    assert emissions_ug(1000, 50, 250, made) == (25, 750)
    assert emissions_ug(1000, 100, 200, made) == (0, 1000)
    assert emissions_ug(1000, 100, 100, made) == (0, 1000)
    assert emissions_ug(0, 0, 10, made) == (0, 0)


def test_an_end_before_its_start_is_refused() -> None:
    with pytest.raises(ValueError, match="before start"):
        emissions_ug(1, 2, 1, Series(1))
    with pytest.raises(ValueError, match="before start"):
        Series(1).mean(2, 1)
    with pytest.raises(ValueError, match="hold_ms"):
        Series(-1)


@given(points, st.integers(0, 10**15), st.integers(-50, 1300), st.integers(1, 400))
def test_emissions_are_exact(known: dict[int, float], energy: int, start: int, length: int) -> None:
    made = series(known)
    exact = Fraction(0)
    unknown = 0
    for tick in range(start, start + length):
        value = made.at(tick)
        if value is None:
            unknown += 1
        else:
            exact += Fraction(value)
    micrograms, unpriced = emissions_ug(energy, start, start + length, made)
    assert abs(micrograms - exact * energy / length / 3600) <= Fraction(1, 2)
    assert abs(unpriced - Fraction(energy * unknown, length)) <= Fraction(1, 2)


@given(
    points,
    st.integers(-50, 1300),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(0, 10**9),
)
def test_emissions_and_means_add_up_over_split_intervals(
    known: dict[int, float], start: int, first: int, second: int, power: int
) -> None:
    made, middle, end = series(known), start + first, start + first + second
    whole = emissions_ug(power * (first + second), start, end, made)
    parts = (
        emissions_ug(power * first, start, middle, made),
        emissions_ug(power * second, middle, end, made),
    )
    assert abs(whole[0] - parts[0][0] - parts[1][0]) <= 1
    assert whole[1] == parts[0][1] + parts[1][1]
    integrals = [
        (mean or 0.0) * fraction * (b - a)
        for a, b in ((start, middle), (middle, end), (start, end))
        for mean, fraction in [made.mean(a, b)]
    ]
    assert integrals[0] + integrals[1] == pytest.approx(integrals[2], abs=1e-6)
