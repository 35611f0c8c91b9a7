"""The baseline: every job at once on FAST, whatever the grid."""

from __future__ import annotations

import msgspec

from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Dispatch, JobView, latest_start


class RunNow(msgspec.Struct, frozen=True):
    """What other policies are measured against. It has no parameters."""

    name = "run_now"
    version = 1

    def decide(self, job: JobView, outlook: Outlook, now: int) -> Dispatch:
        return Dispatch(
            pool="fast",
            reason="dispatched on FAST: this policy runs every job at once",
            band=outlook.band_at(now),
            latest_start=latest_start(job, "fast"),
        )
