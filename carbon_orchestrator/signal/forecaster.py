"""Our own forecast of carbon intensity, learned online from the signal's past and nothing else.

Log intensity is a climatology, the usual value of the hour and the day of the week, plus a
deviation from it. The climatology is an exponentially weighted mean of the last weeks; the
deviation is predicted by its best linear predictor, given its autocovariance as seen so far
(simple kriging; Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.25).
Until enough has been seen, its correlation is taken to halve every 21 h. The constants were
chosen once, over German, British, Spanish and Australian traces together.
"""

from __future__ import annotations

from math import exp, log

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DAY_MS = 86_400_000
_FIRST_WEEKDAY = 3  # the Unix epoch began on a Thursday
_OFFSET = 30.0  # gCO2e/kWh; below it differences count by their size rather than by their ratio
_MEMORY_DAYS = 28.0  # after which a day counts 1/e in the climatology
_COVARIANCE_DAYS = 60.0  # the same, in the autocovariance
_WEEKDAY_PRIOR_H = 18.0  # how many hours' worth of doubt that a weekday differs from the others
_PRIOR_DAYS = 14.0  # the weight of the assumed correlation
_PRIOR_DECAY_H = 30.0
_PRIOR_SPREAD = 0.2  # standard deviation of log intensity before any has been seen
_TAPER_H = 168.0  # far correlations are mostly chance
_NUGGET = 0.003  # the share of the variance that is noise
_LAGS_H = (0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24)
_REACH_H = 192
_CHECKED_H = (1, 6, 24, 96)  # leads at which the spread is held against what came
_CHECKED_DAYS = 30.0  # after which such a comparison counts 1/e
_DOUBT_DAYS = 2.0  # how many days' worth of them the spread is trusted for
_Z90 = 1.2815515655446004  # 90 % quantile of the standard normal distribution


class Forecast(msgspec.Struct, frozen=True):
    """What is expected of coming steps, gCO2e/kWh: the value to plan with, which as many
    outcomes exceed as fall short of, and its 10 % and 90 % quantiles; three arrays of a length.
    """

    expected: Floats
    low: Floats
    high: Floats


class Forecaster:
    """Learns from intensities of one zone, each the mean of a step of `step_ms`.

    `step_ms` divides an hour. Raises ValueError if it does not.
    """

    def __init__(self, step_ms: int) -> None:
        if step_ms <= 0 or 3_600_000 % step_ms:
            raise ValueError(f"step_ms must divide an hour, not {step_ms}")
        self.step_ms = step_ms
        self.last: int | None = None  # time of the newest step observed
        self._hour = 3_600_000 // step_ms
        self._day = 24 * self._hour
        self._weights = np.zeros((7, self._day))
        self._sums = np.zeros((7, self._day))
        self._climate = np.zeros((7, self._day))
        reach = _REACH_H * self._hour
        self._deviations = np.zeros(reach)  # the newest first
        self._products = np.zeros(reach)  # sums of e(t) e(t - lag), by lag
        self._seen = 0.0  # how many of them
        hours = np.arange(reach) / self._hour
        self._assumed = np.exp(-hours / _PRIOR_DECAY_H)
        self._taper = np.exp(-hours / _TAPER_H)
        self._lags = np.array(_LAGS_H) * self._hour
        self._predictor: tuple[Floats, Floats] | None = None
        self._leads = np.array(_CHECKED_H) * self._hour
        self._promised = np.full((len(_CHECKED_H), self._leads[-1] + 1, 3), np.nan)
        self._misses = np.full(len(_CHECKED_H), _DOUBT_DAYS * self._day)  # squared, in spreads
        self._checks = self._misses.copy()

    def observe(self, time: int, value: float) -> None:
        """Learn that intensity was `value` in the step that holds `time` (ms since the Unix
        epoch). A step that is not after the last one is not looked at."""
        step = time // self.step_ms
        last = None if self.last is None else self.last // self.step_ms
        if last is not None and step <= last:
            return
        self._pass(step, step - 1 if last is None else last)
        cell = self._cells(step, 1)
        logged = log(max(value, 0.0) + _OFFSET)
        self._weights[cell] += 1
        self._sums[cell] += logged
        self._climate = self._climatology()
        deviation = logged - float(self._climate[cell][0])
        self._deviations[0] = deviation
        keep = exp(-1 / (_COVARIANCE_DAYS * self._day))
        self._products *= keep
        self._products += deviation * self._deviations
        self._seen = self._seen * keep + 1
        self.last = step * self.step_ms
        self._check(step, logged)

    def forecast(self, steps: int) -> Forecast:
        """The `steps` steps that follow the last one observed. Raises ValueError before that."""
        if self.last is None:
            raise ValueError("nothing has been observed that a forecast could rest on")
        weights, spread = self._prediction(steps)
        usual = self._climate[self._cells(self.last // self.step_ms + 1, steps)]
        middle = usual + self._deviations[self._lags] @ weights
        spread = spread * self._stretch(steps)
        return Forecast(
            _intensity(middle),
            _intensity(middle - _Z90 * spread),
            _intensity(middle + _Z90 * spread),
        )

    def usual(self, steps: int) -> Floats:
        """The climatology of the `steps` steps after the last one observed, gCO2e/kWh."""
        if self.last is None:
            raise ValueError("nothing has been observed that a forecast could rest on")
        return _intensity(self._climate[self._cells(self.last // self.step_ms + 1, steps)])

    def covariance(self) -> Floats:
        """Of deviations of log intensity, by lag in steps, from 0 on."""
        weight = self._seen / (self._seen + _PRIOR_DAYS * self._day)
        variance = self._variance()
        seen = self._products / max(float(self._products[0]), 1e-12)
        return variance * (weight * seen * self._taper + (1 - weight) * self._assumed)

    def _variance(self) -> float:
        prior = self._day  # one day's worth
        return float(self._products[0] + prior * _PRIOR_SPREAD**2) / (self._seen + prior)

    def _pass(self, step: int, last: int) -> None:
        """Let the steps up to `step` go by; those that nobody observed decay to the usual."""
        days = step // self._day - last // self._day
        if days:
            # What was usual long ago is a better guess than nothing.
            keep = exp(-min(days / _MEMORY_DAYS, 2))
            self._weights *= keep
            self._sums *= keep
            self._predictor = None
        passed = step - last
        newest = float(self._deviations[0])
        self._deviations[passed:] = self._deviations[: max(len(self._deviations) - passed, 0)]
        missed = min(passed, len(self._deviations))
        ages = np.arange(passed, passed - missed, -1) / self._hour
        self._deviations[:missed] = newest * np.exp(-ages / _PRIOR_DECAY_H)

    def _check(self, step: int, logged: float) -> None:
        """Compare what came with what was promised for it, and promise anew."""
        size = self._promised.shape[1]
        due = self._promised[:, step % size]
        known = due[:, 0] == step
        keep = exp(-1 / (_CHECKED_DAYS * self._day))
        self._checks[known] = self._checks[known] * keep + 1
        misses = ((logged - due[known, 1]) / due[known, 2]) ** 2
        self._misses[known] = self._misses[known] * keep + misses
        weights, spread = self._prediction(int(self._leads[-1]))
        targets = step + self._leads
        usual = self._climate[(targets // self._day + _FIRST_WEEKDAY) % 7, targets % self._day]
        ahead = self._leads - 1
        middle = usual + self._deviations[self._lags] @ weights[:, ahead]
        promises = np.stack((targets, middle, spread[ahead]), axis=1)
        self._promised[np.arange(len(targets)), targets % size] = promises

    def _stretch(self, steps: int) -> Floats:
        """By how much the spread was too narrow, by step ahead."""
        hours = np.log(np.arange(1, steps + 1) / self._hour)
        stretch = np.interp(hours, np.log(_CHECKED_H), np.sqrt(self._misses / self._checks))
        return np.asarray(stretch, dtype=np.float64)

    def _cells(self, step: int, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        at = np.arange(step, step + steps)
        return (at // self._day + _FIRST_WEEKDAY) % 7, at % self._day

    def _climatology(self) -> Floats:
        """Log intensity by weekday and step of the day: their mean, the step's effect, the
        weekday's, and how the course of the day differs at weekends."""
        weights, sums = self._weights, self._sums
        mean = sums.sum() / weights.sum()
        by_step = weights.sum(0)
        course = np.where(by_step > 0, sums.sum(0) / np.maximum(by_step, 1e-9) - mean, 0.0)
        rest = sums - weights * (mean + course)
        weekday = rest.sum(1) / (weights.sum(1) + _WEEKDAY_PRIOR_H * self._hour)
        climate: Floats = mean + course + weekday[:, None]
        rest = sums - weights * climate
        for days in (slice(0, 5), slice(5, 7)):
            around = self._around(weights[days].sum(0)) + self._width()
            climate[days] += self._around(rest[days].sum(0)) / around
        return climate

    def _width(self) -> int:
        return 3 * self._hour | 1

    def _around(self, values: Floats) -> Floats:
        """Sums over three hours around each step of the day."""
        half = self._width() // 2
        sums = np.cumsum(np.concatenate(([0.0], values[-half:], values, values[:half])))
        around: Floats = sums[self._width() :] - sums[: -self._width()]
        return around

    def _prediction(self, steps: int) -> tuple[Floats, Floats]:
        """Weights of the deviations at the lags, by step ahead, and the standard deviation of
        what comes. Renewed daily."""
        if self._predictor is None or self._predictor[1].size < steps:
            covariance = self.covariance()
            among = covariance[np.abs(self._lags[:, None] - self._lags)]
            among += _NUGGET * covariance[0] * np.eye(len(self._lags))
            beyond = np.concatenate((covariance, np.zeros(steps + 1)))
            ahead = beyond[self._lags[:, None] + np.arange(1, steps + 1)]
            weights = np.linalg.solve(among, ahead)
            left = covariance[0] - (weights * ahead).sum(0)
            self._predictor = weights, np.sqrt(np.maximum(left, _NUGGET * covariance[0]))
        weights, spread = self._predictor
        return weights[:, :steps], spread[:steps]


def _intensity(logged: Floats) -> Floats:
    values: Floats = np.maximum(np.exp(logged) - _OFFSET, 0.0)
    return values
