"""What a deadline allows: latest starts, and running at once where nothing may wait longer."""

from __future__ import annotations

from carbon_orchestrator.events import Band, Pool
from carbon_orchestrator.router.policy import Dispatch, JobView, Site
from carbon_orchestrator.router.words import NAMES


def latest_start(job: JobView, pool: Pool) -> int | None:
    """The last moment to start on `pool` and still meet the deadline; None without one."""
    if job.deadline is None:
        return None
    return job.deadline - job.margin_ms - job.longest(pool)


def too_late(job: JobView, pool: Pool, now: int) -> bool:
    """Whether a run on `pool` that starts now is expected to miss the deadline."""
    latest = latest_start(job, pool)
    # Half of the margin is for being woken a little after the latest start.
    return latest is not None and now - job.margin_ms // 2 > latest


def run_at_once(
    job: JobView, site: Site, pool: Pool, band: Band | None, now: int, why: str, *, due: bool
) -> Dispatch:
    """Run on `pool`, or on the other one where only that meets the deadline, or on FAST where
    neither does; `why` says why now."""
    if site.full(pool) is None:
        pool = other(pool)
    if too_late(job, pool, now):
        due = True
        swapped = other(pool)
        if not too_late(job, swapped, now) and site.full(swapped) is not None:
            why = f"{why}; {NAMES[pool]} is too slow for the deadline by now"
            pool = swapped
        else:
            pool = "fast" if site.fast_full is not None else pool
            why = f"{why}; no pool meets the deadline any more"
    return Dispatch(
        zone=site.outlook.zone,
        pool=pool,
        reason=f"dispatched on {NAMES[pool]}: {why}",
        due=due,
        band=band,
        latest_start=latest_start(job, pool),
    )


def other(pool: Pool) -> Pool:
    return "eco" if pool == "fast" else "fast"
