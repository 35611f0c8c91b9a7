"""Reports: a deployment's totals as rows, and those as JSON and CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from carbon_orchestrator.accounting.totals import GROUPS, METHOD, METRICS, SOURCE

#: Figures that follow from the sums, and their meaning.
DERIVED = {
    "jobs": "jobs that ended: completed, failed, or cancelled while running",
    "avoided_ug": "baseline less emitted, µg CO2e, as first recorded",
    "emitted_now_ug": "emitted, µg CO2e, by the intensities known by now",
    "baseline_now_ug": "baseline, µg CO2e, by the intensities known by now",
    "avoided_now_ug": "baseline less emitted, µg CO2e, by the intensities known by now",
    "share_reached": "of what could have been avoided with the future known, the part that was "
    "(0 to 1; attempts that have a bound)",
    "mean_wait_ms": "wait_ms for each job completed",
    "sci_ug": "SCI score: (emitted_now_ug + embodied_ug) / jobs completed, µg CO2e per job",
    "uncertainty": "of the energy, relative: 0.3 means ±30 %",
    "methods": "energy by how it was measured, mJ",
    "sources": "emissions as first recorded by the intensities they rest on, µg CO2e",
}
METHOD_IN_WORDS = (
    "Emissions: the energy of every attempt, failed ones too, spread evenly over its run, times "
    "the grid's intensity in its zone at the time. Baseline: the same job run at once, on FAST, "
    "in the home zone, by the intensities that then held; where any of those is unknown, what was "
    "emitted. Bound: the least that the same energy could have emitted in a run of the same length "
    "between submission and deadline, the future known. SCI (ISO/IEC 21031:2024): "
    "((E x I) + M) / R, R one job completed. Average and marginal intensities are never mixed in "
    "one figure."
)


class Row(msgspec.Struct, frozen=True):
    """One line of a report: the values of the groups asked for, and the sums: by metric, of
    energy (mJ) by method, and of emissions (µg) by source."""

    group: dict[str, str]
    sums: dict[str, int]
    methods: dict[str, int] = {}
    sources: dict[str, int] = {}

    @property
    def avoided_ug(self) -> int:
        """Baseline less emitted, as first recorded; negative where waiting made it worse."""
        return self.sums["baseline_ug"] - self.sums["emissions_ug"]

    def derived(self) -> dict[str, Any]:
        """By the names of DERIVED."""
        sums = self.sums
        completed, energy = sums["completed"], sums["energy_mj"]
        emitted = sums["emissions_ug"] + sums["restated_ug"]
        baseline = sums["baseline_ug"] + sums["baseline_restated_ug"]
        possible = sums["bounded_baseline_ug"] - sums["bound_ug"]
        reached = sums["bounded_baseline_ug"] - sums["bounded_ug"]
        return {
            "jobs": completed + sums["failed"] + sums["cancelled"],
            "avoided_ug": self.avoided_ug,
            "emitted_now_ug": emitted,
            "baseline_now_ug": baseline,
            "avoided_now_ug": baseline - emitted,
            "share_reached": round(reached / possible, 4) if possible > 0 else None,
            "mean_wait_ms": round(sums["wait_ms"] / completed) if completed else None,
            "sci_ug": round((emitted + sums["embodied_ug"]) / completed) if completed else None,
            "uncertainty": round(sums["uncertain_mj"] / energy, 4) if energy else None,
            "methods": self.methods,
            "sources": self.sources,
        }

    def json(self) -> dict[str, Any]:
        """All of it, flat."""
        return {**self.group, **self.sums, **self.derived()}


def report(days: Mapping[str, Mapping[bytes, bytes]], by: tuple[str, ...]) -> list[Row]:
    """Totals of these days (day to its hash), summed over what `by` does not name."""
    rows: dict[tuple[str, ...], Row] = {}
    for one_day, hashed in days.items():
        for field, value in hashed.items():
            metric, *rest = field.decode().split("|")
            values = dict(zip(GROUPS, (one_day, *rest), strict=True))
            key = tuple(values[name] for name in by)
            if (row := rows.get(key)) is None:
                group = dict(zip(by, key, strict=True))
                row = rows[key] = Row(group, dict.fromkeys(METRICS, 0), {}, {})
            if metric.startswith(METHOD):
                into, metric = row.methods, metric.removeprefix(METHOD)
            elif metric.startswith(SOURCE):
                into, metric = row.sources, metric.removeprefix(SOURCE)
            else:
                into = row.sums
            into[metric] = into.get(metric, 0) + int(value)
    return [rows[key] for key in sorted(rows)]


def simulated(rows: Iterable[Row]) -> bool:
    """Whether any of it rests on intensities that are made up."""
    return any(label.endswith(", simulated") for row in rows for label in row.sources)


def to_csv(rows: Iterable[Row], by: tuple[str, ...]) -> str:
    """RFC 4180, with a header; units are in the names of the columns (mj: mJ, ug: µg CO2e).

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    columns = (*METRICS, *DERIVED)
    writer.writerow((*by, *columns))
    for row in rows:
        values = row.json()
        writer.writerow(
            [_harmless(row.group[name]) for name in by] + [_cell(values[c]) for c in columns]
        )
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return _harmless("; ".join(f"{name}: {amount}" for name, amount in sorted(value.items())))
    return str(value)


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text
