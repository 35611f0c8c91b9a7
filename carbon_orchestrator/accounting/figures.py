"""What an attempt emitted, and what its job would have emitted at once, on FAST, at home: from its
event and the intensities alone. Worker, settlement and audit reckon by this. Pure."""

from __future__ import annotations

from typing import NamedTuple

from carbon_orchestrator.events import EmissionsRecorded
from carbon_orchestrator.signal.intensities import KEPT_MS
from carbon_orchestrator.signal.series import Series, emissions_ug

#: Nothing is known of what lies further before an attempt's end, whatever the series still has:
#: within it all readers of the intensity stream have the same, however long they have read.
KNOWN_MS = KEPT_MS - 86_400_000
_LAST_MS = 253_402_300_799_999  # of the year 9999


class Figures(NamedTuple):
    """µg CO2e emitted and of the baseline; mJ for which no intensity is known."""

    emissions_ug: int
    baseline_ug: int
    unpriced_mj: int


def figures(event: EmissionsRecorded, here: Series, home: Series) -> Figures:
    """Of an attempt, given the series of the zone where it ran and of the baseline's zone.

    Both are of the event's kind and reality (`Intensities.of`). Where any part of either window
    is unknown the baseline is what was emitted: nothing may be claimed as avoided for a time
    about which nothing is known.
    """
    known_from = event.at - KNOWN_MS
    emitted = unpriced = baseline = unknown = 0
    if event.energy_mj:
        if event.started_at < known_from:
            unpriced = event.energy_mj
        else:
            emitted, unpriced = emissions_ug(event.energy_mj, event.started_at, event.at, here)
    if event.baseline_mj:
        begin = event.baseline_from
        if begin < known_from:
            unknown = event.baseline_mj
        else:
            baseline, unknown = emissions_ug(
                event.baseline_mj, begin, begin + event.baseline_ms, home
            )
    return Figures(emitted, emitted if unpriced or unknown else baseline, unpriced)


def recomputable(event: EmissionsRecorded) -> bool:
    """Whether the event says what `figures` needs; those of the first versions do not."""
    return event.submitted_at > 0


def absurd(event: EmissionsRecorded) -> bool:
    """Whether its times cannot be: no worker says so."""
    return event.baseline_ms < 0 or not 0 <= event.started_at <= event.at <= _LAST_MS
