"""What a policy may know of the grid: the intensity now, its band, and what is forecast.

An Outlook is a pure function of the intensities received and the settings, so the router, the
simulator and the audit arrive at the same one. Times are ms on the grid clock, intensities
gCO2e/kWh.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from math import inf
from typing import Literal

import msgspec

from carbon_orchestrator.config import ThresholdConfig
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import Band, IntensityObserved
from carbon_orchestrator.router.curve import Curve
from carbon_orchestrator.router.words import grams, utc
from carbon_orchestrator.signal.series import Series

FEWEST_DISTINCT = 8


class Bands(msgspec.Struct, frozen=True, kw_only=True):
    """How intensities are sorted into bands; see ThresholdConfig for the fields."""

    mode: Literal["relative", "absolute"] = "relative"
    low: float = 0.35
    high: float = 0.65
    hysteresis: float = 0.03
    window_ms: int = 48 * 3_600_000
    max_age_ms: int = 3 * 3_600_000

    @classmethod
    def of(cls, config: ThresholdConfig) -> Bands:
        return cls(
            mode=config.mode,
            low=config.low,
            high=config.high,
            hysteresis=config.hysteresis,
            window_ms=milliseconds(config.window),
            max_age_ms=milliseconds(config.max_age),
        )

    def limits(self, values: Sequence[float]) -> tuple[float, float]:
        """The highest "low" and the highest "medium" intensity, given those of the window."""
        if self.mode == "absolute":
            return self.low, self.high
        if len(set(values)) < FEWEST_DISTINCT:
            # Quantiles of so few values mean nothing; 10 % is about what is worth waiting for.
            mean = sum(values) / len(values)
            return mean * 0.9, mean * 1.1
        ordered = sorted(values)
        return quantile(ordered, self.low), quantile(ordered, self.high)

    def band(self, values: Sequence[float], low: float, high: float) -> Band:
        """The band after `values`, oldest first: one is left only well past its limit."""
        return self.bands(band_of(values[0], low, high), values, low, high)[-1]

    def bands(self, band: Band, values: Sequence[float], low: float, high: float) -> list[Band]:
        """The band after each of `values`, when it is `band` before them."""
        rise_to_medium, rise_to_high = low * (1 + self.hysteresis), high * (1 + self.hysteresis)
        fall_to_low, fall_to_medium = low * (1 - self.hysteresis), high * (1 - self.hysteresis)
        after: list[Band] = []
        for value in values:
            if band == "low":
                left = value > rise_to_medium
            elif band == "high":
                left = value < fall_to_medium
            else:
                left = value < fall_to_low or value > rise_to_high
            if left:
                band = band_of(value, low, high)
            after.append(band)
        return after


class Outlook(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The grid of a zone as known at one moment; `Outlook(zone=...)` alone is "no signal".

    `low`, `high`: limits of the bands. `valid_until`: the last time at which `band` may be
    used; later it is too old, so read it with `band_at`. `summary`: intensity, band and limits
    in words. `low_ahead`, `medium_ahead`: the forecast points that lie within the limit of the
    low band, and of the medium one; `low_reached`, `medium_reached`: those at which the band will
    be low, and low or medium, as a band is left only well past its limit.
    """

    zone: str
    intensity_id: str | None = None
    time: int | None = None
    intensity: float | None = None
    source: str = ""
    kind: Literal["average", "marginal"] = "average"
    estimated: bool = False
    simulated: bool = False
    forecast: tuple[tuple[int, float], ...] = ()
    band: Band | None = None
    low: float | None = None
    high: float | None = None
    resolution_ms: int = 0
    valid_until: int = 0
    summary: str = ""
    low_ahead: tuple[tuple[int, float], ...] = ()
    medium_ahead: tuple[tuple[int, float], ...] = ()
    low_reached: tuple[tuple[int, float], ...] = ()
    medium_reached: tuple[tuple[int, float], ...] = ()
    curve: Curve | None = None  # in place of the one made of `intensity` and `forecast`

    @cached_property
    def ahead(self) -> Curve:
        """Expected intensity from `time` on. Only where there is a usable signal."""
        if self.curve is not None:
            return self.curve
        if self.time is None or self.intensity is None:
            raise ValueError("nothing is known of what lies ahead")
        return Curve.of(self.time, self.intensity, self.forecast, self.resolution_ms)

    @property
    def unusable(self) -> str:
        """Why there is no usable signal, in words."""
        if self.time is None:
            return "no usable carbon signal"
        return f"no usable carbon signal since {utc(self.time)} UTC"

    def band_at(self, now: int) -> Band | None:
        """The band, None when there is no signal or it has become too old by `now`."""
        return self.band if now <= self.valid_until else None

    def next_at_most(self, band: Literal["low", "medium"], now: int) -> tuple[int, float] | None:
        """The first forecast point (time, intensity) after `now` within the limit of `band`."""
        return _next(self.low_ahead if band == "low" else self.medium_ahead, now)

    def next_reached(self, band: Literal["low", "medium"], now: int) -> tuple[int, float] | None:
        """The first one at which the band will be `band` or below."""
        return _next(self.low_reached if band == "low" else self.medium_reached, now)


def _next(points: Sequence[tuple[int, float]], now: int) -> tuple[int, float] | None:
    index = bisect_right(points, (now, inf))
    return points[index] if index < len(points) else None


def outlook(
    observed: IntensityObserved, intensity_id: str | None, series: Series, bands: Bands, now: int
) -> Outlook:
    """The outlook from the latest intensity event, its stream id and the values before it.

    `series` holds the zone's intensities of at least `bands.window_ms` before the event, with
    or without the event's own. With an event older than `bands.max_age_ms` at `now` there is
    no usable signal: intensity, band and limits are None.
    """
    forecast = tuple(sorted(observed.forecast))  # outside publishers may not have
    valid_until = observed.time + bands.max_age_ms
    known = Outlook(
        zone=observed.zone,
        intensity_id=intensity_id,
        time=observed.time,
        source=observed.source,
        kind=observed.kind,
        estimated=observed.estimated,
        simulated=observed.simulated,
        forecast=forecast,
        resolution_ms=observed.resolution_ms,
        valid_until=valid_until,
    )
    if now > valid_until:
        return known
    # The window ends with the event, so the band does not depend on when it is asked for.
    values = series.values_between(observed.time - bands.window_ms, observed.time - 1)
    values.append(observed.intensity)
    low, high = bands.limits(values)
    band = bands.band(values, low, high)
    bands_ahead = bands.bands(band, [value for _, value in forecast], low, high)
    still = "" if band == band_of(observed.intensity, low, high) else "still "
    return msgspec.structs.replace(
        known,
        intensity=observed.intensity,
        band=band,
        low=low,
        high=high,
        summary=(
            f"{grams(observed.intensity)} g/kWh is {still}{band}"
            f" (limits {grams(low)}-{grams(high)})"
        ),
        low_ahead=tuple(point for point in forecast if point[1] <= low),
        medium_ahead=tuple(point for point in forecast if point[1] <= high),
        low_reached=_where(forecast, bands_ahead, "low"),
        medium_reached=_where(forecast, bands_ahead, "low", "medium"),
    )


def _where(
    points: Sequence[tuple[int, float]], bands: Sequence[Band], *wanted: Band
) -> tuple[tuple[int, float], ...]:
    return tuple(point for point, band in zip(points, bands, strict=True) if band in wanted)


def band_of(value: float, low: float, high: float) -> Band:
    """The plain band of an intensity, without hysteresis: limits belong to the band below."""
    if value <= low:
        return "low"
    return "medium" if value <= high else "high"


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """Quantile of ascending values, linear between ranks: type 7 of Hyndman & Fan (1996)."""
    rank = (len(ordered) - 1) * fraction
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)
