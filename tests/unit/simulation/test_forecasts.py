"""What a simulated router may know of the future."""

from __future__ import annotations

import numpy as np
import pytest
from small_grids import HOUR, NOW, trace

from carbon_orchestrator.simulation import forecasts
from carbon_orchestrator.simulation.forecasts import ForecastError, Span, Wish
from carbon_orchestrator.simulation.traces import Trace

WEEKS = trace([200 + 100 * np.sin(n / 24 * 2 * np.pi) + 7 * (n * 37 % 11) for n in range(24 * 21)])


def test_perfect_is_the_trace_itself() -> None:
    ahead = forecasts.perfect(WEEKS, 30)
    assert ahead.after(5).tolist() == WEEKS.values[6:36].tolist()
    assert ahead.after(len(WEEKS.values) - 1).size == 0


def test_noise_is_one_series_of_the_seed() -> None:
    noisy = forecasts.noisy(WEEKS, 0.05, seed=3)
    again = forecasts.noisy(WEEKS, 0.05, seed=3)
    drawn = np.random.default_rng(3).normal(0, 0.05 * WEEKS.values.mean(), len(WEEKS.values))
    assert noisy.tolist() == again.tolist() == (WEEKS.values + drawn).tolist()
    assert forecasts.noisy(WEEKS, 0.0).tolist() == WEEKS.values.tolist()
    late = forecasts.noisy(WEEKS, 0.05, seed=3, first=100)
    assert late[:100].tolist() == WEEKS.values[:100].tolist()
    assert forecasts.noisy(WEEKS, 5.0).min() == 0


@pytest.mark.parametrize("kind", ["own", "corrected"])
def test_no_forecast_knows_the_future(kind: str) -> None:
    """Other values from a step on change nothing that was forecast before it."""
    changed = WEEKS.values.copy()
    changed[400:] = 50.0
    other = Trace(NOW, HOUR, changed)
    span = Span(390, 404, 48)
    said = forecasts.noisy(WEEKS, 0.1)

    def made(real: Trace) -> forecasts.Made:
        if kind == "own":
            return forecasts.own(real, span)
        return forecasts.corrected(real, said, span)

    before, after = made(WEEKS), made(other)
    for step in range(390, 400):
        assert before.after(step).tolist() == after.after(step).tolist()
        assert before.after(step).size == 48
    assert before.after(401).tolist() != after.after(401).tolist()


def test_a_provider_that_is_right_stays_as_it_is() -> None:
    span = Span(300, 320, 48)
    made = forecasts.corrected(WEEKS, WEEKS.values, span)
    for step in range(300, 320):
        assert made.after(step) == pytest.approx(WEEKS.values[step + 1 : step + 49], rel=0.05)


def test_a_correction_is_nearer_than_noise() -> None:
    span = Span(300, 440, 48)
    said = forecasts.noisy(WEEKS, 0.2, seed=1)
    made = forecasts.corrected(WEEKS, said, span)

    def error(of: np.ndarray, step: int) -> float:  # type: ignore[type-arg]
        return float(((of - WEEKS.values[step + 1 : step + 49]) ** 2).mean())

    steps = range(300, 440)
    noise = sum(error(said[step + 1 : step + 49], step) for step in steps)
    assert sum(error(made.after(step), step) for step in steps) < 0.8 * noise


def test_progress_counts_the_steps() -> None:
    told: list[int] = []
    forecasts.own(WEEKS, Span(10, 40, 24), told.append)
    assert sum(told) == 30


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("perfect", Wish("perfect")),
        ("own", Wish("own")),
        ("noise:0.05", Wish("noise", 0.05)),
        ("noise:0.1:7", Wish("noise", 0.1, 7)),
        ("column:day ahead", Wish("column", column="day ahead")),
    ],
)
def test_wishes(text: str, wish: Wish) -> None:
    assert Wish.parse(text) == wish


@pytest.mark.parametrize(
    "text", ["", "best", "noise", "noise:x", "noise:-1", "noise:0.1:-2", "noise:nan", "column:"]
)
def test_wishes_that_cannot_be_had(text: str) -> None:
    with pytest.raises(ForecastError, match="write perfect, own, noise"):
        Wish.parse(text)
