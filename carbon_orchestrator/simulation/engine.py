"""The router in virtual time: its own deciding code over recorded grids and jobs.

As in the running system a job is decided about when it comes, when its planned start comes, and
at every intensity event, after the jobs that run and may be suspended. What is not simulated
takes no time: streams, workers, failures.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from math import inf

import msgspec

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.router.capacity import Booking, Ledger
from carbon_orchestrator.router.deciding import policy_of, view, wake
from carbon_orchestrator.router.expectation import Done, RunTimes
from carbon_orchestrator.router.greenest import GreenestSlots, GreenestWindow
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Policy
from carbon_orchestrator.router.sites import Sites
from carbon_orchestrator.router.threshold import Threshold
from carbon_orchestrator.run_times import Learned, bucket
from carbon_orchestrator.simulation.fate import Decided, Fate, Segment
from carbon_orchestrator.simulation.grid import Grid, latest
from carbon_orchestrator.simulation.pools import Place, Pools, work
from carbon_orchestrator.simulation.screening import Screen, screen_for
from carbon_orchestrator.simulation.workload import Job

_PROGRESS = 500  # events between two reports
END, WAKE = 0, 1


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """`pools`: those of each zone, by default both; `slots`: how many jobs a pool runs at once,
    by default any number; `learn`: run times are learned from the jobs that end, beginning with
    `learned`; `speed`: grid ms per wall ms; `ask_always`: ask about every job at every event,
    though the answer may have no effect, and keep all answers.
    """

    config: Config
    pools: Mapping[str, Sequence[Pool]] = {}
    slots: Mapping[Place, int] = {}
    learn: bool = False
    learned: RunTimes = {}
    speed: float = 1.0
    ask_always: bool = False


def simulate(
    jobs: Sequence[Job],
    grids: Sequence[Grid],
    setup: Setup,
    progress: Callable[[float], None] | None = None,
) -> list[Fate]:
    """What becomes of `jobs` (by submission) under `setup.config.policy`; in their order.

    `grids`: one a zone, the home zone's first. `progress` is told the share of time that is over.
    """
    return Engine(jobs, grids, setup).run(progress)


class Engine:
    """One simulation; see timed.py for another notion of what takes how long."""

    def __init__(self, jobs: Sequence[Job], grids: Sequence[Grid], setup: Setup) -> None:
        self.setup, self.config, self.grids = setup, setup.config, grids
        self.policy, _ = policy_of(setup.config)
        self.resume_ms = seconds(setup.config.greenest.resume_cost) * 1000
        self.fates = [Fate(number, job) for number, job in enumerate(jobs)]
        self.events = sorted({time for grid in grids for time in grid.times})
        self.pools = Pools(setup.slots)
        self.ledgers: dict[Place, Ledger] = {}
        if self.policy.forecasts:
            self.ledgers = {place: Ledger(slots) for place, slots in setup.slots.items()}
        self.learned = dict(setup.learned)
        self.waiting: dict[int, Fate] = {}
        self.pausable: dict[int, Fate] = {}
        #: (time, what, serial number, job, version): ends before wakes.
        self.ahead: list[tuple[int, int, int, Fate, int]] = []
        self.serial = 0
        self.observed_at = -1
        self.known: Sites | None = None
        self.next_event: float = inf
        self.policies: dict[int | None, Policy] = {None: self.policy}
        self.screen = self._screen()

    def _screen(self) -> Screen | None:
        """Only where each job is for itself, and known from the start."""
        setup = self.setup
        shared = setup.slots or setup.learn or setup.learned or len(self.grids) > 1
        if shared or setup.ask_always:
            return None
        pools = setup.pools.get(self.grids[0].zone, POOLS)
        return screen_for(self.policy, len(self.fates), pools, setup.speed)

    def run(self, progress: Callable[[float], None] | None) -> list[Fate]:
        events = self.events
        arrivals = sorted(self.fates, key=lambda fate: fate.job.arrives)
        arrived = observed = 0
        if arrivals:
            observed = bisect_left(events, arrivals[0].job.arrives)
            self._observed(events[observed - 1] if observed else -1)
            self.next_event = events[observed] if observed < len(events) else inf
        begin, span = observed, max(len(events) - observed, 1)
        while arrived < len(arrivals) or self.ahead or self.waiting:
            event = self.next_event
            arrival = arrivals[arrived].job.arrives if arrived < len(arrivals) else inf
            ahead, what = self.ahead[0][:2] if self.ahead else (inf, WAKE)
            # Of one moment: what ends, what is observed, what is submitted, what wakes.
            if what == END and ahead <= min(event, arrival):
                self._happens()
            elif event <= min(ahead, arrival):
                observed += 1
                self.next_event = events[observed] if observed < len(events) else inf
                self._observed(int(event))
                if progress is not None and observed % _PROGRESS == 0:
                    progress((observed - begin) / span)
            elif arrival <= ahead:
                self._decide(arrivals[arrived], int(arrival))
                arrived += 1
            else:
                self._happens()
        return self.fates

    def _happens(self) -> None:
        time, what, _, fate, version = heappop(self.ahead)
        if version != fate.version:
            return
        if what == END:
            self._ended(fate, time)
        else:
            self._decide(fate, time)

    def _expect(self, time: int, what: int, fate: Fate) -> None:
        self.serial += 1
        heappush(self.ahead, (time, what, self.serial, fate, fate.version))

    # -- what is known ---------------------------------------------------------------------------

    def _sites(self) -> Sites:
        if self.known is None:
            outlooks = {grid.zone: latest(grid, self.observed_at) for grid in self.grids}
            self.known = Sites(outlooks, self.setup.pools, self.ledgers)
        return self.known

    def _observed(self, now: int) -> None:
        self.observed_at, self.known = now, None
        asked, paused = list(self.waiting), list(self.pausable)
        if self.screen is not None and (asked or paused):
            outlook = next(iter(self._sites().outlooks.values()))
            asked = self.screen.may_start(asked, outlook, now, self.next_event)
            paused = self.screen.may_pause(paused, outlook, now)
        for number in paused:
            self._ask_to_pause(self.fates[number], now)
        for number in asked:
            self._decide(self.fates[number], now)

    # -- decisions --------------------------------------------------------------------------------

    def _ask(self, fate: Fate, done: Done, zones: Sequence[str], now: int) -> Dispatch | Defer:
        job = self._view(fate, done)
        policy = self._policy(fate.job.max_wait_ms)
        return policy.decide(job, self._sites().of(zones, job, now), now)

    def _view(self, fate: Fate, done: Done) -> JobView:
        spec, policy = fate.job.spec, self._policy(fate.job.max_wait_ms)
        fate.view = view(spec, self.config, self.learned, self.setup.speed, policy, done)
        return fate.view

    def _policy(self, max_wait_ms: int | None) -> Policy:
        """The policy with the job's own longest wait, where it has one."""
        if max_wait_ms not in self.policies:
            policy = self.policy
            if isinstance(policy, GreenestWindow | GreenestSlots | Threshold):
                policy = msgspec.structs.replace(policy, max_wait_ms=max_wait_ms)
            self.policies[max_wait_ms] = policy
        return self.policies[max_wait_ms]

    def _decide(self, fate: Fate, now: int) -> None:
        """About a job that does not run."""
        booking = self._unbook(fate)
        answer = self._ask(fate, fate.done, fate.job.spec.zones, now)
        plan = fate.plan
        if isinstance(answer, Dispatch):
            fate.decisions.append(Decided(now, answer))
            fate.plan = None
            self.waiting.pop(fate.number, None)
            self._book(fate, answer, now)
            self._dispatch(fate, answer, now)
        elif plan is not None and _same(plan, answer):
            self._rebook(fate, booking)
            self._wait(fate, plan)
        else:
            fate.decisions.append(Decided(now, answer))
            self._book(fate, answer, answer.planned_start)
            self._wait(fate, answer)

    def _wait(self, fate: Fate, plan: Defer, due: int | None = None) -> None:
        fate.plan = plan
        fate.version += 1
        self.waiting[fate.number] = fate
        assert fate.view is not None
        if self.screen is not None:
            self.screen.waits(fate.number, fate.view, self._policy(fate.job.max_wait_ms), plan)
        self._wakes(fate, self._due(plan) if due is None else due)

    def _due(self, plan: Defer) -> int:
        return wake(plan, self._sites().outlooks[plan.zone], self.policy)

    def _wakes(self, fate: Fate, due: int) -> None:
        if due < self.next_event:  # else that event brings a new decision first
            self._expect(due, WAKE, fate)

    def _ask_to_pause(self, fate: Fate, now: int) -> None:
        """About a job that runs."""
        answer = self._ask_running(fate, now)
        if isinstance(answer, Dispatch):
            return
        self._unbook(fate)
        self._stop(fate, now)
        self._book(fate, answer, answer.planned_start)
        self._view(fate, fate.done)  # what it has to load again is still to come
        self._wait(fate, answer)

    def _ask_running(self, fate: Fate, now: int) -> Dispatch | Defer:
        """Whether to go on; a pause is a decision."""
        assert fate.started is not None
        pool, zone, since = fate.started
        ran = max(0, round((now - since) / self.setup.speed))
        booking = self._unbook(fate)
        answer = self._ask(fate, fate.done.so_far(pool, ran), [zone], now)
        self._rebook(fate, booking)
        if isinstance(answer, Defer):
            fate.decisions.append(Decided(now, answer, running=True))
        return answer

    # -- room -------------------------------------------------------------------------------------

    def _book(self, fate: Fate, answer: Dispatch | Defer, start: int) -> None:
        if not self.ledgers or fate.view is None:
            return
        booking = Booking.of(start, start + fate.view.mean(answer.pool))
        self._rebook(fate, (answer.pool, answer.zone, booking))

    def _rebook(self, fate: Fate, booking: tuple[Pool, str, Booking] | None) -> None:
        fate.booking = booking
        if booking is not None:
            self._sites().book(*booking)

    def _unbook(self, fate: Fate) -> tuple[Pool, str, Booking] | None:
        booking, fate.booking = fate.booking, None
        if booking is not None:
            self._sites().book(*booking, -1)
        return booking

    # -- runs -------------------------------------------------------------------------------------

    def _dispatch(self, fate: Fate, answer: Dispatch, now: int) -> None:
        fate.version += 1
        fate.started = (answer.pool, answer.zone, now)
        if self.pools.enter((answer.pool, answer.zone), fate, answer):
            self._start(fate, now)

    def _start(self, fate: Fate, now: int) -> None:
        assert fate.started is not None
        pool, zone, _ = fate.started
        fate.started = (pool, zone, now)
        left = work(fate.job, pool, self.config).length_ms * (1 - sum(fate.worked.values()))
        wall = max(round(left + self._overhead(fate)), 1)
        self._expect(now + round(wall * self.setup.speed), END, fate)
        if fate.job.spec.interruptible and self.policy.pauses:
            self.pausable[fate.number] = fate
            if self.screen is not None:
                policy = self._policy(fate.job.max_wait_ms)
                whole = view(fate.job.spec, self.config, {}, self.setup.speed, policy)
                self.screen.runs(fate.number, whole, pool, now, fate.done, policy)

    def _overhead(self, fate: Fate) -> float:
        """Wall ms until a job that was suspended is where it was."""
        return self.resume_ms if fate.segments else 0.0

    def _stop(self, fate: Fate, now: int) -> None:
        """A segment ends."""
        assert fate.started is not None
        pool, zone, since = fate.started
        whole = work(fate.job, pool, self.config)
        ran = round((now - since) / self.setup.speed)
        fate.worked[pool] += max(ran - self._overhead(fate), 0.0) / whole.length_ms
        fate.done = fate.done.after(pool, ran)
        energy_mj = round(whole.energy_mj * ran / whole.length_ms)
        fate.segments.append(Segment(pool, zone, since, now, energy_mj))
        fate.started = None
        self.pausable.pop(fate.number, None)
        if self.setup.learn:
            self._learn(fate, pool, Learned(energy_mj=energy_mj, run_ms=ran))
        follower = self.pools.leave((pool, zone))
        if follower is not None:
            self._start(follower, now)

    def _ended(self, fate: Fate, now: int) -> None:
        self._unbook(fate)
        self._stop(fate, now)
        fate.version += 1
        fate.finished = now
        ran = {"fast": fate.done.fast_ms, "eco": fate.done.eco_ms}
        for pool in POOLS:
            if self.setup.learn and ran[pool] == sum(ran.values()):
                self._learn(fate, pool, Learned({bucket(ran[pool]): 1}))

    def _learn(self, fate: Fate, pool: Pool, new: Learned) -> None:
        key = (fate.job.spec.type, pool)
        known = self.learned.get(key, Learned())
        counts = dict(known.counts)
        for each, count in new.counts.items():
            counts[each] = counts.get(each, 0) + count
        self.learned[key] = Learned(
            counts, known.energy_mj + new.energy_mj, known.run_ms + new.run_ms
        )


def _same(plan: Defer, answer: Defer) -> bool:
    return (plan.planned_start, plan.pool, plan.zone) == (
        answer.planned_start,
        answer.pool,
        answer.zone,
    )
