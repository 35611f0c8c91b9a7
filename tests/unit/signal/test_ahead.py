"""What an event says of the coming week: by which steps it is learned, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.signal.ahead import NOTHING, Ahead, Expectation, step_for
from carbon_orchestrator.signal.provider import Expected, Point
from carbon_orchestrator.signal.published import OWN
from carbon_orchestrator.signal.simulated import intensity
from streams.codec import envelope

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_700_006_400_000  # a midnight


def points(
    step: int, days: float = 4, factor: float = 1.0, noise: float = 0.0
) -> list[tuple[Point, int]]:
    random = np.random.default_rng(5)
    times = range(START, START + round(days * DAY), step)
    return [
        (Point(time, factor * intensity(time) * random.lognormal(0, noise)), step) for time in times
    ]


def learned(ahead: Ahead) -> list[tuple[int, float]]:
    """Step and value of each that `ahead` learns from now on."""
    seen: list[tuple[int, float]] = []
    observe = ahead._own.observe

    def noting(time: int, value: float) -> None:
        seen.append(((time - START) // ahead.step_ms, value))
        observe(time, value)

    ahead._own.observe = noting  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize(
    ("resolution", "step"), [(5, 15), (15, 15), (20, 15), (30, 30), (45, 30), (60, 60), (1440, 60)]
)
def test_a_signal_is_learned_by_the_quarter_half_or_whole_hour(resolution: int, step: int) -> None:
    assert step_for(resolution * MINUTE) == step * MINUTE


def test_finer_points_are_averaged_once_their_step_is_full() -> None:
    ahead = Ahead(15 * MINUTE)
    seen = learned(ahead)
    for number, value in enumerate((10.0, 20.0, 30.0, 50.0)):
        ahead.observe(START + number * 5 * MINUTE, value, 5 * MINUTE)
    assert seen == [(0, 20.0)], "the second quarter of an hour is not over"
    # The point at 20 minutes and that at 25 are missing: what there is, is its mean.
    ahead.observe(START + 30 * MINUTE, 70.0, 5 * MINUTE)
    assert seen == [(0, 20.0), (1, 50.0)]


def test_coarser_points_hold_for_their_resolution_and_no_longer() -> None:
    ahead = Ahead(15 * MINUTE)
    seen = learned(ahead)
    ahead.observe(START, 10.0, HOUR)
    assert seen == [(0, 10.0), (1, 10.0), (2, 10.0), (3, 10.0)]
    ahead.observe(START + 3 * HOUR, 20.0, HOUR)
    assert [step for step, _ in seen[4:]] == [12, 13, 14, 15], "the gap is not filled"


def test_what_is_not_newer_is_not_learned_again() -> None:
    ahead = Ahead(30 * MINUTE)
    seen = learned(ahead)
    for time in (HOUR, 0, HOUR, 30 * MINUTE):
        ahead.observe(START + time, 10.0, 30 * MINUTE)
    assert seen == [(2, 10.0)]
    assert ahead.last == START + HOUR


def size(told: Expectation) -> int:
    """Bytes of an event that says as much besides as events ever do."""
    observed = IntensityObserved(
        zone="Z" * 64,
        time=START,
        intensity=1234.5,
        source="a-recorded-trace.csv (Carbon intensity gCO₂eq/kWh (Life cycle))",
        kind="marginal",
        estimated=True,
        resolution_ms=300_000,
        age_ms=86_400_000,
        degraded="all sources failed: " + "x" * 600 + "; own forecast",
        forecast=told.forecast,
        forecast_low=told.low,
        forecast_high=told.high,
        forecast_source=told.source,
    )
    return len(envelope(observed, "signal"))


@pytest.mark.parametrize("resolution", [5, 15, 30, 60, 180, 1440])
@pytest.mark.parametrize(("factor", "noise"), [(1.0, 0.0), (0.01, 0.1), (10.0, 0.6)])
def test_a_week_is_told_in_8_kb(resolution: int, factor: float, noise: float) -> None:
    resolution_ms = resolution * MINUTE
    ahead = Ahead(step_for(resolution_ms))
    ahead.feed(points(resolution_ms, factor=factor, noise=noise))
    assert ahead.last is not None
    after = ahead.last
    told = ahead.expect(after, resolution_ms)
    assert size(told) <= 8192
    times = [time for time, _ in told.forecast]
    assert times[0] == after + ahead.step_ms
    assert all(before < later for before, later in pairwise(times))
    assert times[-1] >= after + 5 * DAY
    assert {time % ahead.step_ms for time in times} == {0}
    near = [later - time for time, later in pairwise(times)][:12]
    assert set(near) == {max(resolution_ms, ahead.step_ms)} or resolution == 1440
    assert len(told.low) == len(told.high) == len(told.forecast)
    for (_, value), low, high in zip(told.forecast, told.low, told.high, strict=True):
        assert 0 <= low <= value <= high


def test_the_largest_values_that_are_possible_fit_too() -> None:
    ahead = Ahead(15 * MINUTE)
    random = np.random.default_rng(1)
    for time in range(START, START + 2 * DAY, 15 * MINUTE):
        ahead.observe(time, float(random.choice([5.0, 5000.0])), 15 * MINUTE)
    assert ahead.last is not None
    assert size(ahead.expect(ahead.last, 15 * MINUTE)) <= 8192


def test_what_is_over_is_not_forecast() -> None:
    ahead = Ahead(HOUR)
    ahead.feed(points(HOUR))
    assert ahead.last is not None
    told = ahead.expect(ahead.last + 5 * HOUR, HOUR)
    assert told.forecast[0][0] == ahead.last + 6 * HOUR
    assert len(told.low) == len(told.high) == len(told.forecast)


def test_before_anything_is_learned_nothing_is_expected() -> None:
    ahead = Ahead(15 * MINUTE)
    ahead.observe(START, 100.0, 5 * MINUTE)  # not a whole step yet
    assert ahead.expect(START, 5 * MINUTE, [Expected(START + HOUR, 5.0)], "A") == NOTHING
    assert ahead.own(START, START + DAY) == []


def test_our_own_points_are_estimates_of_the_steps_that_went_by() -> None:
    ahead = Ahead(30 * MINUTE)
    ahead.feed(points(30 * MINUTE))
    assert ahead.last is not None
    last = ahead.last
    own = ahead.own(last + 30 * MINUTE, last + 2 * HOUR + 1)
    assert [point.time - last for point in own] == [HOUR, 90 * MINUTE, 2 * HOUR]
    assert all(point.estimated for point in own)
    told = dict(ahead.expect(last, 30 * MINUTE).forecast)
    assert [point.value for point in own] == pytest.approx([told[each.time] for each in own], abs=1)
    assert ahead.own(last, last) == ahead.own(last, last + HOUR // 2 - 1) == []
    # The values of a grid that has days are those of the day.
    assert own[0].value == pytest.approx(intensity(own[0].time), rel=0.2)


def fed(source: Sequence[Expected], at: str = "A") -> tuple[Ahead, Expectation]:
    ahead = Ahead(30 * MINUTE)
    ahead.feed(points(30 * MINUTE))
    assert ahead.last is not None
    return ahead, ahead.expect(ahead.last, 30 * MINUTE, source, at)


def test_a_source_that_looks_ahead_is_heard_and_named() -> None:
    last = START + 4 * DAY - 30 * MINUTE
    said = [Expected(last + n * 30 * MINUTE, 1000.0) for n in range(-2, 49)]
    _, own = fed([])
    assert own.source == OWN
    _, told = fed(said)
    assert told.source == "A, corrected"
    assert told.forecast[0][1] > 2 * own.forecast[0][1]
    assert told.forecast[-1][1] == pytest.approx(own.forecast[-1][1], rel=0.1), "a week ahead"


def test_finer_forecasts_are_averaged_and_gaps_bridged() -> None:
    last = START + 4 * DAY - 30 * MINUTE
    fine = [Expected(last + n * 10 * MINUTE, 500.0 + n % 3) for n in range(3, 30)]
    coarse = [Expected(last + n * 30 * MINUTE, 501.0) for n in (1, 4, 9)]
    (_, first), (_, second) = fed(fine), fed(coarse)
    for (_, one), (_, other) in zip(first.forecast[:9], second.forecast[:9], strict=True):
        assert one == pytest.approx(other, abs=2)


def test_a_forecast_of_the_past_is_none() -> None:
    _, told = fed([Expected(START, 1000.0)])
    assert told.source == OWN


def test_a_source_whose_forecasts_turn_out_wrong_is_believed_less() -> None:
    ahead = Ahead(30 * MINUTE)
    history = points(30 * MINUTE, days=3)
    errors: list[float] = []
    for number, (point, resolution) in enumerate(history):
        ahead.observe(point.time, point.value, resolution)
        said = [Expected(point.time + n * 30 * MINUTE, 2000.0) for n in range(1, 97)]
        told = ahead.expect(point.time, resolution, said, "A")
        if number in (2, len(history) - 1):
            errors.append(abs(told.forecast[24][1] - intensity(told.forecast[24][0])))
    assert errors[1] < errors[0] / 20
