"""The screen of each policy: whom to ask at an intensity event (see screen.py for why)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from carbon_orchestrator.events import POOLS, Band, Pool
from carbon_orchestrator.router.deadline import latest_start
from carbon_orchestrator.router.expectation import Done
from carbon_orchestrator.router.greenest import GreenestSlots, GreenestWindow
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Defer, JobView, Policy
from carbon_orchestrator.router.threshold import Threshold
from carbon_orchestrator.simulation import screen
from carbon_orchestrator.simulation.screen import Ahead, Wanted

#: A job that has less than this share left is always asked: it may take longer than expected.
_NEARLY_DONE = 0.06


class Screen(Protocol):
    """Jobs are known by number; times are grid ms."""

    def waits(self, number: int, job: JobView, policy: Policy, plan: Defer) -> None:
        """A job waits, as was decided from this view of it."""
        ...

    def runs(
        self,
        number: int,
        whole: JobView,
        pool: Pool,
        now: int,
        done: Done,
        policy: Policy,
    ) -> None:
        """A job that may be suspended runs from now on. `whole`: as it was before it first ran;
        `done`: what it had run before now."""
        ...

    def may_start(self, jobs: Sequence[int], outlook: Outlook, now: int, until: float) -> list[int]:
        """Those of the waiting jobs that could start before `until`."""
        ...

    def may_pause(self, jobs: Sequence[int], outlook: Outlook, now: int) -> list[int]:
        """Those of the running jobs that could be suspended now."""
        ...


def screen_for(policy: Policy, count: int, pools: Sequence[Pool], speed: float) -> Screen | None:
    """For `count` jobs of known length and pools with room for all; None where all are asked."""
    if isinstance(policy, GreenestWindow | GreenestSlots):
        return GreenestScreen(policy, count, pools, speed)
    return BandScreen(count) if isinstance(policy, Threshold) else None


class GreenestScreen:
    """Of `greenest_window` and `greenest_slots`."""

    def __init__(
        self,
        policy: GreenestWindow | GreenestSlots,
        count: int,
        pools: Sequence[Pool],
        speed: float,
    ) -> None:
        self._policy, self._speed, self._pools = policy, speed, pools
        self._length = {pool: np.ones(count) for pool in POOLS}
        self._latest = {pool: np.zeros(count) for pool in POOLS}
        self._broken = np.zeros(count, dtype=bool)
        self._restarts = np.zeros(count, dtype=bool)
        # Of running jobs: when it began, grid ms a whole run takes, share that was left then,
        # the last moment at which to begin what is then left (without a deadline), the deadline.
        self._since = np.zeros(count)
        self._whole = np.ones(count)
        self._left = np.ones(count)
        self._again = np.zeros(count)  # grid ms that resuming took and will take
        self._patience = np.zeros(count)
        self._deadline = np.zeros(count)

    def waits(self, number: int, job: JobView, policy: Policy, plan: Defer) -> None:
        for pool in POOLS:
            latest = latest_start(job, pool)
            self._length[pool][number] = job.mean(pool)
            self._latest[pool][number] = (
                job.submitted_at + _max_wait(policy) if latest is None else latest
            )
        self._broken[number] = job.interruptible and isinstance(self._policy, GreenestSlots)
        self._restarts[number] = job.resume_ms > 0

    def runs(
        self,
        number: int,
        whole: JobView,
        pool: Pool,
        now: int,
        done: Done,
        policy: Policy,
    ) -> None:
        lengths = {each: whole.mean(each) / self._speed for each in POOLS}
        self._since[number] = now
        self._whole[number] = whole.mean(pool)
        self._left[number] = 1 - done.fast_ms / lengths["fast"] - done.eco_ms / lengths["eco"]
        # As the router reckons: what it ran is no progress as far as it was resumed.
        other: Pool = "eco" if pool == "fast" else "fast"
        pace = max(1.0, whole.mean(pool) / whole.mean(other))
        self._again[number] = whole.resume_ms * done.segments * pace
        self._patience[number] = whole.submitted_at + _max_wait(policy) - whole.resume_ms
        self._deadline[number] = np.inf
        if whole.deadline is not None:
            self._deadline[number] = whole.deadline - whole.margin_ms - whole.resume_ms

    def may_start(self, jobs: Sequence[int], outlook: Outlook, now: int, until: float) -> list[int]:
        if not jobs or not _usable(outlook, now):
            return list(jobs)
        step = outlook.resolution_ms
        chosen = np.array(jobs, dtype=np.int64)
        soon = (until - now) / step
        broken, restarts = self._broken[chosen], self._restarts[chosen]
        flags = np.zeros(len(chosen), dtype=bool)
        for pool in self._pools:
            length = self._length[pool][chosen] / step
            latest = np.maximum((self._latest[pool][chosen] - now) / step, 0.0)
            reach = float(length.max() + latest.max())
            ahead = Ahead(outlook.ahead, step, reach, self._policy.min_saving)
            parts, whole = np.flatnonzero(broken), np.flatnonzero(~broken | restarts)
            if len(parts):
                wanted = Wanted(length[parts], latest[parts])
                flags[parts] |= screen.may_start_in_parts(wanted, ahead, soon)
            if len(whole):
                wanted = Wanted(length[whole], latest[whole])
                flags[whole] |= screen.may_start_unbroken(wanted, ahead, soon)
        return [int(number) for number in chosen[flags]]

    def may_pause(self, jobs: Sequence[int], outlook: Outlook, now: int) -> list[int]:
        if not isinstance(self._policy, GreenestSlots):
            return []
        if not jobs or not _usable(outlook, now):
            return list(jobs)
        step = outlook.resolution_ms
        chosen = np.array(jobs, dtype=np.int64)
        whole = self._whole[chosen]
        left = self._left[chosen] - (now - self._since[chosen]) / whole
        done = left < _NEARLY_DONE
        length = np.where(done, whole, left * whole + self._again[chosen])
        deadline = self._deadline[chosen]
        latest = np.where(np.isinf(deadline), self._patience[chosen], deadline - length)
        possible = (latest > now - 2) & ~done
        if possible.any():
            latest = np.maximum((latest[possible] - now) / step, 0.0)
            wanted = Wanted(length[possible] / step, latest)
            reach = float(wanted.length.max() + latest.max())
            ahead = Ahead(outlook.ahead, step, reach, self._policy.min_saving)
            possible[possible] = screen.may_pause(wanted, ahead)
        return [int(number) for number in chosen[possible | done]]


class BandScreen:
    """Of `threshold`: the answer changes with the band, or with time running out."""

    def __init__(self, count: int) -> None:
        self._band: list[Band | None] = [None] * count
        self._latest = [0] * count

    def waits(self, number: int, job: JobView, policy: Policy, plan: Defer) -> None:
        self._band[number] = plan.band
        self._latest[number] = plan.latest_start

    def runs(
        self,
        number: int,
        whole: JobView,
        pool: Pool,
        now: int,
        done: Done,
        policy: Policy,
    ) -> None:
        """This policy suspends nothing."""

    def may_start(self, jobs: Sequence[int], outlook: Outlook, now: int, until: float) -> list[int]:
        band = outlook.band_at(now)
        return [
            number for number in jobs if self._band[number] != band or self._latest[number] < until
        ]

    def may_pause(self, jobs: Sequence[int], outlook: Outlook, now: int) -> list[int]:
        return []


def _max_wait(policy: Policy) -> int:
    assert isinstance(policy, GreenestWindow | GreenestSlots)
    return policy.max_wait_ms


def _usable(outlook: Outlook, now: int) -> bool:
    return outlook.band_at(now) is not None and screen.even(
        outlook.ahead, now, outlook.resolution_ms
    )
