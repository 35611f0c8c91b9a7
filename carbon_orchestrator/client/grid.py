"""The grid, the sums and the health of a deployment, as answered by its gateway. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from carbon_orchestrator.client import notebook
from carbon_orchestrator.client.jobs import shown


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The grid clock: `speed` 1 is real time."""

    now: datetime
    speed: float = 1.0
    signal: str | None = None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected from `time` on, gCO2e/kWh; in 8 of 10 cases from `low` to `high`."""

    time: datetime
    intensity: float
    low: float | None = None
    high: float | None = None


class Carbon(msgspec.Struct, frozen=True, kw_only=True):
    """A zone's grid. `signal`: "ok", "degraded" or "none", and then `unusable` says why.

    `intensity` in gCO2e/kWh, its `band` "low" (up to `low`), "medium" or "high" (from `high`).
    """

    zone: str
    zones: tuple[str, ...] = ()
    clock: Clock
    signal: str = "none"
    unusable: str | None = None
    intensity: float | None = None
    since: datetime | None = None
    age_ms: int | None = None
    band: str | None = None
    low: float | None = None
    high: float | None = None
    source: str | None = None
    kind: str | None = None
    estimated: bool = False
    simulated: bool = False
    degraded: str | None = None
    forecast_source: str | None = None
    forecast: tuple[Expected, ...] = ()


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What held from `time` on, gCO2e/kWh."""

    time: datetime
    intensity: float
    estimated: bool = False
    simulated: bool = False


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A zone's past. `low` and `high` bound the medium band, as they are now."""

    zone: str
    unit: str = "gCO2e/kWh"
    kind: str | None = None
    low: float | None = None
    high: float | None = None
    points: tuple[Point, ...] = ()


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A run from `start` to `end` at this mean intensity, gCO2e/kWh; in 8 of 10 cases from `low`
    to `high`."""

    start: datetime
    end: datetime
    intensity: float
    low: float | None = None
    high: float | None = None


class BestWindow(msgspec.Struct, frozen=True, kw_only=True):
    """When a run of this length emits the least. `saving`: the share of what it would emit
    `now` that is saved by the `best`; `latest_start`: to be done by the deadline;
    `forecast_until`: what lies beyond is not foreseen."""

    zone: str
    duration_ms: int
    deadline: datetime | None = None
    now: Window
    best: Window
    saving: float | None = None
    latest_start: datetime | None = None
    forecast_until: datetime | None = None
    simulated: bool = False

    @property
    def wait(self) -> timedelta:
        """From now to the best start."""
        return self.best.start - self.now.start

    def __str__(self) -> str:
        """In a sentence."""
        best, now = self.best, self.now
        label = ", SIMULATED" if self.simulated else ""
        if best.start <= now.start:
            return f"Start now: {best.intensity:.0f} gCO2e/kWh{label}; waiting would not be better."
        saving = f", {100 * self.saving:.0f} % less than" if self.saving else ";"
        return (
            f"Start at {shown(best.start)}: {best.intensity:.0f} gCO2e/kWh{label}{saving}"
            f" {now.intensity:.0f} {'for a start ' if self.saving else ''}now."
        )

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        best, now = self.best, self.now
        between = (
            ""
            if best.low is None or best.high is None
            else (f", in 8 of 10 cases {best.low:.0f} to {best.high:.0f}")
        )
        return notebook.facts(
            {
                "zone": self.zone,
                "best start": shown(best.start),
                "end": shown(best.end),
                "intensity then": f"{best.intensity:.0f} gCO2e/kWh{between}",
                "starting now": f"{now.intensity:.0f} gCO2e/kWh",
                "saving": "" if self.saving is None else f"{100 * self.saving:.0f} %",
                "latest start": "" if self.latest_start is None else shown(self.latest_start),
                "note": "SIMULATED intensities" if self.simulated else "",
            }
        )


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """What a scaler decided last."""

    workers: int
    reason: str
    at: datetime


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A pool in a zone (None is the home zone). `slots`: jobs that its live workers can run at
    once; `sized`: None where no scaler looks after it."""

    site: str
    pool: str
    zone: str | None = None
    workers: int = 0
    slots: int = 0
    running: int = 0
    waiting: int = 0
    sized: Sized | None = None


class Emissions(msgspec.Struct, frozen=True, kw_only=True):
    """Sums by group. `rows`: one a group, with its names and its sums; `metrics`: what each sum
    is, with its unit. `pandas.DataFrame(emissions.rows)` makes a table of it."""

    by: tuple[str, ...]
    rows: list[dict[str, Any]]
    metrics: dict[str, str] = {}
    simulated: bool | None = None

    @property
    def emissions_g(self) -> float:
        """Emitted in all rows, by the intensities known by now, in grams of CO2e."""
        return self._sum_ug("emitted_now_ug", "emissions_ug")

    @property
    def avoided_g(self) -> float:
        """What running each job at once on FAST at home would have emitted, less that; g CO2e."""
        return self._sum_ug("avoided_now_ug", "avoided_ug")

    def _sum_ug(self, metric: str, as_first_recorded: str) -> float:
        sums = [int(row.get(metric, row.get(as_first_recorded, 0))) for row in self.rows]
        return sum(sums) / 1e6

    def _repr_html_(self) -> str:
        """A table for notebooks, of the first rows."""
        columns = [*self.by, "completed", "energy_mj", "emissions_ug", "avoided_ug"]
        rows = ([str(row.get(each, "")) for each in columns] for row in self.rows)
        return notebook.table(columns, rows, len(self.rows))


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """A stream and a group that reads it. `lag`: entries not yet delivered, None if unknown."""

    stream: str
    group: str
    lag: int | None = None
    pending: int = 0
    live_consumers: int = 0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is "ok" or "degraded"; all else is told only to those who may read everything.
    `no_consumers`: kinds of role that are missing; `jobs`: how many by state."""

    status: str
    version: str | None = None
    no_consumers: tuple[str, ...] = ()
    jobs: dict[str, int] = {}
    dead_letters: int | None = None
    carbon: Carbon | None = None
    streams: tuple[StreamState, ...] = ()

    @property
    def ok(self) -> bool:
        return self.status == "ok"
