"""The step function of expected intensity, against plain reckoning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.router.curve import Curve
from carbon_orchestrator.router.pieces import Pieces

HOUR = 3_600_000
NOW = 1_577_880_000_000

values = st.lists(st.integers(0, 900), min_size=1, max_size=30)
widths = st.integers(1, 5)


@st.composite
def curves(draw: st.DrawFn) -> tuple[Curve, list[int]]:
    """A curve on whole hours from NOW, and its value in each hour."""
    hours: list[int] = []
    edges = [NOW]
    levels = draw(values)
    for level in levels:
        width = draw(widths)
        hours += [level] * width
        edges.append(edges[-1] + width * HOUR)
    return Curve(np.array(edges, dtype=np.int64), np.array(levels, dtype=np.float64)), hours


def beyond(hours: list[int], count: int) -> list[float]:
    """The hours with what holds after them: the mean of the last day."""
    tail = sum(hours[-24:]) / len(hours[-24:])
    return [*hours, *[tail] * count]


@given(curves(), st.integers(0, 200), st.integers(1, 60))
def test_the_mean_is_that_of_the_hours(made: tuple[Curve, list[int]], at: int, long: int) -> None:
    curve, hours = made
    known = beyond(hours, at + long)[at : at + long]
    got = curve.mean(NOW + at * HOUR, NOW + (at + long) * HOUR)
    # The last day begins at an edge, so a step across its beginning counts whole.
    if at + long <= len(hours):
        assert got == pytest.approx(sum(known) / long, abs=1e-6)


@given(curves(), st.integers(0, 20 * HOUR), st.integers(0, 40 * HOUR), st.integers(1, 30 * HOUR))
def test_no_start_beats_those_looked_at(
    made: tuple[Curve, list[int]], after: int, wait: int, length: int
) -> None:
    curve, _ = made
    now = NOW + after
    latest = now + wait
    starts = curve.starts(now, latest, length)
    assert starts[0] == now
    assert starts[-1] == max(latest, now)
    best = curve.means(starts, length).min()
    anywhere = np.linspace(now, latest, 97).astype(np.int64)
    assert curve.means(anywhere, length).min() >= best - 1e-6 * max(best, 1)


@given(curves(), st.integers(1, 40), st.data())
def test_the_cheapest_pieces_are_the_cheapest_hours(
    made: tuple[Curve, list[int]], hours_open: int, data: st.DataObject
) -> None:
    curve, hours = made
    hours_open = min(hours_open, len(hours))
    need = data.draw(st.integers(1, hours_open))
    starts, lengths, worth = curve.slots(NOW, NOW + hours_open * HOUR)
    assert int(lengths.sum()) == hours_open * HOUR
    pieces = Pieces(starts, lengths, worth, worth)
    chosen = pieces.cheapest(need * HOUR)
    assert chosen is not None
    cheapest = sorted(hours[:hours_open])[:need]
    assert chosen.mean == pytest.approx(sum(cheapest) / need)
    wanted = pieces.begins(need * HOUR)
    assert bool(wanted) == (chosen.start < NOW + int(lengths[0]))
    if wanted:  # and where only a part, its end
        assert chosen.start == NOW + int(lengths[0]) - wanted
    assert 1 <= chosen.runs <= need


def test_pieces_too_short_for_the_job_are_none() -> None:
    curve = Curve(np.array([NOW, NOW + HOUR], dtype=np.int64), np.array([5.0]))
    pieces = Pieces(*curve.slots(NOW, NOW + HOUR), curve.slots(NOW, NOW + HOUR)[2])
    assert pieces.cheapest(HOUR + 1) is None


def test_full_stretches_are_cut_out() -> None:
    curve = Curve(np.array([NOW, NOW + 4 * HOUR], dtype=np.int64), np.array([5.0]))
    starts, lengths, _ = curve.slots(NOW, NOW + 4 * HOUR, [(NOW + HOUR, NOW + 2 * HOUR)])
    assert starts.tolist() == [NOW, NOW + 2 * HOUR]
    assert lengths.tolist() == [HOUR, 2 * HOUR]


def test_a_forecast_in_disorder_makes_the_same_curve() -> None:
    orderly = [(NOW + HOUR, 2.0), (NOW + 2 * HOUR, 3.0)]
    messy = [(NOW + 2 * HOUR, 9.0), (NOW, 7.0), *reversed(orderly), (NOW - HOUR, 1.0)]
    one, two = Curve.of(NOW, 1.0, orderly, HOUR), Curve.of(NOW, 1.0, messy, HOUR)
    assert one.edges.tolist() == two.edges.tolist() == [NOW + n * HOUR for n in range(4)]
    # Of two words about one time the last counts.
    assert (one.values.tolist(), two.values.tolist()) == ([1, 2, 3], [1, 2, 3])
    assert Curve.of(NOW, 4.0, [], HOUR).mean(NOW, NOW + 9 * HOUR) == 4.0


def test_a_curve_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        Curve(np.array([NOW], dtype=np.int64), np.array([]))
