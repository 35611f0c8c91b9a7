"""A source's forecast is left alone where it is right, smoothed where it is noisy, and replaced
where ours is better."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sin

import numpy as np
import pytest

from carbon_orchestrator.signal.correction import Correction
from carbon_orchestrator.signal.forecaster import Floats, Forecaster

HALF_HOUR = 1_800_000
DAYS = 12
AHEAD = 96


def truth() -> Floats:
    random, departure, values = np.random.default_rng(3), 0.0, []
    for step in range((DAYS + 4) * 48):
        departure = 0.98 * departure + random.normal(0, 0.03)
        values.append((300 + 80 * sin(2 * pi * step / 48)) * float(np.exp(departure)))
    return np.array(values)


def errors(source: Callable[[Floats, int], Floats]) -> tuple[float, float, float, Correction]:
    """Root mean squared errors of the source, of what is made of it and of ours, from the third
    day on. `source(values, step)` is what it expects of the steps after `step`."""
    values, own = truth(), Forecaster(HALF_HOUR)
    correction = Correction(own)
    squares: list[list[float]] = []
    for step in range(DAYS * 48):
        own.observe(step * HALF_HOUR, float(values[step]))
        correction.observe(step * HALF_HOUR, float(values[step]))
        said = source(values, step)
        made = correction.correct(float(values[step]), said, AHEAD)
        assert np.all(made.low <= made.expected)
        assert np.all(made.expected <= made.high)
        if step >= 96:
            ahead = values[step + 1 : step + 1 + AHEAD]
            alone = own.forecast(AHEAD).expected
            squares.append([((each - ahead) ** 2).mean() for each in (said, made.expected, alone)])
    theirs, corrected, ours = np.sqrt(np.mean(squares, axis=0))
    return float(theirs), float(corrected), float(ours), correction


def test_a_right_forecast_stays_as_it_is() -> None:
    _, corrected, ours, correction = errors(lambda values, at: values[at + 1 : at + 1 + AHEAD])
    assert correction.noise == 0
    assert corrected < 0.02 * ours


def test_noise_is_measured_and_smoothed_away() -> None:
    noise = np.random.default_rng(8).normal(0, 15, (DAYS + 4) * 48)
    theirs, corrected, _, correction = errors(
        lambda values, at: (values + noise)[at + 1 : at + 1 + AHEAD]
    )
    assert correction.noise == pytest.approx(15, rel=0.1)
    assert corrected < 0.7 * theirs


def test_a_worse_forecast_than_ours_hardly_counts() -> None:
    theirs, corrected, ours, _ = errors(lambda _, at: np.full(AHEAD, 900.0))
    assert theirs > 5 * ours
    assert corrected < 1.1 * ours


def test_where_the_source_ends_ours_goes_on_from_there() -> None:
    values, own = truth(), Forecaster(HALF_HOUR)
    correction = Correction(own)
    for step in range(DAYS * 48):
        own.observe(step * HALF_HOUR, float(values[step]))
        correction.observe(step * HALF_HOUR, float(values[step]))
        made = correction.correct(float(values[step]), values[step + 1 : step + 25], 336)
    alone = own.forecast(336).expected
    assert abs(made.expected[24] - made.expected[23]) < 30
    assert made.expected[-1] == pytest.approx(alone[-1], rel=0.05)
    silent = correction.correct(300.0, np.array([]), 336)
    assert np.array_equal(silent.expected, alone)
