"""A report, as the gateway tells it, put into rows and words for people. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from carbon_orchestrator.accounting.report import Row
from carbon_orchestrator.accounting.totals import METRICS
from carbon_orchestrator.cli.job_text import pool_name
from carbon_orchestrator.cli.output import Column
from carbon_orchestrator.cli.quantities import duration, energy, mass, percent

Figures = Mapping[str, Any]
#: Title, what it shows, and how long it is kept where the terminal is narrow: 0 for always.
_COLUMNS: tuple[tuple[str, Callable[[Figures], str], int], ...] = (
    ("jobs", lambda row: str(row["jobs"]), 0),
    ("failed", lambda row: str(row["failed"]), 6),
    ("energy", lambda row: energy(row["energy_mj"]), 3),
    ("emitted", lambda row: mass(row["emitted_now_ug"]), 0),
    ("baseline", lambda row: mass(row["baseline_now_ug"]), 1),
    ("avoided", lambda row: mass(row["avoided_now_ug"]), 0),
    ("%", lambda row: percent(row["avoided_now_ug"], row["baseline_now_ug"]), 0),
    ("of possible", lambda row: _reached(row["share_reached"]), 5),
    ("waited", lambda row: _length(row["mean_wait_ms"]), 4),
    ("met", lambda row: str(row["deadlines_met"]), 7),
    ("missed", lambda row: str(row["deadlines_missed"]), 2),
    ("wasted", lambda row: mass(row["wasted_ug"]), 8),
    ("SCI/job", lambda row: "" if row["sci_ug"] is None else mass(row["sci_ug"]), 9),
)
_GAP = 2  # characters between columns
_METHODS = {
    "cpu-time-model": "CPU time × a power model",
    "cpu-request-model": "CPU requests × a power model",
    "rapl-cpu-share": "RAPL, shared by CPU time",
    "nvml": "NVML",
    "gpu-unmeasured": "GPU not measured",
}


def read(got: Any) -> list[Row]:
    """The rows of the gateway's answer."""
    return [
        Row(
            {name: str(each[name]) for name in got["by"]},
            {name: each.get(name, 0) for name in METRICS},
            each.get("methods", {}),
            each.get("sources", {}),
        )
        for each in got["rows"]
    ]


def total(rows: Sequence[Row]) -> Row:
    """All of them in one."""
    sums, methods, sources = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        for into, found in ((sums, row.sums), (methods, row.methods), (sources, row.sources)):
            for name, amount in found.items():
                into[name] += amount
    return Row({}, {name: sums[name] for name in METRICS}, dict(methods), dict(sources))


def table(
    by: Sequence[str], rows: Sequence[Row], width: int | None = None
) -> tuple[list[Column], list[list[str]]]:
    """The columns, and one line a group, with their sum where there are several.

    `width`: of the terminal in characters; what does not fit is left out, least important first.
    """
    lines = [[pool_name(row.group[name]) for name in by] for row in rows]
    shown = list(rows)
    if len(rows) > 1 and by:
        lines.append(["total", *[""] * (len(by) - 1)])
        shown.append(total(rows))
    figures = [each.json() for each in shown]
    cells = {title: [cell(each) for each in figures] for title, cell, _ in _COLUMNS}
    kept = [(title, rank) for title, _, rank in _COLUMNS]
    if width is not None:
        left = width - sum(
            max(len(name), *(len(line[at]) for line in lines)) + _GAP for at, name in enumerate(by)
        )
        needs = {
            title: max(len(title), *map(len, column)) + _GAP for title, column in cells.items()
        }
        while sum(needs[title] for title, _ in kept) - _GAP > left and any(
            rank for _, rank in kept
        ):
            kept.remove(max(kept, key=lambda each: each[1]))
    columns = [Column(name) for name in by] + [Column(title, right=True) for title, _ in kept]
    for at, line in enumerate(lines):
        line += [cells[title][at] for title, _ in kept]
    return columns, lines


def remarks(whole: Row) -> Iterator[tuple[str, str]]:
    """What the figures rest on, as names and sentences."""
    figures = whole.json()
    yield (
        "emitted",
        "energy × the grid's intensity meanwhile, by "
        + _shares({_source(name): each for name, each in whole.sources.items()}),
    )
    if whole.sums["restated"]:
        change = mass(whole.sums["restated_ug"])
        sign = "" if change.startswith("-") else "+"
        yield "restated", f"{sign}{change} of it by intensities that came or were revised later"
    if unpriced := whole.sums["unpriced_mj"] + whole.sums["unpriced_restated_mj"]:
        yield "unpriced", f"{energy(unpriced)} were used while no intensity was known: not counted"
    yield "baseline", "the same jobs run at once, on FAST, at home; avoided = baseline − emitted"
    if figures["share_reached"] is not None:
        of = f"{whole.sums['bounded']} of {whole.sums['attempts']} attempts"
        yield "possible", f"what could have been avoided, had the future been known: of {of}"
    measured = _shares({_method(name): each for name, each in whole.methods.items()})
    uncertain = figures["uncertainty"]
    yield "energy", measured + ("" if uncertain is None else f"; ±{100 * uncertain:.0f} %")
    if whole.sums["wasted_ug"] or whole.sums["wasted_mj"]:
        wasted = energy(whole.sums["wasted_mj"])
        yield "wasted", f"by attempts that failed or were broken off, {wasted}: counted as emitted"
    if figures["sci_ug"] is not None:
        score, embodied = mass(figures["sci_ug"]), mass(whole.sums["embodied_ug"])
        yield "SCI", f"{score} CO2e a job (ISO/IEC 21031:2024), {embodied} embodied in all"
    if figures["mean_wait_ms"] is not None:
        yield "waited", f"{duration(figures['mean_wait_ms'])} on average before they ran"
    yield "days", "are UTC days, on the grid's clock"


def _shares(amounts: Mapping[str, int]) -> str:
    """Names by their share, the largest first."""
    whole = sum(amounts.values())
    if not whole:
        return ", ".join(sorted(amounts)) or "nothing yet"
    if len(amounts) == 1:
        return next(iter(amounts))
    ordered = sorted(amounts.items(), key=lambda each: -each[1])
    return "; ".join(f"{_share(each / whole)} {name}" for name, each in ordered)


def _source(label: str) -> str:
    name, _, kind = label.partition(", ")
    return f"{name} ({kind})" if kind else name


def _method(name: str) -> str:
    return " + ".join(_METHODS.get(part, part) for part in name.split("+"))


def _share(share: float | None) -> str:
    if share is None:
        return ""
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _reached(share: float | None) -> str:
    # Where next to nothing was possible, what was lost is a huge multiple that tells nothing.
    return "<-100 %" if share is not None and share < -1 else _share(share)


def _length(ms: float | None) -> str:
    return "" if ms is None else duration(ms)
