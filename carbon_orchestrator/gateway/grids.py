"""What the gateway says of the grid, per zone."""

from __future__ import annotations

from typing import Any

from carbon_orchestrator.clock import GridClock, rfc3339
from carbon_orchestrator.config import Config
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.signal.intensities import Intensities
from streams.event import Message


class Grids:
    """The intensities of every zone, the home zone's first."""

    def __init__(self, config: Config) -> None:
        bands = Bands.of(config.threshold)
        self._zones = {zone: Intensities(zone, bands) for zone in (config.zone, *config.zones)}
        self.home = self._zones[config.zone]

    @property
    def zones(self) -> list[str]:
        return list(self._zones)

    @property
    def latest(self) -> list[IntensityObserved]:
        """The latest event of each zone that has one."""
        return [each.latest for each in self._zones.values() if each.latest is not None]

    def observe(self, message: Message) -> None:
        for each in self._zones.values():
            each.apply(message)

    def view(self, zone: str, clock: GridClock, now: int) -> dict[str, Any]:
        """One zone as JSON: its intensity, band, source and forecast. `unusable`: why decisions
        do without it, in words, where `signal` is "none"."""
        outlook, latest = self._zones[zone].outlook(), self._zones[zone].latest
        band = outlook.band_at(now)
        view: dict[str, Any] = {
            "zone": zone,
            "zones": self.zones,
            "clock": {"now": rfc3339(now), "speed": clock.speed, "signal": clock.signal},
            "signal": "none",
            "unusable": outlook.unusable if band is None else None,
        }
        if latest is None:
            return view
        if band is not None:
            view["signal"] = "ok" if latest.degraded is None else "degraded"
        return view | {
            "intensity": latest.intensity,
            "unit": "gCO2e/kWh",
            "since": rfc3339(latest.time),
            "age_ms": max(0, now - latest.time),
            "band": band,
            "low": outlook.low,
            "high": outlook.high,
            "source": latest.source,
            "kind": latest.kind,
            "estimated": latest.estimated,
            "simulated": latest.simulated,
            "degraded": latest.degraded,
            "forecast_source": latest.forecast_source,
            "forecast": _forecast(latest),
        }


def _forecast(observed: IntensityObserved) -> list[dict[str, Any]]:
    """Each point with the bounds of what is expected in 8 of 10 cases, where they are known."""
    points: list[dict[str, Any]] = [
        {"time": rfc3339(at), "intensity": value} for at, value in observed.forecast
    ]
    bounds = observed.forecast_low, observed.forecast_high
    if len(bounds[0]) == len(bounds[1]) == len(points):
        for point, low, high in zip(points, *bounds, strict=True):
            point |= {"low": low, "high": high}
    return points
