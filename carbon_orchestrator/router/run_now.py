"""The baseline: every job at once on FAST, whatever the grid."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from carbon_orchestrator.router.deadline import latest_start
from carbon_orchestrator.router.policy import Dispatch, JobView, Site


class RunNow(msgspec.Struct, frozen=True):
    """What other policies are measured against. It has no parameters."""

    name = "run_now"
    version = 1
    forecasts = False
    pauses = False

    def decide(self, job: JobView, sites: Sequence[Site], now: int) -> Dispatch:
        outlook = sites[0].outlook
        return Dispatch(
            zone=outlook.zone,
            pool="fast",
            reason="dispatched on FAST: this policy runs every job at once",
            band=outlook.band_at(now),
            latest_start=latest_start(job, "fast"),
        )
