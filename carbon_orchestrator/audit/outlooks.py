"""Outlooks as the router had them, by the intensity events that opened them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from typing import cast

from carbon_orchestrator.audit.grids import order_of, place_order
from carbon_orchestrator.audit.reading import INTENSITY, Reading, before
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.router.outlook import Bands, Outlook
from carbon_orchestrator.topology import CODEC
from streams.history import BEGIN
from streams.lines import RawEntry

#: Events and outlooks kept; decisions come about in order.
KEPT = 1000


class NotOnRecord(LookupError):
    """No intensity event of this zone is there."""


class Outlooks:
    """Reads the intensity stream along with the decisions."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._events: OrderedDict[str, IntensityObserved] = OrderedDict()
        self._made: OrderedDict[tuple[str, str, Bands], Outlook] = OrderedDict()
        self._pages: AsyncGenerator[list[RawEntry], None] | None = None
        self._position = 0

    async def need(self, places: Iterable[str]) -> None:
        """Have these events at hand, until the next call."""
        wanted = set(places)
        for place in wanted & self._events.keys():
            self._events.move_to_end(place)
        while len(self._events) > max(KEPT, len(wanted)):
            self._events.popitem(last=False)
        for place in sorted(wanted - self._events.keys(), key=order_of):
            if place in self._reading.grids.known and place not in self._events:
                await self._seek(place)

    async def _seek(self, place: str) -> None:
        order = order_of(place)
        if self._pages is None or order <= self._position:
            await self.close()
            # From the beginning an archive is read in order; later on, from where it is.
            after = before(place.partition("/")[0]) if self._position else BEGIN
            pages = self._reading.history.pages(INTENSITY, after)
            self._pages = cast(AsyncGenerator[list[RawEntry], None], pages)
        while place not in self._events:
            page = await anext(self._pages, None)
            if page is None:
                self._pages = None
                return
            for entry_id, fields in page:
                for message in CODEC.entry(INTENSITY, entry_id, fields).messages:
                    if isinstance(message.event, IntensityObserved):
                        self._events[f"{entry_id}/{message.index}"] = message.event
            self._position = place_order(page[-1][0], (1 << 20) - 1)

    def outlook(self, zone: str, place: str, bands: Bands) -> Outlook:
        """What was known of the zone. Raises NotOnRecord."""
        key = zone, place, bands
        made = self._made.get(key)
        if made is None:
            event = self._events.get(place)
            if event is None or event.zone != zone:
                raise NotOnRecord(f"{place} is no intensity of zone {zone} on record")
            made = self._made[key] = self._reading.grids.outlook(event, place, bands)
            if len(self._made) > KEPT:
                self._made.popitem(last=False)
        return made

    async def close(self) -> None:
        if self._pages is not None:
            await self._pages.aclose()
            self._pages = None
