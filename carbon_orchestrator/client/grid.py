"""The grid, the sums and the health of a deployment, as answered by its gateway. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any

import msgspec

_MOST_ROWS = 100


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
        shown = self.rows[:_MOST_ROWS]
        lines = [_line("td", [str(row.get(each, "")) for each in columns]) for row in shown]
        left = len(self.rows) - len(shown)
        more = f"<p>and {left} more</p>" if left else ""
        return f"<table>{_line('th', columns)}{''.join(lines)}</table>{more}"


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(each)}</{tag}>' for each in cells)}</tr>"


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
