"""A source's forecast, made better by what its earlier ones turned out to be worth.

Three things are learned from comparing its forecasts with what came: how much of their error
jumps from step to step (noise, which is smoothed away), how large it is at each lead, and how
large our own forecast's is, so that the two are weighed by the inverse of their squared errors
(Bates & Granger, The Combination of Forecasts, 1969). A forecast that was right stays as it is.
"""

from __future__ import annotations

from math import exp

import numpy as np

from carbon_orchestrator.signal.forecaster import Floats, Forecast, Forecaster

_LEADS_H = (1, 3, 6, 12, 24, 48, 96)
_NOISE_LEAD = 2  # 6 h: long enough that sources do not know the present by then
_MEMORY_DAYS = 14.0  # after which an error counts 1/e
_DOUBT_H = 6.0  # how many hours' worth of errors a source is trusted for at first
_TRUST = 0.1  # the ratio of its squared error to ours that it is trusted to have
_WINDOW_H = 4  # smoothing looks this far to either side
_REJOIN_H = 30.0  # beyond its end, ours is rejoined in about this time
_Z90 = 1.2815515655446004


class Correction:
    """Corrects the forecasts of one source for one zone; `own` observes the same intensities,
    each before `Correction.observe` is told of it."""

    def __init__(self, own: Forecaster) -> None:
        self._own = own
        self._hour = 3_600_000 // own.step_ms
        self._leads = np.array(_LEADS_H) * self._hour
        size = int(self._leads[-1]) + 1
        # By lead and target: the target, and what the source, its smoothed form and we said.
        self._promised = np.full((len(_LEADS_H), size, 4), np.nan)
        self._count = np.zeros(len(_LEADS_H))
        self._theirs = np.zeros(len(_LEADS_H))  # sums of squared errors, (gCO2e/kWh)²
        self._ours = np.zeros(len(_LEADS_H))
        self._jumps = 0.0  # sum of squared differences of successive errors
        self._jumps_count = 0.0
        self._previous: tuple[int, float] | None = None
        self._kernel: tuple[object, list[Floats]] | None = None

    @property
    def noise(self) -> float:
        """Standard deviation of the noise in the source's forecasts, gCO2e/kWh."""
        if self._jumps_count < self._hour * _DOUBT_H:
            return 0.0
        return float(np.sqrt(self._jumps / self._jumps_count / 2))

    def observe(self, time: int, value: float) -> None:
        """Compare `value`, of the step that holds `time`, with what was promised for it."""
        step = time // self._own.step_ms
        due = self._promised[:, step % self._promised.shape[1]]
        known = due[:, 0] == step
        keep = exp(-1 / (_MEMORY_DAYS * 24 * self._hour))
        for sums, said in ((self._theirs, due[:, 2]), (self._ours, due[:, 3])):
            sums[known] = sums[known] * keep + (said[known] - value) ** 2
        self._count[known] = self._count[known] * keep + 1
        if known[_NOISE_LEAD]:
            error = float(due[_NOISE_LEAD, 1]) - value
            if self._previous is not None and self._previous[0] == step - 1:
                self._jumps = self._jumps * keep + (error - self._previous[1]) ** 2
                self._jumps_count = self._jumps_count * keep + 1
            self._previous = step, error

    def correct(self, now: float, expected: Floats, steps: int) -> Forecast:
        """The `steps` steps that follow the last one observed, of intensity `now`, where the
        source expects `expected` (gCO2e/kWh) of the first of them."""
        own = self._own.forecast(steps)
        expected = expected[:steps]
        if not expected.size:
            return own
        smooth = self._smoothed(now, expected)
        self._promise(expected, smooth, own.expected)
        count = expected.size
        theirs, ours = self._errors(steps)
        share = ours / np.maximum(theirs + ours, 1e-9)
        value = own.expected.copy()
        value[:count] += share[:count] * (smooth - own.expected[:count])
        gap = value[count - 1] - own.expected[count - 1]
        beyond = np.arange(1, steps - count + 1) / self._hour
        rejoining = gap * np.exp(-beyond / _REJOIN_H)
        value[count:] += rejoining
        low, high = own.low.copy(), own.high.copy()
        spread = _Z90 * np.sqrt(share[:count] * theirs[:count])
        low[:count], high[:count] = value[:count] - spread, value[:count] + spread
        low[count:] += rejoining
        high[count:] += rejoining
        return Forecast(np.maximum(value, 0.0), np.maximum(low, 0.0), np.maximum(high, 0.0))

    def _errors(self, steps: int) -> tuple[Floats, Floats]:
        """Mean squared errors of the source and of ours, by step ahead."""
        doubt = _DOUBT_H * self._hour
        spread = self._own.forecast(int(self._leads[-1]))
        sigma = (spread.high - spread.low)[self._leads - 1] / (2 * _Z90)
        ours = (self._ours + doubt * sigma**2) / (self._count + doubt)
        theirs = (self._theirs + doubt * _TRUST * sigma**2) / (self._count + doubt)
        ahead = np.log(np.arange(1, steps + 1))
        leads = np.log(self._leads)
        return np.interp(ahead, leads, theirs), np.interp(ahead, leads, ours)

    def _promise(self, expected: Floats, smooth: Floats, own: Floats) -> None:
        assert self._own.last is not None
        leads = self._leads[self._leads <= min(expected.size, own.size)]
        targets = self._own.last // self._own.step_ms + leads
        said = np.stack((targets, expected[leads - 1], smooth[leads - 1], own[leads - 1]), axis=1)
        self._promised[np.arange(len(leads)), targets % self._promised.shape[1]] = said

    def _smoothed(self, now: float, expected: Floats) -> Floats:
        """The best linear estimate of the intensities under noisy `expected`, given how they
        vary and that `now` is without noise; as they are where there is no noise."""
        if self.noise <= 0:
            return expected
        usual = self._own.usual(expected.size)
        level = float(expected.mean()) + 30.0  # log intensity's variations in gCO2e/kWh
        kernels = self._kernels(level)
        half = len(kernels) - 1
        departures = np.concatenate(([now - usual[0]], expected - usual))
        if departures.size < 2 * half + 1:
            return expected
        smooth = np.convolve(departures, kernels[half], "same")
        for at in range(1, half):
            smooth[at] = departures[: at + half + 1] @ kernels[at]
        for back in range(1, half + 1):  # the end, where less is known of what follows
            kernel = kernels[half][: half + back]
            smooth[-back] = departures[-half - back :] @ (kernel / kernel.sum())
        return np.asarray(smooth[1:] + usual, dtype=np.float64)

    def _kernels(self, level: float) -> list[Floats]:
        """Weights around step 0, 1, …; the last are those of every step that is far enough from
        the present. Renewed daily."""
        assert self._own.last is not None
        day = self._own.last // 86_400_000
        if self._kernel is None or self._kernel[0] != day:
            half = _WINDOW_H * self._hour
            covariance = self._own.covariance()[: 2 * half + 1] * level**2
            noise = self.noise**2
            kernels = []
            for at in range(half + 1):
                offsets = np.arange(-at, half + 1)
                among = covariance[np.abs(offsets[:, None] - offsets)]
                doubt = np.full(len(offsets), noise)
                if at < half:
                    doubt[0] = 0.0  # the present
                among = among + np.diag(doubt + 1e-6 * covariance[0])
                kernels.append(np.linalg.solve(among, covariance[np.abs(offsets)]))
            self._kernel = day, kernels
        return self._kernel[1]
