"""The least that a run could have emitted is what trying all starts, or all pieces, finds."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.accounting.bound import least_ug
from carbon_orchestrator.signal.series import Series, emissions_ug

steps = st.lists(st.tuples(st.integers(1, 9), st.floats(0, 900)), min_size=1, max_size=8)


def series(points: list[tuple[int, float]], start: int = 0) -> tuple[Series, list[float]]:
    """(ms, value) steps from `start` on, and the value of every millisecond."""
    known, time, each_ms = Series(10_000), start, list[float]()
    for length, value in points:
        known.add(time, value)
        time += length
        each_ms += [value] * length
    return known, each_ms


@given(steps, st.integers(0, 10**9), st.data())
def test_the_best_time_and_the_best_pieces_are_found(
    points: list[tuple[int, float]], mj: int, data: st.DataObject
) -> None:
    known, values = series(points)
    start = data.draw(st.integers(0, len(values) - 1))
    end = data.draw(st.integers(start + 1, len(values)))
    length = data.draw(st.integers(1, end - start))
    window = [Fraction(each) for each in values[start:end]]
    runs = [sum(window[at : at + length]) for at in range(len(window) - length + 1)]
    for broken, least in ((False, min(runs)), (True, sum(sorted(window)[:length]))):
        found = least_ug(mj, length, start, end, known, broken=broken)
        assert found == floor(mj * Fraction(least) / (3600 * length))


@given(steps, st.integers(0, 10**9), st.data(), st.booleans())
def test_no_run_within_the_window_emits_less(
    points: list[tuple[int, float]], mj: int, data: st.DataObject, broken: bool
) -> None:
    known, values = series(points)
    at = data.draw(st.integers(0, len(values) - 1))
    until = data.draw(st.integers(at, len(values)))
    least = least_ug(mj, until - at, 0, len(values), known, broken=broken)
    assert least is not None
    assert least <= emissions_ug(mj, at, until, known)[0]


def test_a_window_that_is_known_in_part_has_no_least() -> None:
    known, values = series([(5, 100.0), (5, 50.0)], start=10)
    assert least_ug(3600, 2, 10, 20, known, broken=False) == 50
    assert least_ug(3600, 2, 9, 20, known, broken=True) is None
    assert least_ug(3600, 0, 9, 9, known, broken=False) is None
    assert least_ug(3600, 0, 10, 10, known, broken=False) == 100
    assert least_ug(3600, 0, 10, 20, known, broken=False) == 50
    with pytest.raises(ValueError, match="do not fit"):
        least_ug(3600, len(values) + 1, 10, 20, known, broken=False)
