"""When a job would best be run, as the planner sees it. Pure; times are ms on the grid clock."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import milliseconds, seconds
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.curve import Curve
from carbon_orchestrator.router.deadline import latest_start
from carbon_orchestrator.router.greenest import GreenestWindow
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Defer, JobView, Site


class DoesNotFit(ValueError):
    """So long a run does not fit before the deadline."""


class Window(NamedTuple):
    """A run over [start, end), and the mean intensity expected over it, gCO2e/kWh."""

    start: int
    end: int
    intensity: float

    def json(self) -> dict[str, Any]:
        return {
            "start": rfc3339(self.start),
            "end": rfc3339(self.end),
            "intensity": self.intensity,
        }


class BestWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A run begun `at_once`, and the best one that begins by `latest_start`. `low`, `high`: the
    means of the bounds of the forecast over it, where there are such."""

    at_once: Window
    best: Window
    low: float | None
    high: float | None
    latest_start: int
    forecast_until: int

    @property
    def saving(self) -> float:
        """The share of the emissions of a run at once that the best one avoids."""
        now = self.at_once.intensity
        return 1 - self.best.intensity / now if now > 0 else 0.0


def run_length(text: str) -> int:
    """How long a run takes, as people write it. ValueError."""
    length = milliseconds(text)
    if length < 1:
        raise ValueError("a duration must be above 0")
    return length


def best_window(
    outlook: Outlook,
    observed: IntensityObserved,
    config: Config,
    speed: float,
    now: int,
    length: int,
    deadline: int | None,
) -> BestWindow:
    """For a flexible job of `length` in the zone of a usable outlook, whose latest event is
    `observed`: what `greenest_window` plans for it on a FAST pool that has room. Raises
    DoesNotFit."""
    policy = GreenestWindow.of(config.greenest)
    job = JobView(
        urgency="flexible",
        submitted_at=now,
        deadline=deadline,
        fast_ms=length,
        eco_ms=length,
        margin_ms=round(seconds(config.margin) * 1000 * speed),
    )
    latest = latest_start(job, "fast")
    if latest is None:
        latest = now + policy.max_wait_ms
    if latest < now:
        raise DoesNotFit(
            f"a run of this duration, {config.margin} kept free, had to start by"
            f" {rfc3339(max(latest, 0))}; the clock stands at {rfc3339(now)}"
        )
    plan = policy.decide(job, [Site(outlook, eco_full=None)], now)
    start = plan.planned_start if isinstance(plan, Defer) else now
    curve, low, high = outlook.ahead, None, None
    if bounds := _bounds(observed):
        low, high = (bound.mean(start, start + length) for bound in bounds)
    return BestWindow(
        at_once=Window(now, now + length, curve.mean(now, now + length)),
        best=Window(start, start + length, curve.mean(start, start + length)),
        low=low,
        high=high,
        latest_start=latest,
        forecast_until=int(curve.edges[-1]),
    )


def _bounds(observed: IntensityObserved) -> tuple[Curve, Curve] | None:
    """The lower and upper bounds of what is expected, as curves like that of the outlook."""
    times = [at for at, _ in observed.forecast]
    if not times or not len(observed.forecast_low) == len(observed.forecast_high) == len(times):
        return None

    def curve(values: list[float]) -> Curve:
        points = sorted(zip(times, values, strict=True))
        return Curve.of(observed.time, observed.intensity, points, observed.resolution_ms)

    return curve(observed.forecast_low), curve(observed.forecast_high)
