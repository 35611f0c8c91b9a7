"""Attempts gone over again: what intensities that came or were revised after an attempt was
priced change, and, once its deadline is over, how little it could have emitted. Pure.

Figures are a function of an attempt's event and the intensities up to an entry of their stream,
so changes add up: those since an attempt was priced are what the first settlement that sees it
finds, and each later one adds the difference between the intensities it knew before and now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from carbon_orchestrator.accounting.bound import least_ug
from carbon_orchestrator.accounting.figures import Figures, figures, recomputable
from carbon_orchestrator.clock import day
from carbon_orchestrator.events import Change, EmissionsRecorded, IntensityObserved, Pool
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.series import Series
from streams.event import Message, entry_order

_DAY_MS = 86_400_000
#: An attempt of which any part lies so far back from the newest intensity is left as it is:
#: within this reach all series hold the same, however long they have been kept.
REACH_MS = 35 * _DAY_MS
#: A deadline further off than this from submission counts as this.
LONGEST_WAIT_MS = 14 * _DAY_MS


class Due(msgspec.Struct, frozen=True, array_like=True):
    """An attempt whose bound is yet to be found, with what that needs."""

    job_id: str
    attempt: int
    project: str
    type: str
    pool: Pool
    zone: str
    kind: str
    simulated: bool
    at: int
    started_at: int
    submitted_at: int
    end: int  # of the time in which it could have run
    energy_mj: int
    baseline_mj: int
    baseline_from: int
    baseline_ms: int
    baseline_zone: str | None
    urgent: bool
    broken: bool

    @classmethod
    def of(cls, event: EmissionsRecorded) -> Due | None:
        """None for an attempt that burnt nothing, or of which too little is known."""
        if not recomputable(event) or not event.energy_mj or event.intensity_kind is None:
            return None
        latest = min(event.deadline or 0, event.submitted_at + LONGEST_WAIT_MS)
        return cls(
            job_id=event.job_id,
            attempt=event.attempt,
            project=event.project,
            type=event.type,
            pool=event.pool,
            zone=event.zone or "",
            kind=event.intensity_kind,
            simulated=event.simulated,
            at=event.at,
            started_at=event.started_at,
            submitted_at=event.submitted_at,
            end=max(event.at, latest),
            energy_mj=event.energy_mj,
            baseline_mj=event.baseline_mj,
            baseline_from=event.baseline_from,
            baseline_ms=event.baseline_ms,
            baseline_zone=event.baseline_zone,
            urgent=event.urgency == "urgent",
            broken=event.interruptible,
        )

    def event(self) -> EmissionsRecorded:
        """As much of its event as figures take account of."""
        return EmissionsRecorded(
            job_id=self.job_id,
            attempt=self.attempt,
            at=self.at,
            started_at=self.started_at,
            zone=self.zone,
            pool=self.pool,
            type=self.type,
            project=self.project,
            energy_mj=self.energy_mj,
            energy_method="",
            energy_uncertainty=0.0,
            emissions_ug=0,
            baseline_ug=0,
            submitted_at=self.submitted_at,
            baseline_mj=self.baseline_mj,
            baseline_from=self.baseline_from,
            baseline_ms=self.baseline_ms,
            baseline_zone=self.baseline_zone,
            intensity_kind=self.kind,
            simulated=self.simulated,
        )


class Grids:
    """All zones' intensities up to an entry of their stream."""

    def __init__(self, bands: Bands) -> None:
        self._bands = bands
        self._zones: dict[str, Intensities] = {}
        self.read = "0-0"  # id of the last entry
        self.applied: str | None = None  # "entry/index" of the last event
        self._last = (0, 0, -1)

    def apply(self, message: Message) -> None:
        """Take in the next event of the stream; those that were taken in already change nothing."""
        order = (*entry_order(message.entry_id), message.index)
        if order <= self._last:
            return
        self._last = order
        self.read, self.applied = message.entry_id, f"{message.entry_id}/{message.index}"
        if isinstance(message.event, IntensityObserved):
            zone = message.event.zone
            if zone not in self._zones:
                self._zones[zone] = Intensities(zone, self._bands)
            self._zones[zone].apply(message)

    def of(self, zone: str, kind: str | None, simulated: bool) -> Series:
        """As `Intensities.of`; an empty series for a zone of which nothing has been said."""
        known = self._zones.get(zone)
        return Series(self._bands.max_age_ms) if known is None else known.of(kind, simulated)

    def figures(self, event: EmissionsRecorded) -> Figures:
        """What is known of the attempt by now."""
        zone, kind = event.zone or "", event.intensity_kind
        here = self.of(zone, kind, event.simulated)
        home = event.baseline_zone
        return figures(event, here, here if home is None else self.of(home, kind, event.simulated))

    def known_until(self) -> int:
        """Up to when all zones have spoken that have not fallen silent, grid ms; 0 for never."""
        times = [each.latest.time for each in self._zones.values() if each.latest is not None]
        if not times:
            return 0
        return min(each for each in times if each >= max(times) - self._bands.max_age_ms)

    def reaches(self, event: EmissionsRecorded) -> bool:
        """Whether all of the attempt's time is still in reach."""
        known = self._zones.get(event.zone or "")
        if known is None or known.latest is None:
            return False
        begin = min(event.started_at, event.baseline_from, event.submitted_at)
        return begin >= known.latest.time - REACH_MS


class Touched:
    """When intensities changed: stretches of time in which they may be others now."""

    def __init__(self, hold_ms: int) -> None:
        self._hold_ms = hold_ms
        self._stretches: defaultdict[tuple[str, str, bool], list[tuple[int, int]]]
        self._stretches = defaultdict(list)
        self.since: int | None = None  # the first of them

    @classmethod
    def of(cls, before: Grids, messages: Iterable[Message], hold_ms: int) -> Touched:
        """By what these messages say that was not known before."""
        found = cls(hold_ms)
        for message in messages:
            event = message.event
            if isinstance(event, IntensityObserved):
                series = before.of(event.zone, event.kind, event.simulated)
                if series.values_between(event.time, event.time) != [event.intensity]:
                    found.add(event)
        return found

    def add(self, event: IntensityObserved) -> None:
        stretch = event.time, event.time + self._hold_ms
        stretches = self._stretches[event.zone, event.kind, event.simulated]
        if stretches and stretches[-1][0] <= stretch[0] <= stretches[-1][1]:
            stretch = stretches.pop()[0], stretch[1]
        stretches.append(stretch)
        self.since = event.time if self.since is None else min(self.since, event.time)

    def meets(self, event: EmissionsRecorded) -> bool:
        """Whether the attempt's figures may have changed by it."""
        zone, home = event.zone or "", event.baseline_zone or event.zone or ""
        begin = event.baseline_from
        return self._within(zone, event, event.started_at, event.at) or self._within(
            home, event, begin, begin + event.baseline_ms
        )

    def _within(self, zone: str, event: EmissionsRecorded, start: int, end: int) -> bool:
        kinds = (
            [each for each in self._stretches if each[0] == zone]
            if event.intensity_kind is None
            else [(zone, event.intensity_kind, event.simulated)]
        )
        return any(
            first <= end and start <= last
            for kind in kinds
            for first, last in self._stretches.get(kind, ())
        )


def since_priced(event: EmissionsRecorded, now: Grids) -> Figures:
    """By how much the figures differ from those on record."""
    if event.priced_by == now.applied or not recomputable(event) or not now.reaches(event):
        return Figures(0, 0, 0)
    then = Figures(event.emissions_ug, event.baseline_ug, event.unpriced_mj)
    return _less(now.figures(event), then)


def since_settled(event: EmissionsRecorded, before: Grids, now: Grids, touched: Touched) -> Figures:
    """By how much the figures differ from those as of `before`."""
    if not recomputable(event) or not touched.meets(event) or not now.reaches(event):
        return Figures(0, 0, 0)
    return _less(now.figures(event), before.figures(event))


def _less(one: Figures, other: Figures) -> Figures:
    return Figures(*(mine - its for mine, its in zip(one, other, strict=True)))


class Bound(NamedTuple):
    """µg CO2e: the least possible, what was emitted, and the baseline, as known by now."""

    bound_ug: int
    emissions_ug: int
    baseline_ug: int


def bound(due: Due, now: Grids) -> Bound | None:
    """None where a part of the time in which the attempt could have run is unknown.

    Urgent jobs could only have run at once; interruptible ones in pieces.
    """
    event = due.event()
    if not now.reaches(event):
        return None
    emitted, baseline, unpriced = now.figures(event)
    if unpriced:
        return None
    length = due.at - due.started_at
    start = min(due.submitted_at, due.started_at)
    end = start + length if due.urgent else due.end
    series = now.of(due.zone, due.kind, due.simulated)
    least = least_ug(due.energy_mj, length, start, end, series, broken=due.broken)
    # Rounded down, but an urgent job may have been lucky to be late.
    return None if least is None else Bound(min(least, emitted), emitted, baseline)


class Tally:
    """Changes, summed up by day, project, type, pool and zone."""

    def __init__(self) -> None:
        self._restated: dict[tuple[str, ...], list[int]] = {}
        self._bounded: dict[tuple[str, ...], list[int]] = {}

    def restate(self, event: EmissionsRecorded, zone: str, change: Figures) -> None:
        """`zone`: home, for events that name none."""
        if any(change):
            key = (day(event.at), event.project, event.type, event.pool, event.zone or zone)
            _add(self._restated.setdefault(key, [0] * 4), (1, *change))

    def bind(self, due: Due, found: Bound) -> None:
        key = (day(due.at), due.project, due.type, due.pool, due.zone)
        _add(self._bounded.setdefault(key, [0] * 4), (1, *found))

    def restated(self) -> Iterator[Change]:
        """The rows of what is restated."""
        for key, (count, emissions, baseline, unpriced) in sorted(self._restated.items()):
            yield _row(
                key,
                attempts=count,
                emissions_ug=emissions,
                baseline_ug=baseline,
                unpriced_mj=unpriced,
            )

    def bounded(self) -> Iterator[Change]:
        """The rows of the bounds."""
        for key, (count, least, emissions, baseline) in sorted(self._bounded.items()):
            yield _row(
                key,
                attempts=count,
                bounded=count,
                bound_ug=least,
                bounded_ug=emissions,
                bounded_baseline_ug=baseline,
            )


def _add(sums: list[int], amounts: tuple[int, ...]) -> None:
    for index, amount in enumerate(amounts):
        sums[index] += amount


def _row(key: tuple[str, ...], **amounts: int) -> Change:
    one_day, project, job_type, pool, zone = key
    known: Pool = "fast" if pool == "fast" else "eco"
    return Change(day=one_day, project=project, type=job_type, pool=known, zone=zone, **amounts)
