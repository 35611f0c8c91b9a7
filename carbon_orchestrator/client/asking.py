"""What can be asked of the grid, the pools and the sums."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from carbon_orchestrator.client.connection import Connection, typed
from carbon_orchestrator.client.grid import (
    BestWindow,
    Carbon,
    Emissions,
    Health,
    History,
    Pool,
)
from carbon_orchestrator.client.submission import Deadline, Duration, written


class Asking(Connection):
    """What a client can ask that is not of one job."""

    async def carbon(self, zone: str | None = None) -> Carbon:
        """The grid of a zone, the home zone by default: its intensity, band and forecast.
        Raises NotFound."""
        return typed(Carbon, await self.get("/carbon", zone=zone))

    async def carbon_history(
        self,
        zone: str | None = None,
        *,
        first: datetime | str | None = None,
        last: datetime | str | None = None,
    ) -> History:
        """The past of a zone's grid, the last day by default. Raises NotFound, InvalidRequest."""
        span = {"from": _text("first", first), "to": _text("last", last)}
        return typed(History, await self.get("/carbon/history", zone=zone, **span))

    async def best_window(
        self,
        duration: Duration,
        *,
        deadline: Deadline | None = None,
        zone: str | None = None,
    ) -> BestWindow:
        """When a run of this length emits the least, done by the deadline if there is one; times
        as `submit` takes them. Raises InvalidRequest where it does not fit, Conflict where there
        is no signal to go by, NotFound for an unknown zone.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         window = await client.best_window("2h", deadline="12h")
        ...         print(window.best.start >= window.now.start)
        >>> asyncio.run(main())
        True
        """
        asked = {"duration": _text("duration", duration), "deadline": _text("deadline", deadline)}
        return typed(BestWindow, await self.get("/carbon/best-window", zone=zone, **asked))

    async def pools(self) -> list[Pool]:
        """The pools of all zones: their workers, what runs and what waits."""
        return typed(list[Pool], (await self.get("/pools"))["pools"])

    async def emissions(
        self,
        by: str | Iterable[str] = "day",
        *,
        first: date | str | None = None,
        last: date | str | None = None,
    ) -> Emissions:
        """Energy and emissions, summed up by "day", "project", "type", "pool", "zone", or several
        of them; of the days (UTC) from `first` to `last`, both included."""
        days = {
            name: day if day is None or isinstance(day, str) else f"{day:%Y-%m-%d}"
            for name, day in (("from", first), ("to", last))
        }
        groups = by if isinstance(by, str) else ",".join(by)
        return typed(Emissions, await self.get("/emissions", by=groups, **days))

    async def health(self) -> Health:
        """Whether all is well, and if not, what is missing."""
        return typed(Health, await self.get("/health"))


def _text(name: str, value: Deadline | None) -> str | None:
    """A time or a length of time as a query has it."""
    plain = written(name, value)
    if isinstance(plain, int | float):
        return f"{timedelta(seconds=plain).total_seconds()!r}s"
    return None if plain is None else str(plain)
