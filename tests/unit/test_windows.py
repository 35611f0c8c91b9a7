"""When a job would best be run."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import Config, GreenestConfig, complete
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.gateway.grid.windows import BestWindow, DoesNotFit, best_window, run_length
from carbon_orchestrator.router.outlook import Bands, outlook
from carbon_orchestrator.signal.series import Series

HOUR = 3_600_000
NOW = 1_700_000 * HOUR // 1000
BANDS = Bands(mode="absolute", low=100, high=200, hysteresis=0)


def observed(hours: list[float], spread: float | None = None) -> IntensityObserved:
    """The intensity of now and of the hours that follow."""
    forecast = [(NOW + n * HOUR, value) for n, value in enumerate(hours[1:], 1)]
    known = spread is not None
    return IntensityObserved(
        zone="local",
        time=NOW,
        intensity=hours[0],
        source="script",
        resolution_ms=HOUR,
        forecast=forecast,
        forecast_low=[value - (spread or 0) for _, value in forecast] if known else [],
        forecast_high=[value + (spread or 0) for _, value in forecast] if known else [],
    )


@cache
def config(**greenest: float) -> Config:
    return complete(Config(margin=0, greenest=GreenestConfig(**greenest)))


def found(
    event: IntensityObserved, hours: float, within: float | None, **greenest: float
) -> BestWindow:
    known = outlook(event, "1-0/0", Series(BANDS.max_age_ms), BANDS, NOW)
    deadline = None if within is None else NOW + round(within * HOUR)
    made = config(**greenest)
    return best_window(known, event, made, 1.0, NOW, round(hours * HOUR), deadline)


def test_the_greenest_run_before_the_deadline() -> None:
    window = found(observed([200, 180, 100, 100, 50]), 2, 4)
    assert (window.best.start, window.best.end) == (NOW + 2 * HOUR, NOW + 4 * HOUR)
    assert window.best.intensity == 100
    assert window.at_once.intensity == 190
    assert window.saving == pytest.approx(1 - 100 / 190)
    assert window.latest_start == NOW + 2 * HOUR
    assert window.forecast_until == NOW + 5 * HOUR
    assert window.low is window.high is None


def test_without_a_deadline_the_longest_wait_counts() -> None:
    window = found(observed([200, 180, 100, 50]), 1, None, max_wait=2 * 3600)
    assert window.best.start == NOW + 2 * HOUR == window.latest_start


def test_bounds_are_those_of_the_forecast_over_the_run() -> None:
    window = found(observed([200, 180, 100, 100], spread=30), 2, 10)
    assert (window.low, window.best.intensity, window.high) == (70, 100, 130)


def test_waiting_that_saves_less_than_it_must_is_not_advised() -> None:
    hours = [200.0, 190, 195, 195]
    assert found(observed(hours), 1, 4).best.start == NOW + HOUR
    assert found(observed(hours), 1, 4, min_saving=0.1).saving == 0


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(DoesNotFit, match="had to start by"):
        found(observed([200, 100]), 2, 1.5)
    assert found(observed([200, 100]), 2, 2).best.start == NOW


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=30),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_no_start_is_better_than_the_best(hours: list[int], quarters: int, within: int) -> None:
    length, latest = quarters * HOUR // 4, NOW + (within - quarters) * HOUR // 4
    event = observed([float(each) for each in hours])
    if latest < NOW:
        with pytest.raises(DoesNotFit):
            found(event, quarters / 4, within / 4, min_saving=0)
        return
    window = found(event, quarters / 4, within / 4, min_saving=0)
    curve = outlook(event, None, Series(BANDS.max_age_ms), BANDS, NOW).ahead
    assert NOW <= window.best.start <= latest == window.latest_start
    starts = np.arange(NOW, latest + 1, HOUR // 4)
    assert window.best.intensity <= curve.means(starts, length).min() + 1e-6
    assert 0 <= window.saving + 1e-9 <= 1 + 1e-9


def test_lengths_are_written_as_in_submissions() -> None:
    assert [run_length(each) for each in ("2h", "PT2H", "7200")] == [2 * HOUR] * 3
    for wrong in ("0", "-1h", "soon", "nan"):
        with pytest.raises(ValueError, match="duration"):
            run_length(wrong)
