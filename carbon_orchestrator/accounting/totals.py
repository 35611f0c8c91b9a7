"""What accounting counts: from completion and emission events to increments, pure.

A day's totals are a hash; each field is `METRIC|PROJECT|TYPE|POOL|ZONE`, each value an
integer, so sums are exact in any order. The day is the UTC day, on the grid clock, on which
an attempt ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from carbon_orchestrator.clock import day
from carbon_orchestrator.events import (
    EmissionsRecorded,
    Finish,
    JobCompleted,
    JobFailed,
    JobSuspended,
)
from carbon_orchestrator.run_times import bucket
from carbon_orchestrator.topology import Topology
from streams.commit import Transaction

#: Metric to its meaning.
METRICS = {
    "attempts": "attempts that ended",
    "completed": "jobs completed",
    "failed": "jobs failed for good",
    "cancelled": "jobs cancelled while running",
    "suspended": "attempts suspended for a greener time",
    "run_ms": "wall time run, all attempts",
    "wait_ms": "grid time from submission to the start of the completing attempt",
    "deadlines_met": "jobs completed by their deadline",
    "deadlines_missed": "jobs completed after their deadline, or failed with one",
    "energy_mj": "energy, mJ",
    "emissions_ug": "emitted, µg CO2e",
    "baseline_ug": "emitted had each job begun at its submission, µg CO2e",
    "unpriced_mj": "energy for which no intensity was known, mJ; not in the emissions",
}
GROUPS = ("day", "project", "type", "pool", "zone")


def ended(event: Finish) -> Iterator[tuple[str, int]]:
    """The counts of the end of an attempt."""
    yield "attempts", 1
    yield "run_ms", event.run_ms
    if isinstance(event, JobSuspended):
        yield "suspended", 1
    elif isinstance(event, JobCompleted):
        yield "completed", 1
        yield "wait_ms", max(0, event.started_at - event.submitted_at)
        if event.deadline is not None:
            yield ("deadlines_met" if event.at <= event.deadline else "deadlines_missed"), 1
    elif not isinstance(event, JobFailed):
        return
    elif event.cancelled:
        yield "cancelled", 1
    elif event.final:
        yield "failed", 1
        if event.deadline is not None:
            yield "deadlines_missed", 1


def burnt(event: EmissionsRecorded) -> Iterator[tuple[str, int]]:
    """The amounts of an attempt."""
    yield "energy_mj", event.energy_mj
    yield "emissions_ug", event.emissions_ug
    yield "baseline_ug", event.baseline_ug
    yield "unpriced_mj", event.unpriced_mj


def learned(event: Finish | EmissionsRecorded) -> Iterator[tuple[str, int]]:
    """What an event teaches of its type on its pool, as `Learned.parse` reads it: a completed
    job's whole run time, and the energy and run time of every attempt."""
    if isinstance(event, EmissionsRecorded):
        yield "energy_mj", event.energy_mj
        return
    yield "run_ms", event.run_ms
    if isinstance(event, JobCompleted):
        whole = event.run_ms if event.segments == 1 else event.total_run_ms
        if whole is not None:  # it ran on one pool only
            yield str(bucket(whole)), 1


def account(transaction: Transaction, topology: Topology, event: Any, zone: str) -> str | None:
    """Add to `transaction` what the event counts for; returns the day that it counts in.
    Other events count for nothing (None)."""
    if isinstance(event, Finish):
        amounts = ended(event)
    elif isinstance(event, EmissionsRecorded):
        amounts, zone = burnt(event), event.zone or zone
    else:
        return None
    durations = topology.durations(event.type, event.pool)
    for name, amount in learned(event):
        if amount:
            transaction.increment(durations, name, amount)
    today = day(event.at)
    totals = topology.totals(today)
    suffix = f"|{event.project}|{event.type}|{event.pool}|{zone}"
    for metric, amount in amounts:
        if amount:
            transaction.increment(totals, metric + suffix, amount)
    return today


class Row(msgspec.Struct, frozen=True):
    """One line of a report: the values of the groups asked for, and the sums."""

    group: dict[str, str]
    sums: dict[str, int]

    @property
    def avoided_ug(self) -> int:
        """Baseline less emitted; negative where waiting made it worse."""
        return self.sums["baseline_ug"] - self.sums["emissions_ug"]


def report(days: Mapping[str, Mapping[bytes, bytes]], by: tuple[str, ...]) -> list[Row]:
    """Totals of these days (day to its hash), summed over what `by` does not name."""
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for one_day, hashed in days.items():
        for field, value in hashed.items():
            metric, *rest = field.decode().split("|")
            values = dict(zip(GROUPS, (one_day, *rest), strict=True))
            key = tuple(values[name] for name in by)
            row = sums.setdefault(key, dict.fromkeys(METRICS, 0))
            row[metric] = row.get(metric, 0) + int(value)
    return [Row(dict(zip(by, key, strict=True)), sums[key]) for key in sorted(sums)]
