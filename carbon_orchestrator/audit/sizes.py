"""Sizes of pools, decided again from what their changes say that they were decided from."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from carbon_orchestrator.audit.configurations import Announced
from carbon_orchestrator.audit.findings import Findings, Place
from carbon_orchestrator.audit.grids import place_order
from carbon_orchestrator.audit.outlooks import NotOnRecord, Outlooks
from carbon_orchestrator.audit.reading import SCALING, Reading
from carbon_orchestrator.events import GridState, Pool, PoolScaled
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.scaler.deciding import Params, grid_state, recomputed
from carbon_orchestrator.topology import site


async def check_sizes(reading: Reading, findings: Findings) -> None:
    """All changes of sizes that are on record."""
    outlooks = Outlooks(reading)
    sizes = _Sizes(reading, findings, outlooks, await reading.edge([]))
    try:
        async for message in reading.messages(SCALING, reading.source.after):
            event = message.event
            if isinstance(event, PoolScaled):
                if event.grid.intensity_id is not None:
                    await outlooks.need([event.grid.intensity_id])
                sizes.check(event, Place(SCALING, message.entry_id, message.index))
    finally:
        await outlooks.close()


class _Sizes:
    """`edge`: the order from which on what a change follows from may not be archived yet."""

    def __init__(
        self, reading: Reading, findings: Findings, outlooks: Outlooks, edge: int | None
    ) -> None:
        self._reading, self._findings, self._outlooks = reading, findings, outlooks
        self._edge = edge
        self._speeds = {clock.speed for clock in reading.configurations.clocks}
        self._revisions: dict[tuple[Pool, str | None], int] = {}

    def check(self, event: PoolScaled, place: Place) -> None:
        """One change, in order: whether it follows from what it says, whether that is so, and
        whether it is the one after the last."""
        findings = self._findings
        findings.check("decisions")
        try:
            made = recomputed(event)
        except ValueError as error:  # a version, or parameters, that we do not know
            findings.find("decisions", f"a size cannot be decided again: {error}", place)
            return
        for name in ("replicas", "band", "reason"):
            expected, found = getattr(made, name), getattr(event, name)
            if expected != found:
                what = f"{name} of a pool's size is not what its inputs lead to"
                findings.find("decisions", what, place, expected=expected, found=found)
                return
        self._inputs(event, place)
        last = self._revisions.get((event.pool, event.zone))
        self._revisions[event.pool, event.zone] = event.revision
        if last is not None and event.revision != last + 1:
            what = f"a change of {site(event.pool, event.zone or '')} does not follow the last one"
            findings.find("decisions", what, place, expected=last + 1, found=event.revision)

    def _inputs(self, event: PoolScaled, place: Place) -> None:
        findings = self._findings
        announced = list(self._reading.configurations.of("scaler", place_order(place.entry)))
        if not announced:
            findings.skip("decisions", "of sizes, with no scaler's configuration on record")
            return
        by = list(self._by(event, announced))
        if not by and self._edge is not None and place_order(place.entry) >= self._edge:
            findings.skip("decisions", "of sizes, by configurations that are not archived yet")
            return
        if not by:
            what = "a size was decided by parameters that no scaler had announced"
            findings.find("decisions", what, place, found=bytes(event.params).decode())
            return
        try:
            known = [self._grid(event, each) for each in by]
        except NotOnRecord as error:
            if self._reading.reached(event.grid.intensity_id or ""):
                what = f"a size was decided from what is not there: {error}"
                findings.find("decisions", what, place)
            else:
                findings.skip("decisions", "made from intensities that this archive does not reach")
            return
        if event.grid not in known:
            what = "the grid that a size was decided from is not as it was"
            findings.find("decisions", what, place, expected=known[0], found=event.grid)

    def _by(self, event: PoolScaled, announced: list[Announced]) -> Iterator[Announced]:
        """Those by whose configuration it was decided."""
        params = msgspec.json.decode(event.params, type=Params)
        for each in announced:
            if any(
                Params.of(each.config, event.pool, speed) == params
                for speed in self._speeds
                if event.pool in each.config.pools
            ):
                yield each

    def _grid(self, event: PoolScaled, by: Announced) -> GridState:
        """The grid of its zone, as the intensities on record have it. Raises NotOnRecord."""
        zone, place = event.zone or by.config.zone, event.grid.intensity_id
        if place is None:
            return grid_state(Outlook(zone=zone))
        return grid_state(self._outlooks.outlook(zone, place, by.bands))
