"""What a simulated router expects of the grid: the future itself, or what could be known of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from carbon_orchestrator.router.curve import Values
from carbon_orchestrator.signal.correction import Correction
from carbon_orchestrator.signal.forecaster import Forecaster
from carbon_orchestrator.simulation.traces import Trace


class ForecastError(ValueError):
    """A forecast cannot be had as asked for; the message says what to do."""


class Forecasts(Protocol):
    """Expected intensities, for each step of a trace."""

    def after(self, number: int) -> Values:
        """What is expected, at step `number`, of the steps that follow it."""
        ...


class Known(NamedTuple):
    """One series that never changes: the truth, or a provider's only forecast."""

    values: Values
    steps: int

    def after(self, number: int) -> Values:
        return self.values[number + 1 : number + 1 + self.steps]


class Made(NamedTuple):
    """A forecast for each step from `first` on, as rows."""

    first: int
    rows: NDArray[np.float32]

    def after(self, number: int) -> Values:
        return np.asarray(self.rows[number - self.first], dtype=np.float64)


class Span(NamedTuple):
    """Forecasts are needed at steps first <= n < last, of `steps` steps each."""

    first: int
    last: int
    steps: int


class Wish(NamedTuple):
    """A forecast as asked for: "perfect", "own", "noise:ERROR[:SEED]" or "column:NAME"."""

    kind: str
    error: float = 0.0
    seed: int = 0
    column: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ForecastError."""
        kind, _, rest = text.partition(":")
        if text in ("perfect", "own"):
            return cls(text)
        if kind == "column" and rest:
            return cls(kind, column=rest)
        if kind == "noise":
            error, _, seed = rest.partition(":")
            try:
                wish = cls(kind, float(error), int(seed or 0))
            except ValueError:
                wish = cls(kind, -1.0)
            if 0 <= wish.error <= 10 and wish.seed >= 0:
                return wish
        raise ForecastError(
            f"--forecast {text}: write perfect, own, noise:ERROR[:SEED] (noise:0.05 is 5 % of the"
            " mean) or column:NAME"
        )


Progress = Callable[[int], None]


def silent(done: int) -> None:
    """Progress that nobody watches."""


def perfect(trace: Trace, steps: int) -> Known:
    return Known(trace.values, steps)


def noisy(trace: Trace, error: float, seed: int = 0, first: int = 0) -> Values:
    """The trace with normal noise of `error` x its mean, one series for the whole run, from step
    `first` on: as Let's Wait Awhile does it (Wiesner et al., Middleware 2021, section 5.1.3).
    Negative values are cut to 0."""
    values = trace.values[first:]
    noise = np.random.default_rng(seed).normal(0, error * values.mean(), len(values))
    return np.concatenate((trace.values[:first], np.maximum(values + noise, 0.0)))


def own(trace: Trace, span: Span, progress: Progress = silent) -> Made:
    """The project's own forecaster, which at each step knows the steps until then."""
    forecaster = Forecaster(trace.step_ms)
    rows = np.empty((span.last - span.first, span.steps), dtype=np.float32)
    for number, value in enumerate(trace.values[: span.last].tolist()):
        forecaster.observe(trace.time(number), value)
        if number >= span.first:
            rows[number - span.first] = forecaster.forecast(span.steps).expected
            progress(1)
    return Made(span.first, rows)


def corrected(
    trace: Trace, expected: Values, span: Span, progress: Progress = silent, first: int = 0
) -> Made:
    """A provider's forecast series, corrected as the signal role does: by how it did so far, and
    by the own forecast. The provider is heard from step `first` on."""
    forecaster = Forecaster(trace.step_ms)
    correction = Correction(forecaster)
    rows = np.empty((span.last - span.first, span.steps), dtype=np.float32)
    for number, value in enumerate(trace.values[: span.last].tolist()):
        time = trace.time(number)
        forecaster.observe(time, value)
        correction.observe(time, value)
        if number < first:
            continue
        said = expected[number + 1 : number + 1 + span.steps]
        better = correction.correct(value, said, span.steps).expected
        if number >= span.first:
            rows[number - span.first] = better
            progress(1)
    return Made(span.first, rows)
