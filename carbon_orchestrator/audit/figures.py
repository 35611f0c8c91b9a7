"""Energy and emissions on record, reckoned again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carbon_orchestrator.accounting.figures import Figures as Amounts
from carbon_orchestrator.accounting.figures import absurd, figures, recomputable
from carbon_orchestrator.audit.findings import Findings, Place
from carbon_orchestrator.audit.grids import Grids, order_of
from carbon_orchestrator.events import EmissionsRecorded, EmissionsSettled


class Figures:
    """Checks events of `emissions`, in order. `holds`: how long an intensity may have been taken
    to hold, by the configurations of workers, ms. `reached`: whether intensities are there up to
    a place."""

    def __init__(
        self,
        grids: Grids,
        holds: Sequence[int],
        findings: Findings,
        reached: Callable[[str], bool] = lambda place: True,
    ) -> None:
        self._grids = grids
        self._holds = holds
        self._findings = findings
        self._reached = reached
        self._settled: tuple[str, str, int] | None = None

    def recorded(self, event: EmissionsRecorded, place: Place) -> None:
        """Emissions and baseline, from the energy and the intensities up to `priced_by`."""
        findings = self._findings
        if not recomputable(event):
            findings.skip("figures", "of a version that does not say what they were made from")
            return
        if absurd(event):
            findings.check("figures")
            findings.find("figures", "an attempt of times that cannot be", place)
            return
        if event.priced_by is not None and not self._reached(event.priced_by):
            findings.skip("figures", "priced by intensities that this archive does not reach")
            return
        if event.priced_by is not None and event.priced_by not in self._grids.known:
            findings.check("figures")
            what = f"priced by {event.priced_by}, which is no intensity on record"
            findings.find("figures", what, place)
            return
        findings.check("figures")
        upto = -1 if event.priced_by is None else order_of(event.priced_by)
        sort = (event.intensity_kind, event.simulated)
        zone = event.zone or ""
        home = event.baseline_zone or zone
        end = event.baseline_from + event.baseline_ms
        there = Amounts(event.emissions_ug, event.baseline_ug, event.unpriced_mj)
        expected = there
        for number, hold in enumerate(self._holds):
            here = self._grids.series(zone, sort, upto, event.started_at, event.at, hold)
            base = self._grids.series(home, sort, upto, event.baseline_from, end, hold)
            made = figures(event, here, base)
            if made == there:
                return
            if number == 0:
                expected = made
        for name, one, other in zip(Amounts._fields, expected, there, strict=True):
            if one != other:
                what = f"{name} is not what energy and intensities come to"
                findings.find("figures", what, place, expected=str(one), found=str(other))
                return

    def settled(self, event: EmissionsSettled, place: Place) -> None:
        """That a settlement goes on where the one before it ended; what it changes is not
        reckoned again. Of one that needed several events, all say the same."""
        self._findings.check("figures")
        now = (event.emissions_id, event.intensity_id, event.until)
        before = self._settled
        if before is not None and event.previous != before and now != before:
            what = "a settlement does not go on where the one before it ended"
            self._findings.find(
                "figures", what, place, expected=str(before), found=str(event.previous)
            )
        self._settled = now
