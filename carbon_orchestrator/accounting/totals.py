"""What accounting counts: from completion and emission events to increments, pure.

A day's totals are a hash; each field is `METRIC|PROJECT|TYPE|POOL|ZONE`, each value an
integer, so sums are exact in any order. The day is the UTC day, on the grid clock, on which
an attempt ended. Besides METRICS there are `method:NAME`, the energy (mJ) that was measured so,
and `source:NAME, KIND...`, the emissions (µg) that were reckoned by intensities of that source.
`totals:ever` has the sums of all days: its fields are `METRIC|POOL|ZONE`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from carbon_orchestrator.clock import day
from carbon_orchestrator.events import (
    Change,
    EmissionsRecorded,
    EmissionsSettled,
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
    "emissions_ug": "emitted, µg CO2e, as first recorded",
    "baseline_ug": "emitted had each job run at once on FAST at home, µg CO2e, as first recorded",
    "unpriced_mj": "energy for which no intensity was known, mJ; not in the emissions",
    "embodied_ug": "share of the machines' making that the runs used up, µg CO2e",
    "uncertain_mj": "energy times its relative uncertainty, mJ",
    "wasted_mj": "energy of attempts that failed or were broken off, mJ; in the energy too",
    "wasted_ug": "emitted by those, µg CO2e; in the emissions too",
    "restated": "changes to attempts by intensities that came or were revised later",
    "restated_ug": "what they change in the emissions, µg CO2e",
    "baseline_restated_ug": "what they change in the baseline, µg CO2e",
    "unpriced_restated_mj": "what they change in the energy without an intensity, mJ",
    "bounded": "attempts of which it is known by now how little they could have emitted",
    "bound_ug": "the least that those could have emitted, µg CO2e",
    "bounded_ug": "what those emitted, µg CO2e",
    "bounded_baseline_ug": "their baseline, µg CO2e",
}
METHOD, SOURCE = "method:", "source:"
GROUPS = ("day", "project", "type", "pool", "zone")
#: Metrics that are summed up over all days too.
EVER = frozenset(
    {
        "attempts",
        "completed",
        "failed",
        "cancelled",
        "deadlines_met",
        "deadlines_missed",
        "energy_mj",
        "emissions_ug",
        "baseline_ug",
        "embodied_ug",
        "restated_ug",
        "baseline_restated_ug",
    }
)
#: Outcomes of attempts whose work counts for something.
_USEFUL = ("completed", "suspended")


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
    yield "embodied_ug", event.embodied_ug
    yield "uncertain_mj", round(event.energy_mj * event.energy_uncertainty)
    if event.outcome not in _USEFUL:
        yield "wasted_mj", event.energy_mj
        yield "wasted_ug", event.emissions_ug
    yield METHOD + _plain(event.energy_method), event.energy_mj
    if event.intensity_source is not None:
        yield SOURCE + _source(event), event.emissions_ug


def _source(event: EmissionsRecorded) -> str:
    said = [_plain(event.intensity_source or ""), event.intensity_kind or "average"]
    said += ["estimated"] * event.estimated + ["simulated"] * event.simulated
    return ", ".join(said)


def _plain(name: str) -> str:
    """Names of methods and sources must not look like parts of a field."""
    return name.replace("|", "/")


def changed(change: Change, *, bounded: bool) -> Iterator[tuple[str, int]]:
    """The amounts of a row of a settlement: of a bound, or of what is restated."""
    if bounded:
        yield "bounded", change.bounded
        yield "bound_ug", change.bound_ug
        yield "bounded_ug", change.bounded_ug
        yield "bounded_baseline_ug", change.bounded_baseline_ug
        return
    yield "restated", change.attempts
    yield "restated_ug", change.emissions_ug
    yield "baseline_restated_ug", change.baseline_ug
    yield "unpriced_restated_mj", change.unpriced_mj


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


def counted(topology: Topology, event: Any, zone: str) -> Iterator[tuple[str, str, int]]:
    """What the event counts for, as (hash, field, amount), no amount of them 0. `zone`: home, for
    completions, which name no zone."""
    if isinstance(event, EmissionsSettled):
        for rows, bounded in ((event.restated, False), (event.bounded, True)):
            for row in rows:
                amounts = changed(row, bounded=bounded)
                yield from _totals(topology, row.day, row, row.zone, amounts)
        return
    if isinstance(event, Finish):
        amounts = ended(event)
    elif isinstance(event, EmissionsRecorded):
        amounts, zone = burnt(event), event.zone or zone
    else:
        return
    durations = topology.durations(event.type, event.pool)
    for name, amount in learned(event):
        if amount:
            yield durations, name, amount
    yield from _totals(topology, day(event.at), event, zone, amounts)


def _totals(
    topology: Topology,
    today: str,
    event: Finish | EmissionsRecorded | Change,
    zone: str,
    amounts: Iterator[tuple[str, int]],
) -> Iterator[tuple[str, str, int]]:
    totals, place = topology.totals(today), f"|{event.pool}|{zone}"
    suffix = f"|{event.project}|{event.type}{place}"
    for metric, amount in amounts:
        if amount:
            yield totals, metric + suffix, amount
            if metric in EVER:
                yield topology.ever, metric + place, amount


def days(event: Any) -> Iterator[str]:
    """The days whose totals the event may add to."""
    if isinstance(event, (Finish, EmissionsRecorded)):
        yield day(event.at)
    elif isinstance(event, EmissionsSettled):
        yield from (row.day for row in (*event.restated, *event.bounded))


def account(transaction: Transaction, topology: Topology, events: Sequence[Any], zone: str) -> None:
    """Add to `transaction` what these events count for, each of them once."""
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for event in events:
        for key, field, amount in counted(topology, event, zone):
            sums[key, field] += amount
    for (key, field), amount in sums.items():
        if amount:
            transaction.increment(key, field, amount)
    for name in {name for event in events for name in days(event)}:
        transaction.put(topology.days, int(name.replace("-", "")), name)
