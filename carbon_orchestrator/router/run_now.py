"""The baseline: every job at once on FAST, whatever the grid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.deadline import latest_start
from carbon_orchestrator.router.policy import Dispatch, JobView, Site
from carbon_orchestrator.router.words import NAMES


class RunNow(msgspec.Struct, frozen=True):
    """What other policies are measured against. It has no parameters. Where there is no FAST,
    jobs run on ECO."""

    name = "run_now"
    version = 2
    forecasts = False
    pauses = False

    def decide(self, job: JobView, sites: Sequence[Site], now: int) -> Dispatch:
        site = sites[0]
        return _at_once(job, site, "eco" if site.fast_full is None else "fast", now)


class RunNow1(RunNow, frozen=True):
    """On FAST, also where there is none."""

    version = 1

    def decide(self, job: JobView, sites: Sequence[Site], now: int) -> Dispatch:
        return _at_once(job, sites[0], "fast", now)


def _at_once(job: JobView, site: Site, pool: Pool, now: int) -> Dispatch:
    return Dispatch(
        zone=site.outlook.zone,
        pool=pool,
        reason=f"dispatched on {NAMES[pool]}: this policy runs every job at once",
        band=site.outlook.band_at(now),
        latest_start=latest_start(job, pool),
    )
