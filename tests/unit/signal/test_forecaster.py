"""The forecaster learns what repeats, forgets what passes, and knows how sure it is."""

from __future__ import annotations

import csv
import os
from math import pi, sin
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_orchestrator.signal.forecaster import Forecaster

DATA = Path(os.environ.get("CARBON_DATA", Path(__file__).parents[4] / "shared" / "data"))
HALF_HOUR = 1_800_000
DAY = 48  # half hours
MONDAY = 1_577_664_000_000  # 2019-12-30


def profile(step: int) -> float:
    """A daily course, lower at weekends."""
    weekend = 60 if step // DAY % 7 >= 5 else 0
    return 300 + 100 * sin(2 * pi * (step % DAY) / DAY) - weekend


def fed(values: list[float], start: int = MONDAY) -> Forecaster:
    forecaster = Forecaster(HALF_HOUR)
    for step, value in enumerate(values):
        forecaster.observe(start + step * HALF_HOUR, value)
    return forecaster


def test_it_says_when_it_cannot_know() -> None:
    with pytest.raises(ValueError, match="must divide an hour"):
        Forecaster(7_000_000)
    with pytest.raises(ValueError, match="nothing has been observed"):
        Forecaster(HALF_HOUR).forecast(3)


def test_one_value_is_enough_to_begin_with() -> None:
    forecast = fed([200.0]).forecast(336)
    assert forecast.expected == pytest.approx(np.full(336, 200.0))
    assert np.all(forecast.low < forecast.expected)
    assert np.all(forecast.high > forecast.expected)


def test_the_day_and_the_weekend_are_learned() -> None:
    forecaster = fed([profile(step) for step in range(28 * DAY)])
    truth = np.array([profile(step) for step in range(28 * DAY, 35 * DAY)])
    off = np.abs(forecaster.forecast(7 * DAY).expected - truth) / truth
    assert off.max() < 0.06
    assert off.mean() < 0.02


def test_a_departure_is_carried_on_and_fades() -> None:
    values = [profile(step) for step in range(28 * DAY)]
    for back in range(1, 7):
        values[-back] *= 0.6
    usual = np.array([profile(step) for step in range(28 * DAY, 35 * DAY)])
    gone = fed(values).forecast(7 * DAY).expected / usual
    assert gone[0] < 0.75
    assert gone[0] < gone[DAY] < gone[4 * DAY]
    assert gone[-1] == pytest.approx(1, abs=0.08)


def test_what_is_known_already_changes_nothing() -> None:
    once, twice = fed([profile(step) for step in range(DAY)]), Forecaster(HALF_HOUR)
    for step in range(DAY):
        twice.observe(MONDAY + step * HALF_HOUR, profile(step))
        twice.observe(MONDAY + step * HALF_HOUR, 9999.0)
        twice.observe(MONDAY, 9999.0)
    assert np.array_equal(once.forecast(DAY).expected, twice.forecast(DAY).expected)


@pytest.mark.parametrize("gap", [5, DAY, 30 * DAY, 2000 * DAY])
def test_a_gap_is_bridged_by_the_usual(gap: int) -> None:
    forecaster = fed([profile(step) for step in range(28 * DAY)])
    after = 28 * DAY + gap
    forecaster.observe(MONDAY + after * HALF_HOUR, profile(after))
    truth = np.array([profile(step) for step in range(after + 1, after + 1 + DAY)])
    assert np.abs(forecaster.forecast(DAY).expected / truth - 1).max() < 0.12


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(1, 700), st.floats(0, 3000, allow_subnormal=False)),
        min_size=1,
        max_size=150,
    ),
    st.integers(1, 400),
)
def test_forecasts_are_intensities_in_order(points: list[tuple[int, float]], steps: int) -> None:
    forecaster, time = Forecaster(HALF_HOUR), MONDAY
    for gap, value in points:
        time += gap * HALF_HOUR
        forecaster.observe(time, value)
    forecast = forecaster.forecast(steps)
    for values in (forecast.low, forecast.expected, forecast.high):
        assert values.shape == (steps,)
        assert np.all(np.isfinite(values))
        assert np.all(values >= 0)
    assert np.all(forecast.low <= forecast.expected)
    assert np.all(forecast.expected <= forecast.high)


def test_eight_of_ten_values_fall_between_the_quantiles() -> None:
    random, forecaster, departure = np.random.default_rng(5), Forecaster(3_600_000), 0.0
    inside: dict[int, list[bool]] = {1: [], 24: [], 72: []}
    promised: dict[tuple[int, int], tuple[float, float]] = {}
    for hour in range(24 * 120):
        departure = 0.95 * departure + random.normal(0, 0.06)
        value = (300 + 80 * sin(2 * pi * hour / 24)) * float(np.exp(departure))
        for lead, hits in inside.items():
            if (hour, lead) in promised and hour > 24 * 30:
                low, high = promised[hour, lead]
                hits.append(low <= value <= high)
        forecaster.observe(MONDAY + hour * 3_600_000, value)
        forecast = forecaster.forecast(72)
        for lead in inside:
            promised[hour + lead, lead] = (
                float(forecast.low[lead - 1]),
                float(forecast.high[lead - 1]),
            )
    for lead, hits in inside.items():
        assert 0.72 <= np.mean(hits) <= 0.9, lead


@pytest.mark.parametrize("region", ["ger", "gb"])
def test_it_beats_the_seasonal_naive_forecast(region: str) -> None:
    path = DATA / f"lwa_{region}_ci.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not here; set CARBON_DATA to the folder that holds it")
    with path.open() as text:
        rows = [row for row in list(csv.reader(text))[1:] if int(row[0][14:16]) % 30 == 0]
    values = np.array([float(row[1]) for row in rows[: 90 * DAY]])
    forecaster, ours, naive = Forecaster(HALF_HOUR), [], []
    for step in range(len(values) - 2 * DAY):
        forecaster.observe(MONDAY - 10 * 86_400_000 + step * HALF_HOUR, float(values[step]))
        if step >= 14 * DAY and step % 5 == 0:
            ahead = values[step + 1 : step + 1 + DAY]
            ours.append(np.abs(forecaster.forecast(DAY).expected - ahead).mean())
            naive.append(np.abs(values[step + 1 - DAY : step + 1] - ahead).mean())
    assert np.mean(ours) < 0.85 * np.mean(naive)
