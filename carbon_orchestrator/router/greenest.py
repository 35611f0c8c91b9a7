"""The planning policies: run when, and on which pool of which zone, least should be emitted.

`greenest_window` looks for one unbroken run before the latest start; `greenest_slots` also lets
interruptible jobs run in the greenest pieces of the time until their deadline. Both are asked
again at every intensity event, so a plan lasts only as long as nothing better is in sight.

The expected emissions of a plan are energy x mean expected intensity over its run. Waiting has a
price: every hour of it must save `min_saving` of what running at once would emit. Urgent jobs
never wait, and a deadline wins over everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import msgspec
import numpy as np

from carbon_orchestrator.config import GreenestConfig
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.router.curve import outside
from carbon_orchestrator.router.deadline import latest_start, run_at_once, too_late
from carbon_orchestrator.router.pieces import Pieces
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Site
from carbon_orchestrator.router.words import NAMES, grams, length, utc

_HOUR_MS = 3_600_000
Stretches = Sequence[tuple[int, int]]


class Plan(NamedTuple):
    """The best that can be done on one pool of one zone. Intensities are means over the run."""

    site: Site
    pool: Pool
    start: int
    latest: int
    intensity: float  # g/kWh
    at_once: float  # g/kWh, were it begun now and not broken
    price: float  # intensity and what waiting costs, g/kWh
    energy: float
    runs: int = 1  # unbroken stretches
    crowded: bool = False  # the pool has no room for it before the deadline


class _Greenest(msgspec.Struct, frozen=True):
    """What both have in common; see GreenestConfig for the parameters."""

    min_saving: float = 0.0  # share of the emissions of running at once, per hour waited
    max_wait_ms: int = 24 * _HOUR_MS

    name: ClassVar[str]
    version: ClassVar[int]
    forecasts: ClassVar[bool] = True
    pauses: ClassVar[bool] = False

    @classmethod
    def of(cls, config: GreenestConfig) -> Self:
        return cls(config.min_saving, milliseconds(config.max_wait))

    def decide(self, job: JobView, sites: Sequence[Site], now: int) -> Dispatch | Defer:
        known = [site for site in sites if site.outlook.band_at(now) is not None]
        if job.running is not None:
            return self._running(job, sites[0], job.running, now, bool(known))
        if not known:  # a dead signal blocks nobody
            pool: Pool = "fast" if job.urgency == "urgent" else "eco"
            why = sites[0].outlook.unusable
            return run_at_once(job, sites[0], pool, None, now, why, due=False)
        plans = [
            plan
            for site in known
            for pool in POOLS
            if (plan := self._best(job, site, pool, now)) is not None
        ]
        if not plans:
            band, why = known[0].outlook.band, known[0].outlook.summary
            return run_at_once(job, known[0], "fast", band, now, why, due=True)
        plan = plans[0]
        for another in plans[1:]:
            if (another.crowded, another.price * another.energy) < (
                plan.crowded,
                plan.price * plan.energy,
            ):
                plan = another
        where = _place(plan, sites)
        if plan.start > now:
            return _deferred(plan, plans, where, now)
        return _dispatched(job, plan, where, now)

    def _running(
        self, job: JobView, site: Site, pool: Pool, now: int, known: bool
    ) -> Dispatch | Defer:
        """What is asked about a job that runs: whether to go on."""
        return _go_on(job, site, pool, "it is not to be suspended")

    def _best(self, job: JobView, site: Site, pool: Pool, now: int) -> Plan | None:
        full = site.full(pool)
        if full is None or too_late(job, pool, now):
            return None
        if job.urgency == "urgent":
            # An urgent job is worth FAST's energy unless the grid is at its worst.
            spared = site.outlook.band != "high" and site.fast_full is not None
            return None if pool == "eco" and spared else self._window(job, site, pool, now, now, ())
        latest = latest_start(job, pool)
        if latest is None:
            latest = job.submitted_at + self.max_wait_ms
        return self._plan(job, site, pool, now, max(now, latest), full)

    def _plan(
        self, job: JobView, site: Site, pool: Pool, now: int, latest: int, full: Stretches
    ) -> Plan:
        return self._window(job, site, pool, now, latest, full)

    def _window(
        self, job: JobView, site: Site, pool: Pool, now: int, latest: int, full: Stretches
    ) -> Plan:
        """The cheapest unbroken run."""
        curve, run_ms = site.outlook.ahead, job.mean(pool)
        beside = [end for _, end in full] + [begin - run_ms for begin, _ in full]
        starts = curve.starts(now, latest, run_ms, beside)
        means = curve.means(starts, run_ms)
        at_once = float(means[0])
        prices = self._priced(means, starts, at_once, now)
        crowded = False
        if full:
            free = outside(starts, run_ms, full)
            crowded = not free.any()
            # In a queue that reaches beyond the deadline the front is the best place.
            prices = prices[:1] if crowded else np.where(free, prices, np.inf)
        best = int(prices.argmin())
        return Plan(
            site,
            pool,
            int(starts[best]),
            latest,
            float(means[best]),
            at_once,
            float(prices[best]),
            job.energy(pool),
            1,
            crowded,
        )

    def _priced(
        self,
        values: np.ndarray[tuple[int], np.dtype[np.float64]],
        starts: np.ndarray[tuple[int], np.dtype[np.int64]],
        at_once: float,
        now: int,
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if not self.min_saving:
            return values
        return values + self.min_saving * at_once / _HOUR_MS * (starts - now)


class GreenestWindow(_Greenest, frozen=True):
    """Every job in the cheapest unbroken run before its latest start."""

    name = "greenest_window"
    version = 1


class GreenestSlots(_Greenest, frozen=True):
    """Interruptible jobs in the cheapest pieces of time, the others as in `greenest_window`.

    Every suspension costs `JobView.resume_ms` of running time, which it must save.
    """

    name = "greenest_slots"
    version = 1
    pauses = True

    def _plan(
        self, job: JobView, site: Site, pool: Pool, now: int, latest: int, full: Stretches
    ) -> Plan:
        if not job.interruptible or latest <= now:
            return self._window(job, site, pool, now, latest, full)
        broken = self._broken(job, site, pool, now, latest, full)
        if broken is None or (job.resume_ms and broken.runs > 1):
            window = self._window(job, site, pool, now, latest, full)
            restarts = 0 if broken is None else broken.runs - 1
            if broken is None or window.price <= broken.price * (
                1 + restarts * job.resume_ms / job.mean(pool)
            ):
                return window
        return broken

    def _broken(
        self, job: JobView, site: Site, pool: Pool, now: int, latest: int, full: Stretches
    ) -> Plan | None:
        """The cheapest pieces of [now, latest + length); None where there is not room enough."""
        run_ms = job.mean(pool)
        pieces, at_once = self._pieces(site, now, latest + run_ms, run_ms, full)
        chosen = pieces.cheapest(run_ms)
        if chosen is None:
            return None
        # An unbroken run from now on is half done, on average, half its length from now.
        unavoidable = self.min_saving * at_once / _HOUR_MS * run_ms / 2
        return Plan(
            site,
            pool,
            min(chosen.start, latest),
            latest,
            chosen.mean,
            at_once,
            chosen.price - unavoidable,
            job.energy(pool),
            chosen.runs,
        )

    def _pieces(
        self, site: Site, now: int, end: int, run_ms: int, full: Stretches
    ) -> tuple[Pieces, float]:
        """The pieces of [now, end), and the intensity of an unbroken run from now on."""
        curve = site.outlook.ahead
        at_once = curve.mean(now, now + run_ms)
        starts, lengths, values = curve.slots(now, end, full)
        return Pieces(starts, lengths, values, self._priced(values, starts, at_once, now)), at_once

    def _running(
        self, job: JobView, site: Site, pool: Pool, now: int, known: bool
    ) -> Dispatch | Defer:
        latest = latest_start(job, pool)
        if latest is None:
            latest = job.submitted_at + self.max_wait_ms
        full = site.full(pool)
        if not known:
            return _go_on(job, site, pool, site.outlook.unusable)
        if latest - job.resume_ms <= now or full is None:
            return _go_on(job, site, pool, "its deadline leaves no time to pause")
        end = latest - job.resume_ms + job.mean(pool)
        pieces, _ = self._pieces(site, now, end, job.mean(pool), full)
        wanted = 0
        if len(pieces.starts) and pieces.starts[0] == now:
            wanted = pieces.begins(job.mean(pool))
            # To pause for part of a piece is worth it only where that costs nothing.
            if job.resume_ms == 0 and wanted < min(int(pieces.lengths[0]), job.mean(pool)):
                wanted = 0
        if wanted:
            return _go_on(job, site, pool, f"{site.outlook.summary}, among the greenest ahead")
        plan = self._broken(job, site, pool, now, latest - job.resume_ms, full)
        if plan is None or plan.start <= now:
            return _go_on(job, site, pool, f"{site.outlook.summary}, among the greenest ahead")
        # A restart at its start, and one after every further break.
        with_restarts = plan.price * (1 + plan.runs * job.resume_ms / job.mean(pool))
        if with_restarts >= plan.at_once:
            return _go_on(job, site, pool, "pausing would not save what resuming costs")
        return Defer(
            zone=site.outlook.zone,
            pool=pool,
            planned_start=plan.start,
            latest_start=latest,
            reason=(
                f"suspended: the rest would run at {grams(plan.at_once)} g/kWh; goes on at"
                f" {utc(plan.start)} UTC, {grams(plan.intensity)} expected"
                f" ({_percent(plan.intensity, plan.at_once)}), latest start {utc(latest)}"
            ),
            band=site.outlook.band,
        )


def _go_on(job: JobView, site: Site, pool: Pool, why: str) -> Dispatch:
    return Dispatch(
        zone=site.outlook.zone,
        pool=pool,
        reason=f"goes on on {NAMES[pool]}: {why}",
        band=site.outlook.band,
        latest_start=latest_start(job, pool),
    )


def _dispatched(job: JobView, plan: Plan, where: str, now: int) -> Dispatch:
    due = plan.latest <= now and job.urgency != "urgent" and job.deadline is not None
    expected = f"{grams(plan.intensity)} g/kWh expected over its run"
    if job.urgency == "urgent":
        why = f"urgent jobs do not wait; {expected}"
    elif due:
        why = f"its latest start {utc(plan.latest)} UTC is reached; {expected}"
    elif plan.crowded:
        why = f"its pool is booked out until its deadline; {expected}"
    elif plan.runs > 1:
        why = f"now is among the greenest times until {utc(plan.latest)} UTC; {expected} in parts"
    else:
        why = f"{expected}, no start until {utc(plan.latest)} UTC is worth waiting for"
    return Dispatch(
        zone=plan.site.outlook.zone,
        pool=plan.pool,
        reason=f"dispatched on {where}: {why}",
        due=due,
        band=plan.site.outlook.band,
        latest_start=latest_start(job, plan.pool),
    )


def _deferred(plan: Plan, plans: Sequence[Plan], where: str, now: int) -> Defer:
    first = min(plans, key=lambda each: each.at_once * each.energy)
    return Defer(
        zone=plan.site.outlook.zone,
        pool=plan.pool,
        planned_start=plan.start,
        latest_start=plan.latest,
        reason=(
            f"deferred: {grams(first.at_once)} g/kWh expected if run now; planned for"
            f" {utc(plan.start)} UTC on {where} at {grams(plan.intensity)}"
            f" ({_percent(plan.intensity * plan.energy, first.at_once * first.energy)} emitted"
            f" for {length(plan.start - now)} of waiting), latest start {utc(plan.latest)}"
        ),
        band=plan.site.outlook.band,
    )


def _percent(new: float, old: float) -> str:
    if old <= 0:
        return "no change"
    change = 100 * (new / old - 1)
    return f"{abs(change):.0f} % {'less' if change <= 0 else 'more'}"


def _place(plan: Plan, sites: Sequence[Site]) -> str:
    name = NAMES[plan.pool]
    return f"{name} in {plan.site.outlook.zone}" if len(sites) > 1 else name
