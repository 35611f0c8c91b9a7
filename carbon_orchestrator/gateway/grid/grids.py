"""What the gateway says of the grid, per zone."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from carbon_orchestrator.clock import GridClock, rfc3339
from carbon_orchestrator.config import Config
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.signal.intensities import KEPT_MS, Intensities
from streams.event import Message

UNIT = "gCO2e/kWh"
#: Points of the past in one answer.
MOST_POINTS = 2000


class Zone(Intensities):
    """A zone's intensities, and which of the past ones are estimated."""

    def _forget(self) -> None:
        super()._forget()
        #: Times of estimated values, by kind and whether simulated.
        self._estimated: defaultdict[tuple[str, bool], set[int]] = defaultdict(set)

    def apply(self, message: Message) -> None:
        super().apply(message)
        event = message.event
        if not isinstance(event, IntensityObserved) or event.zone != self.zone:
            return
        times = self._estimated[event.kind, event.simulated]
        if event.estimated:
            times.add(event.time)
        else:
            times.discard(event.time)
        if len(times) > 2 * len(self.series) + MOST_POINTS:
            kept = {each for each in times if each >= event.time - KEPT_MS}
            self._estimated[event.kind, event.simulated] = kept

    def history(self, start: int, end: int) -> dict[str, Any]:
        """The points of [start, end], grid ms, and the one that holds at `start`; where these are
        over MOST_POINTS, means over steps of equal length."""
        latest, outlook = self.latest, self.outlook()
        view: dict[str, Any] = {
            "zone": self.zone,
            "unit": UNIT,
            "kind": None if latest is None else latest.kind,
            "low": outlook.low,
            "high": outlook.high,
            "step_ms": None,
            "points": [],
        }
        if latest is None:
            return view
        estimated = self._estimated[latest.kind, latest.simulated]
        found = self.series.points_between(start, end)
        if len(found) > MOST_POINTS:
            # However long a time is asked about, the steps are of that which is known.
            first, last = found[0][0], found[-1][0]
            apart = (last - first) // (len(found) - 1)
            start, end = max(start, first), min(end, last + apart)
            step = -(-(end - start) // MOST_POINTS)
            means = [
                (at, self.series.mean(at, min(at + step, end))[0]) for at in range(start, end, step)
            ]
            found = [(at, value) for at, value in means if value is not None]
            touched = {start + (at - start) // step * step for at in estimated if at >= start}
            view["step_ms"], estimated = step, touched
        elif (before := self.series.holding(start)) is not None:
            found = [before, *found] if not found or found[0][0] > before[0] else found
        view["points"] = [
            {
                "time": rfc3339(at),
                "intensity": value,
                "estimated": at in estimated,
                "simulated": latest.simulated,
            }
            for at, value in found
        ]
        return view


class Grids:
    """The intensities of every zone, the home zone's first."""

    def __init__(self, config: Config) -> None:
        bands = Bands.of(config.threshold)
        self._zones = {zone: Zone(zone, bands) for zone in (config.zone, *config.zones)}
        self.home = self._zones[config.zone]

    @property
    def zones(self) -> list[str]:
        return list(self._zones)

    def zone(self, name: str) -> Zone:
        """KeyError for one that is not configured."""
        return self._zones[name]

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
            "unit": UNIT,
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
