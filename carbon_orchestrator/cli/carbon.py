"""`carbon`: the grid now and ahead, and when a run would emit the least."""

from __future__ import annotations

import shutil
from typing import Any

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.charts import Bounds, bars, chart
from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.cli.gateway_options import DEFAULT_URL, ApiKeyFile, Url, gateway_client
from carbon_orchestrator.cli.job_text import intensity_note, time_note
from carbon_orchestrator.cli.output import Column, Json
from carbon_orchestrator.cli.quantities import duration as length
from carbon_orchestrator.cli.quantities import moment, until
from carbon_orchestrator.clock import parse_time, rfc3339

_HOUR_MS = 3_600_000
_PAST_HOURS, _AHEAD_HOURS = 12, 48
_HEIGHT = 10
_NARROWEST, _WIDEST = 24, 120


def carbon(
    *,
    zone: str | None = None,
    duration: str | None = None,
    deadline: str | None = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Show the grid's carbon, now and ahead, or when to run.

    With --duration, it says when a run of that length would emit the least.

    Parameters
    ----------
    zone
        Of which zone; by default the home zone.
    duration
        How long a run takes, such as 2h: says when it would emit the least.
    deadline
        When that run must be done: a time such as 2026-01-31T18:00Z, or a duration such as 8h.
    """
    if deadline is not None and duration is None:
        raise Failure("--deadline goes with --duration", USAGE)
    client = gateway_client(url, api_key_file)
    if duration is not None:
        if json:
            asked = {"duration": duration, "deadline": deadline, "zone": zone}
            output.write_json(client.get("/carbon/best-window", **asked))
            return
        window = client.best_window(duration, deadline=deadline, zone=zone)
        output.note(str(window), style="")
        if window.latest_start is not None:
            ahead = window.wait.total_seconds()
            then = f"that is in {length(1000 * ahead)}; " if ahead > 0 else ""
            output.hint(f"{then}it may start at {_shown(window.latest_start)} at the latest")
        return
    grid = client.get("/carbon", zone=zone)
    if json:
        output.write_json(grid)
        return
    now = parse_time(grid["clock"]["now"])
    output.write(f"{grid['zone']}: {intensity_note(grid)}; {time_note(grid)}")
    for remark in remarks(grid):
        output.note(remark, "yellow")
    if grid.get("intensity") is None:
        return
    if not output.on_terminal():
        output.table(COLUMNS, rows(grid))
        return
    since = rfc3339(now - _PAST_HOURS * _HOUR_MS)
    past = client.get("/carbon/history", zone=zone, **{"from": since})["points"]
    _draw(grid, past, now)


def remarks(grid: Any) -> list[str]:
    """What is wrong with the signal, in words."""
    said = [grid.get("unusable"), grid.get("degraded")]
    return [each for each in said if each]


COLUMNS = (
    Column("time (UTC)"),
    Column("starts"),
    Column("gCO2e/kWh", right=True),
    Column("low", right=True),
    Column("high", right=True),
    Column("band"),
)


def rows(grid: Any) -> list[list[str]]:
    """The forecast as rows of COLUMNS, of now first."""
    bounds, now = Bounds(grid.get("low"), grid.get("high")), grid["clock"]["now"]
    value = grid["intensity"]
    made = [[moment(now)[:16], "now", f"{value:.0f}", "", "", grid.get("band") or ""]]
    made += [
        [
            moment(each["time"])[:16],
            until(each["time"], now),
            f"{each['intensity']:.0f}",
            "" if each.get("low") is None else f"{each['low']:.0f}",
            "" if each.get("high") is None else f"{each['high']:.0f}",
            bounds.band(each["intensity"]),
        ]
        for each in grid["forecast"]
        if each["time"] > now
    ]
    return made


def _draw(grid: Any, past: Any, now: int) -> None:
    from rich.text import Text

    columns = shutil.get_terminal_size().columns
    width = max(_NARROWEST, min(columns - 8, _WIDEST))
    ahead = grid["forecast"]
    last = max([now + 6 * _HOUR_MS, *(parse_time(each["time"]) for each in ahead)])
    start, end = now - _PAST_HOURS * _HOUR_MS, min(last, now + _AHEAD_HOURS * _HOUR_MS)
    if past:
        start = max(start, min(now - _HOUR_MS, parse_time(past[0]["time"])))
    bounds = Bounds(grid.get("low"), grid.get("high"))
    current = {"time": grid["since"], "intensity": grid["intensity"]}
    shown = bars([*past, current], ahead, now, start, end, width)
    for spans in chart(shown, bounds, _HEIGHT, now):
        output.console().print(Text.assemble(*spans), no_wrap=True, overflow="crop")
    if bounds.low is not None and bounds.high is not None:
        output.note(f"gCO2e/kWh; low is up to {bounds.low:.0f}, high is from {bounds.high:.0f}")
    output.note("█ so far  ░ expected  · may rise to that, in 1 of 10 cases; times are UTC")


def _shown(when: Any) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
