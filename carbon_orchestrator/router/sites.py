"""All zones and pools as the router knows them at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.router.capacity import Booking, Ledger
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Full, JobView, Site

#: How far a job without a deadline looks.
_BEYOND_MS = 7 * 86_400_000


class Sites:
    """`outlooks` by zone, the home zone's first; `pools`: those of each zone; `ledgers`: the
    books of the pools that have a limit, by (pool, zone)."""

    def __init__(
        self,
        outlooks: Mapping[str, Outlook],
        pools: Mapping[str, Sequence[Pool]] | None = None,
        ledgers: Mapping[tuple[Pool, str], Ledger] | None = None,
    ) -> None:
        self.outlooks = outlooks
        self.home = next(iter(outlooks))
        self._pools = pools or {}
        self._ledgers = ledgers or {}
        self._open = {zone: self._unlimited(zone) for zone in outlooks}

    def _unlimited(self, zone: str) -> Site:
        pools = self._pools.get(zone, POOLS)
        return Site(
            self.outlooks[zone],
            () if "fast" in pools else None,
            () if "eco" in pools else None,
        )

    def of(self, zones: Sequence[str], job: JobView, now: int) -> list[Site]:
        """The sites open to a job that names `zones`, with the room that each has for it. A
        zone that is no longer configured is left out; without any the job runs at home."""
        sites = [self._open[zone] for zone in zones if zone in self._open]
        sites = sites or [self._open[self.home]]
        if not self._ledgers:
            return sites
        until = (job.deadline or now + _BEYOND_MS) + max(job.fast_ms, job.eco_ms)
        return [
            Site(
                site.outlook,
                self._full("fast", site, job, now, until),
                self._full("eco", site, job, now, until),
            )
            for site in sites
        ]

    def book(self, pool: Pool, zone: str, booking: Booking, sign: int = 1) -> None:
        """Take account of a plan at once, until the books are read again."""
        ledger = self._ledgers.get((pool, zone))
        if ledger is not None:
            ledger.book(booking, sign)

    def _full(self, pool: Pool, site: Site, job: JobView, now: int, until: int) -> Full:
        ledger = self._ledgers.get((pool, site.outlook.zone))
        if site.full(pool) is None or ledger is None:
            return site.full(pool)
        return ledger.full(job.mean(pool), now, until)
