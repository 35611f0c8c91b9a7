"""One picture of a report: what each day emitted, would have emitted, and could have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from carbon_orchestrator.accounting.report import Row
from carbon_orchestrator.pictures import canvas

_GREY, _GREEN, _DARK = "#c9cdd2", "#2e9e5b", "#30343b"
_UNITS = ((10**12, "t"), (10**9, "kg"), (10**6, "g"), (10**3, "mg"), (1, "µg"))
_MOST_DAYS = 92  # drawn one by one; more are drawn by weeks


def draw(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw `rows`, one a day, to `path` (.svg or .png). Raises PictureError, OSError, and
    ValueError where there are none."""
    if not rows:
        raise ValueError("no days to draw")
    pyplot = canvas(path)

    days = [datetime.fromisoformat(row.group["day"]).replace(tzinfo=UTC) for row in rows]
    step = 1 if (max(days) - min(days)).days <= _MOST_DAYS else 7
    heights = _heights(days, rows, step)
    most = max(max(each[:2]) for each in heights.values())
    factor, unit = next((each for each in _UNITS if most >= each[0]), _UNITS[-1])
    with pyplot.rc_context({"font.size": 9, "svg.hashsalt": "carbon", "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
        try:
            _bars(axes, heights, factor, step)
            axes.set_ylabel(f"{unit} CO$_2$e a {'day' if step == 1 else 'week'}")
            figure.suptitle(title, x=0.01, ha="left", color=_DARK)
            # A fixed date keeps the same inputs the same file.
            dated = {"Date": None} if path.suffix.lower() == ".svg" else {}
            figure.savefig(path, dpi=150, metadata=dated)
        finally:
            pyplot.close(figure)


def _heights(
    days: Sequence[datetime], rows: Sequence[Row], step: int
) -> dict[datetime, tuple[int, int, int]]:
    """µg of the baseline, emitted, and the least possible, by the first of each `step` days."""
    found: dict[datetime, tuple[int, int, int]] = {}
    for day, row in zip(days, rows, strict=True):
        figures = row.json()
        emitted = figures["emitted_now_ug"]
        # Attempts without a bound (yet) could have done no better, as far as is known.
        least = emitted - figures["bounded_ug"] + figures["bound_ug"]
        first = day - timedelta(days=day.weekday() if step == 7 else 0)
        before = found.get(first, (0, 0, 0))
        amounts = figures["baseline_now_ug"], emitted, least
        found[first] = (before[0] + amounts[0], before[1] + amounts[1], before[2] + amounts[2])
    return found


def _bars(
    axes: Any, heights: Mapping[datetime, tuple[int, int, int]], factor: int, step: int
) -> None:
    from matplotlib import dates

    typed: Any = dates
    at = typed.date2num(list(heights)) + (step - 1) / 2
    baseline, emitted, least = (
        [amounts[which] / factor for amounts in heights.values()] for which in range(3)
    )
    bars = [
        axes.bar(at, baseline, width=0.8 * step, color=_GREY, label="baseline: at once, on FAST"),
        axes.bar(at, emitted, width=0.5 * step, color=_GREEN, label="emitted"),
        axes.hlines(
            least,
            at - 0.4 * step,
            at + 0.4 * step,
            color=_DARK,
            linewidth=1.5,
            label="least possible, the future known",
        ),
    ]
    # A day alone is no wider than one of a week.
    middle, reach = (at[0] + at[-1]) / 2, max((at[-1] - at[0]) / 2, 3.0) + 0.7 * step
    axes.set_xlim(middle - reach, middle + reach)
    axes.set_ylim(0, max(*baseline, *emitted, 1e-9) * 1.18)
    axes.xaxis.set_major_locator(typed.AutoDateLocator(minticks=3, maxticks=9))
    axes.xaxis.set_major_formatter(typed.DateFormatter("%a %d %b" if step == 1 else "%d %b %Y"))
    axes.tick_params(axis="x", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(handles=bars, frameon=False, loc="upper left", ncols=3, borderaxespad=0.0)
