"""One picture of a simulation: the grid, when power was drawn, and what that saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from carbon_orchestrator.pictures import canvas
from carbon_orchestrator.router.curve import Values
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.results import Outcome
from carbon_orchestrator.simulation.traces import Trace

_WEEK_MS = 7 * 86_400_000
_GREY, _GREEN, _DARK = "#9aa0a6", "#2e9e5b", "#30343b"


def power(fates: Sequence[Fate], start: int, end: int, step_ms: int) -> Values:
    """Mean kW drawn in each step of [start, end)."""
    count = -(-(end - start) // step_ms)
    energy = np.zeros(count + 1)  # mJ up to each edge
    edges = start + step_ms * np.arange(count + 1)
    for fate in fates:
        for part in fate.segments:
            if part.end > start and part.start < end:
                share = np.clip((edges - part.start) / (part.end - part.start), 0.0, 1.0)
                energy += part.energy_mj * share
    return np.asarray(np.diff(energy) / step_ms / 1000)


def busiest(fates: Sequence[Fate], trace: Trace) -> tuple[int, int]:
    """The week, or all of a shorter trace, in which most jobs were submitted, ms."""
    times = np.array(sorted(fate.job.spec.submitted_at for fate in fates), dtype=np.int64)
    last = max(trace.end - _WEEK_MS, trace.start)
    days = np.arange(trace.start, last + 1, 86_400_000)
    counts = np.searchsorted(times, days + _WEEK_MS) - np.searchsorted(times, days)
    start = int(days[int(counts.argmax())])
    return start, min(start + _WEEK_MS, trace.end)


def draw(
    path: Path,
    trace: Trace,
    runs: Mapping[str, Sequence[Fate]],
    outcomes: Sequence[Outcome],
    title: str,
) -> None:
    """Draw to `path` (.svg or .png): for the busiest week the intensity, and power as drawn by
    `run_now` and by the policy that saves most; and the savings of all policies.

    `runs` holds the fates by policy, "run_now" among them. Raises PictureError, OSError.
    """
    pyplot = canvas(path)

    best = max(outcomes, key=lambda each: each.saved).policy
    start, end = busiest(runs["run_now"], trace)
    step = max(trace.step_ms, 1_800_000)
    with pyplot.rc_context({"font.size": 9, "svg.hashsalt": "carbon", "svg.fonttype": "none"}):
        figure = pyplot.figure(figsize=(10, 4.4), layout="constrained")
        try:
            grid = figure.add_gridspec(2, 2, width_ratios=(3.2, 1), height_ratios=(1, 1.4))
            upper = figure.add_subplot(grid[0, 0])
            lower = figure.add_subplot(grid[1, 0], sharex=upper)
            _intensity(upper, trace, start, end)
            for policy, colour in (("run_now", _GREY), (best, _GREEN)):
                _power(lower, power(runs[policy], start, end, step), start, step, policy, colour)
            lower.set_ylabel("power, kW")
            lower.legend(frameon=False, loc="upper right", ncols=2)
            lower.set_ylim(bottom=0, top=lower.get_ylim()[1] * 1.15)
            _days(lower)
            _savings(figure.add_subplot(grid[:, 1]), outcomes)
            figure.suptitle(title, x=0.01, ha="left", color=_DARK)
            # A fixed date keeps the same inputs the same file.
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})
        finally:
            pyplot.close(figure)


def _times(start: int, count: int, step: int) -> list[datetime]:
    return [datetime.fromtimestamp((start + n * step) / 1000, UTC) for n in range(count)]


def _intensity(axes: Any, trace: Trace, start: int, end: int) -> None:
    values = trace.values[trace.index(start) : trace.index(end - 1) + 1]
    times = _times(start, len(values), trace.step_ms)
    axes.plot(times, values, color=_DARK, linewidth=1.2, drawstyle="steps-post")
    axes.fill_between(times, values, step="post", color=_DARK, alpha=0.08, linewidth=0)
    axes.set_ylabel("gCO$_2$e/kWh")
    axes.set_ylim(bottom=0)
    axes.tick_params(labelbottom=False)
    _plain(axes)


def _power(axes: Any, kw: Values, start: int, step: int, name: str, colour: str) -> None:
    times = _times(start, len(kw), step)
    axes.fill_between(times, kw, step="post", color=colour, alpha=0.45, linewidth=0)
    axes.plot(times, kw, color=colour, linewidth=1, drawstyle="steps-post", label=name)
    _plain(axes)


def _days(axes: Any) -> None:
    from matplotlib import dates

    typed: Any = dates
    axes.xaxis.set_major_locator(typed.DayLocator())
    axes.xaxis.set_major_formatter(typed.DateFormatter("%a %d %b"))
    axes.margins(x=0)


def _savings(axes: Any, outcomes: Sequence[Outcome]) -> None:
    names = [each.policy for each in outcomes]
    saved = [100 * each.saved for each in outcomes]
    bars = axes.barh(names, saved, color=_GREEN, height=0.55)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axes.bar_label(bars, fmt="%.1f %%", padding=3, bbox=paper)
    first = outcomes[0]
    if first.run_now_ug:
        optimum = 100 * (1 - first.optimum_ug / first.run_now_ug)
        axes.axvline(optimum, color=_DARK, linestyle="--", linewidth=1)
        axes.set_title(f"optimum {optimum:.1f} %", fontsize=9, color=_DARK, loc="right")
        axes.set_xlim(min(0.0, *saved), max(optimum, *saved) * 1.35 or 1)
    axes.invert_yaxis()
    axes.set_xlabel("emissions saved, %")
    _plain(axes)


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
