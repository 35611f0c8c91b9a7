"""The simulation with the times of a running system: all that takes none in engine.py.

When the router looked at its jobs, and when the workers began and ended, is taken as it was
there. What is decided at each look, and whether anything is, the simulation finds by itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from heapq import heappush
from typing import NamedTuple

from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.capacity import Booking
from carbon_orchestrator.router.policy import Defer, Dispatch
from carbon_orchestrator.simulation.engine import END, WAKE, Engine, Setup
from carbon_orchestrator.simulation.fate import Fate, Segment
from carbon_orchestrator.simulation.grid import Grid
from carbon_orchestrator.simulation.pools import work
from carbon_orchestrator.simulation.workload import Job

_ALL = 1 << 62


class Attempt(NamedTuple):
    """How an attempt went. `begun`, `known`: when its start and its end were on record; all times
    grid ms. `run_ms`: wall ms. `suspended`: it ended because it was asked to pause. `place`: of
    its end among all ends, from 1 on."""

    started: int
    begun: int
    ended: int
    known: int
    run_ms: int
    suspended: bool
    place: int


class Timing(NamedTuple):
    """Times in grid ms. `sweeps`, `pauses`: when all waiting and all running jobs were listed and
    when they were done with, by when they were decided about; `looked`, by job: when it was looked
    at and that changed something; `attempts`, by job: in their order; `books`: (when, how many ends
    of attempts the router knew then), ascending."""

    sweeps: Mapping[int, tuple[int, int]]
    pauses: Mapping[int, tuple[int, int]]
    looked: Mapping[str, Sequence[int]]
    attempts: Mapping[str, Sequence[Attempt]]
    books: Sequence[tuple[int, int]]


def simulate_timed(
    jobs: Sequence[Job], grids: Sequence[Grid], setup: Setup, timing: Timing
) -> list[Fate]:
    """What becomes of `jobs` with these times; in their order. `setup.ask_always` is meant."""
    return _Timed(jobs, grids, setup, timing).run(None)


class _Timed(Engine):
    def __init__(
        self, jobs: Sequence[Job], grids: Sequence[Grid], setup: Setup, timing: Timing
    ) -> None:
        super().__init__(jobs, grids, setup)
        self.timing = timing
        self.seen = set(self.events)
        self.newest = -1  # when the newest of what is known of the grids came
        self.events = sorted({*self.events, *timing.sweeps, *timing.pauses})
        self.pauses = sorted(timing.pauses)
        self.screen = None
        by_id = self._in_order({fate.number: fate for fate in self.fates})
        self.ranks = {fate.number: rank for rank, fate in enumerate(by_id)}
        self.attempts: dict[int, Attempt] = {}  # under way
        #: Jobs that are asked to pause and run still: their plans, when those wake them, and the
        #: room that they have.
        self.pausing: dict[int, tuple[Defer, int]] = {}
        self.held: dict[int, tuple[Pool, str, Booking] | None] = {}
        self.ended_at: dict[int, int] = {}  # when its last attempt's end was on record
        #: Room that was given back since the books were last read: by which end, and when.
        self.returned: list[tuple[int, int, tuple[Pool, str, Booking]]] = []

    # -- looks -----------------------------------------------------------------------------------

    def _observed(self, now: int) -> None:
        self.observed_at, self.known = now, None
        if now in self.seen:
            self.newest = now
        timing = self.timing
        if now in timing.pauses:
            self._read_books(now)
            listed, done = timing.pauses[now]
            running = self._in_order(self.pausable)
            begun = {each.number: self.attempts[each.number].begun for each in running}
            running = [each for each in running if self._in_time(each, begun[each.number], listed)]
            for fate in running:
                self._ask_to_pause(fate, now)
            for fate in running:
                ended = self.attempts[fate.number].known <= done and not self._looked(fate)
                if ended and fate.number in self.pausing:
                    self._asked_too_late(fate)
        if now in timing.sweeps:
            listed, _ = timing.sweeps[now]
            for fate in self._in_order(self.waiting):
                # Plans made with all that is known stand.
                unseen = fate.decisions[-1].at < self.newest
                since = self.ended_at.get(fate.number, -1)
                if unseen and self._in_time(fate, since, listed):
                    self._decide(fate, now)

    def _in_time(self, fate: Fate, since: int, listed: int) -> bool:
        """Whether it was there when jobs were listed; within one ms the record has to tell."""
        return since < listed or (since == listed and self._looked(fate))

    def _looked(self, fate: Fate) -> bool:
        """Whether the look of this moment changed something about it."""
        return self.observed_at in self.timing.looked.get(fate.job.spec.job_id, ())

    def _decide(self, fate: Fate, now: int) -> None:
        self._read_books(now)
        super()._decide(fate, now)

    def _in_order(self, fates: Mapping[int, Fate]) -> list[Fate]:
        return sorted(fates.values(), key=lambda fate: fate.job.spec.job_id)

    def _read_books(self, now: int) -> None:
        """What the router knew of the room that was given back; where that is not on record, all
        that it may have known."""
        if not self.returned:
            return
        most, until = self._ends_known(now), now
        if most is None:
            books = self.timing.books
            after = bisect_left(books, (now + 1, 0))
            most, until = (books[after][1] if after < len(books) else _ALL), now - 1
        kept = []
        for place, known, booking in self.returned:
            if place <= most and known <= until:
                self._sites().book(*booking, -1)
            else:
                kept.append((place, known, booking))
        self.returned = kept

    def _ends_known(self, now: int) -> int | None:
        """How many ends of attempts the router knew then; None where that is not on record."""
        books = self.timing.books
        after = bisect_left(books, (now + 1, 0))
        return books[after - 1][1] if after and books[after - 1][0] == now else None

    def _over(self, attempt: Attempt) -> int:
        """When it ended to the router: after the looks at what runs that knew of no end yet."""
        over = attempt.known
        for at in self.pauses[bisect_left(self.pauses, over) :]:
            most = self._ends_known(at)
            if most is None or most >= attempt.place:
                break
            over = at + 1
        return over

    def _expect(self, time: int, what: int, fate: Fate) -> None:
        # Who wakes at one moment is looked at in the order of ids, as in a sweep.
        self.serial += 1
        heappush(
            self.ahead,
            (time, what, self.ranks[fate.number] << 32 | self.serial, fate, fate.version),
        )

    def _wakes(self, fate: Fate, due: int) -> None:
        looks = self.timing.looked.get(fate.job.spec.job_id, ())
        next_one = bisect_left(looks, due)
        self._expect(looks[next_one] if next_one < len(looks) else due, WAKE, fate)

    def _ask_to_pause(self, fate: Fate, now: int) -> None:
        answer = self._ask_running(fate, now)
        if isinstance(answer, Defer):
            del self.pausable[fate.number]
            self.held[fate.number] = fate.booking
            self._book(fate, answer, answer.planned_start)
            self.pausing[fate.number] = answer, self._due(answer)

    def _asked_too_late(self, fate: Fate) -> None:
        """It ended while others were decided about, with what was planned for it in mind."""
        self._unbook(fate)
        fate.booking = self.held.pop(fate.number)
        fate.decisions.pop()
        del self.pausing[fate.number]
        self.pausable[fate.number] = fate

    # -- runs ------------------------------------------------------------------------------------

    def _dispatch(self, fate: Fate, answer: Dispatch, now: int) -> None:
        fate.version += 1
        attempt = self._attempt(fate, answer.pool, now)
        self.attempts[fate.number] = attempt
        fate.started = (answer.pool, answer.zone, attempt.started)
        self._expect(self._over(attempt), END, fate)
        if fate.job.spec.interruptible and self.policy.pauses:
            self.pausable[fate.number] = fate

    def _attempt(self, fate: Fate, pool: Pool, now: int) -> Attempt:
        """As it was; where there was none, as it would be."""
        recorded = self.timing.attempts.get(fate.job.spec.job_id, ())
        number = len(fate.segments)
        # It may have begun within the tick in which it was dispatched.
        if number < len(recorded) and recorded[number].known >= now:
            return recorded[number]
        left = work(fate.job, pool, self.config).length_ms * (1 - sum(fate.worked.values()))
        run_ms = max(round(left), 1)
        end = now + round(run_ms * self.setup.speed)
        return Attempt(now, now, end, end, run_ms, False, 0)

    def _ended(self, fate: Fate, now: int) -> None:
        assert fate.started is not None
        pool, zone, since = fate.started
        attempt = self.attempts.pop(fate.number)
        self.ended_at[fate.number] = attempt.known
        whole = work(fate.job, pool, self.config)
        fate.worked[pool] += attempt.run_ms / whole.length_ms
        fate.done = fate.done.after(pool, attempt.run_ms)
        energy_mj = round(whole.energy_mj * attempt.run_ms / whole.length_ms)
        fate.segments.append(Segment(pool, zone, since, attempt.ended, energy_mj))
        fate.started = None
        self.pausable.pop(fate.number, None)
        plan, due = self.pausing.pop(fate.number, (None, 0))
        self._returns(attempt, self.held.pop(fate.number, None))
        if plan is not None and attempt.suspended:
            self._wait(fate, plan, due)
            return
        self._returns(attempt, fate.booking)
        fate.booking = None
        fate.version += 1
        fate.finished = attempt.ended

    def _returns(self, attempt: Attempt, booking: tuple[Pool, str, Booking] | None) -> None:
        if booking is not None:
            self.returned.append((attempt.place, attempt.known, booking))
