"""Bands and forecasts as a policy sees them."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import ThresholdConfig
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands, Outlook, band_of, outlook, quantile
from carbon_orchestrator.signal.series import Series

STEP = 1_800_000
NOW = 1_577_880_000_000
ABSOLUTE = Bands(mode="absolute", low=200, high=300, hysteresis=0.05)
values = st.lists(st.floats(0, 600, allow_nan=False), min_size=1, max_size=60)


def observe(
    past: list[float],
    bands: Bands,
    *,
    forecast: list[tuple[int, float]] | None = None,
    now: int = NOW,
) -> Outlook:
    """The outlook when `past` was seen, one value each half hour, the last at NOW."""
    series = Series(STEP)
    for back, value in enumerate(reversed(past)):
        series.add(NOW - back * STEP, value)
    event = IntensityObserved(
        zone="DE",
        time=NOW,
        intensity=past[-1],
        source="test",
        resolution_ms=STEP,
        forecast=forecast or [],
    )
    return outlook(event, "7-0", series, bands, now)


def test_settings_come_from_the_configuration() -> None:
    config = ThresholdConfig(mode="absolute", low=1, high=2, window="1h", max_age="90s")
    assert Bands.of(config) == Bands(
        mode="absolute", low=1, high=2, window_ms=3_600_000, max_age_ms=90_000
    )
    assert Bands.of(ThresholdConfig()) == Bands()


def test_absolute_limits_are_taken_as_given() -> None:
    seen = observe([250.0], ABSOLUTE)
    assert (seen.band, seen.low, seen.high, seen.intensity) == ("medium", 200, 300, 250.0)
    assert (seen.zone, seen.intensity_id, seen.time) == ("DE", "7-0", NOW)
    assert seen.summary == "250 g/kWh is medium (limits 200-300)"


def test_relative_limits_are_quantiles_of_the_window() -> None:
    seen = observe([float(value) for value in range(100, 201)], Bands(low=0.25, high=0.75))
    # 48 h of half hours are the last 97 values, 104 to 200.
    assert (seen.low, seen.high, seen.band) == (128.0, 176.0, "high")


def test_few_distinct_values_have_limits_around_their_mean() -> None:
    seen = observe([400.0] * 50, Bands())
    assert [seen.low, seen.high] == pytest.approx([360, 440])
    assert seen.band == "medium"
    assert observe([0.0] * 50, Bands()).band == "low"


@given(st.lists(st.floats(0, 600), min_size=1, max_size=40), st.floats(0, 1), st.randoms())
def test_quantiles_lie_between_the_extremes_and_ascend(
    sample: list[float], fraction: float, chance: random.Random
) -> None:
    ordered = sorted(sample)
    lower = fraction * chance.random()
    slack = 1e-9
    assert ordered[0] - slack <= quantile(ordered, lower)
    assert quantile(ordered, lower) <= quantile(ordered, fraction) + slack
    assert quantile(ordered, fraction) <= ordered[-1] + slack


def test_quantiles_of_type_7() -> None:
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.4) == pytest.approx(2.2)
    assert quantile([5.0], 0.9) == 5.0


def test_limits_belong_to_the_band_below() -> None:
    assert [band_of(v, 200, 300) for v in (200, 200.1, 300, 300.1)] == [
        "low",
        "medium",
        "medium",
        "high",
    ]


@pytest.mark.parametrize(
    ("past", "band"),
    [
        ([150, 205], "low"),  # 200 passed, but not by 5 %
        ([150, 211], "medium"),
        ([150, 211, 195], "medium"),
        ([150, 211, 189], "low"),
        ([250, 310], "medium"),
        ([250, 316], "high"),
        ([250, 316, 290], "high"),
        ([250, 316, 284], "medium"),
        ([150, 400], "high"),
        ([400, 150], "low"),
    ],
)
def test_a_band_is_left_only_well_past_its_limit(past: list[float], band: str) -> None:
    assert observe([float(value) for value in past], ABSOLUTE).band == band


@given(st.sampled_from([200.0, 300.0]), st.lists(st.floats(-0.049, 0.049), min_size=2))
def test_no_flapping_within_the_dead_band(limit: float, offsets: list[float]) -> None:
    past = [limit * (1 + offset) for offset in offsets]
    bands = {observe(past[: count + 1], ABSOLUTE).band for count in range(len(past))}
    assert len(bands) == 1


@given(values)
def test_the_band_strays_from_the_plain_one_only_within_the_dead_band(past: list[float]) -> None:
    seen = observe(past, ABSOLUTE)
    if seen.band != band_of(past[-1], 200, 300):
        assert any(abs(past[-1] - limit) <= 0.05 * limit + 1e-9 for limit in (200, 300))


@given(values, st.lists(st.floats(0, 600), max_size=10))
def test_what_lies_before_the_window_does_not_count(past: list[float], older: list[float]) -> None:
    bands = Bands(low=0.3, high=0.6, window_ms=(len(past) - 1) * STEP)
    assert observe(older + past, bands) == observe(past, bands)


def test_the_events_own_value_need_not_be_in_the_series() -> None:
    past = [float(value) for value in range(100, 150)]
    with_it, series = observe(past, Bands()), Series(STEP)
    for back, value in enumerate(reversed(past)):
        if back:
            series.add(NOW - back * STEP, value)
    event = IntensityObserved(
        zone="DE", time=NOW, intensity=past[-1], source="test", resolution_ms=STEP
    )
    assert outlook(event, "7-0", series, Bands(), NOW) == with_it


def test_an_old_intensity_is_no_signal() -> None:
    last = NOW + Bands().max_age_ms
    seen = observe([250.0], ABSOLUTE, now=last)
    assert (seen.band, seen.band_at(last), seen.band_at(last + 1)) == ("medium", "medium", None)
    old = observe([250.0], ABSOLUTE, now=last + 1)
    assert (old.intensity, old.band, old.low, old.high) == (None, None, None, None)
    assert (old.intensity_id, old.time, old.band_at(NOW)) == ("7-0", NOW, None)


def test_nothing_known_is_no_signal() -> None:
    assert Outlook(zone="DE").band_at(NOW) is None
    assert Outlook(zone="DE").next_at_most("medium", NOW) is None


def test_the_next_forecast_in_a_band_lies_after_now() -> None:
    at = [NOW + step * STEP for step in range(6)]
    forecast = [(at[1], 350.0), (at[2], 250.0), (at[3], 150.0), (at[4], 350.0), (at[5], 200.0)]
    seen = observe([400.0], ABSOLUTE, forecast=list(reversed(forecast)))
    assert seen.forecast == tuple(forecast)
    assert seen.next_at_most("medium", NOW) == (at[2], 250.0)
    assert seen.next_at_most("low", NOW) == (at[3], 150.0)
    assert seen.next_at_most("medium", at[2]) == (at[3], 150.0)
    assert seen.next_at_most("low", at[3]) == (at[5], 200.0)
    assert seen.next_at_most("low", at[5]) is None


def test_a_band_is_reached_well_within_its_limit_only() -> None:
    at = [NOW + step * STEP for step in range(6)]
    # Limits 200 and 300: high is left below 285, medium below 190, low above 210.
    values = [290.0, 280.0, 195.0, 185.0, 204.0]
    seen = observe([400.0], ABSOLUTE, forecast=list(zip(at[1:], values, strict=True)))
    assert seen.next_at_most("medium", NOW) == (at[1], 290.0)
    assert seen.next_reached("medium", NOW) == (at[2], 280.0)
    assert seen.next_reached("low", NOW) == (at[4], 185.0)
    assert seen.next_reached("low", at[4]) == (at[5], 204.0)
    assert seen.next_reached("low", at[5]) is None


def test_an_outlook_survives_json() -> None:
    seen = observe([250.0, 260.0], ABSOLUTE, forecast=[(NOW + STEP, 190.0)])
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Outlook) == seen
