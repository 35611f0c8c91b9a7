"""What a running system was given and what it decided, read from its streams.

Inputs are jobs, intensities as the router received them, and the times at which it looked and
workers began and ended; all else in the record is what a simulation has to arrive at by itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median_low
from typing import Literal, NamedTuple

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import (
    Decision,
    Finish,
    IntensityObserved,
    JobCompleted,
    JobDeferred,
    JobDispatched,
    JobFailed,
    JobStarted,
    JobSubmitted,
    JobSuspended,
    Pool,
    SuspendRequested,
)
from carbon_orchestrator.router.deciding import policy_of, wake
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.router.policy import Defer, Policy
from carbon_orchestrator.simulation.grid import RecordedGrid, latest
from carbon_orchestrator.simulation.timed import Attempt, Timing
from carbon_orchestrator.simulation.workload import Job
from carbon_orchestrator.submission import accept
from streams.event import Message, entry_order

Kind = Literal["defer", "dispatch", "suspend"]
#: A decision that little after an intensity event, wall ms, may have been made because of it.
_SOON_MS = 30
_FOREVER_MS = 1 << 62


class NotComparable(ValueError):
    """The record holds what is not simulated; the message says what."""


class Made(NamedTuple):
    """A decision about a job. Times in grid ms; `zone` "" is the home zone."""

    at: int
    kind: Kind
    zone: str
    pool: Pool
    start: int
    latest_start: int | None
    reason: str


class Record(NamedTuple):
    """`decisions`, by job, in their order; `missed`: ids of the jobs that ended after their
    deadlines."""

    jobs: list[Job]
    grids: list[RecordedGrid]
    timing: Timing
    decisions: Mapping[str, Sequence[Made]]
    missed: Sequence[str]


def read(messages: Iterable[Message], clock: GridClock, config: Config) -> Record:
    """The record of a run that is over, from the messages of all its streams, each stream's in
    its order. Raises NotComparable where attempts failed or a job is not done."""
    intensities: list[Message] = []
    submitted: dict[str, JobSubmitted] = {}
    starts: dict[tuple[str, int], tuple[int, int]] = {}
    ends: dict[str, list[tuple[Finish, int, int]]] = {}
    places: list[tuple[int, int]] = []  # of the entries of the ends
    asked: list[tuple[str, Kind, Decision]] = []
    for message in messages:
        event = message.event
        if isinstance(event, IntensityObserved):
            intensities.append(message)
        elif isinstance(event, JobSubmitted) and event.job_id is not None:
            submitted[event.job_id] = event
        elif isinstance(event, JobStarted):
            starts[event.job_id, event.attempt] = event.at, clock.grid(message.at_ms)
        elif isinstance(event, Finish):
            places.append(entry_order(message.entry_id))
            end = event, clock.grid(message.at_ms), len(places)
            ends.setdefault(event.job_id, []).append(end)
        elif isinstance(event, JobDeferred):
            asked.append((event.job_id, "defer", event.decision))
        elif isinstance(event, JobDispatched):
            asked.append((event.spec.job_id, "dispatch", event.decision))
        elif isinstance(event, SuspendRequested):
            asked.append((event.job_id, "suspend", event.decision))
    asked.sort(key=lambda each: each[2].at)
    decisions: dict[str, list[Made]] = {job_id: [] for job_id in submitted}
    for job_id, kind, decision in asked:
        if job_id in decisions:
            decisions[job_id].append(_made(kind, decision))
    attempts = {job_id: _attempts(job_id, ends.get(job_id, []), starts) for job_id in submitted}
    jobs = [
        _job(event, attempts[job_id], decisions[job_id], config)
        for job_id, event in submitted.items()
    ]
    bands = Bands.of(config.threshold)
    grids = {
        zone: RecordedGrid(zone, _seen(zone, intensities, asked, clock, config), bands)
        for zone in (config.zone, *config.zones)
    }
    books = sorted(
        (decision.at, bisect_right(places, entry_order(decision.ended_id)))
        for _, _, decision in asked
        if decision.ended_id is not None
    )
    return Record(
        # Those seen at one moment in the order of their lanes.
        sorted(jobs, key=lambda job: (job.arrives, job.spec.urgency != "urgent")),
        list(grids.values()),
        _timing(grids, decisions, attempts, books, clock, config),
        decisions,
        [
            job_id
            for job_id, ended in ends.items()
            if (last := ended[-1][0]).deadline is not None and last.at > last.deadline
        ],
    )


def _made(kind: Kind, decision: Decision) -> Made:
    return Made(
        decision.at,
        kind,
        decision.zone or "",
        decision.pool,
        decision.start,
        decision.latest_start,
        decision.reason,
    )


def _attempts(
    job_id: str,
    ends: Sequence[tuple[Finish, int, int]],
    starts: Mapping[tuple[str, int], tuple[int, int]],
) -> list[Attempt]:
    for event, _, _ in ends:
        if isinstance(event, JobFailed):
            raise NotComparable(f"job {job_id}: attempt {event.attempt} failed: {event.error}")
    if not ends or not isinstance(ends[-1][0], JobCompleted):
        raise NotComparable(f"job {job_id} is not completed")
    return [
        Attempt(
            *starts[job_id, event.attempt],
            event.at,
            max(known, event.at),
            event.run_ms,
            isinstance(event, JobSuspended),
            place,
        )
        for event, known, place in ends
    ]


def _job(
    event: JobSubmitted, attempts: Sequence[Attempt], decisions: Sequence[Made], config: Config
) -> Job:
    """With the length on FAST that its run times come to."""
    assert event.job_id is not None
    assert event.submitted_at is not None
    spec = accept(event, config, event.job_id, event.submitted_at)
    dispatches = [made for made in decisions if made.kind == "dispatch"]
    length = sum(
        attempt.run_ms / config.pools[made.pool].slowdown
        for attempt, made in zip(attempts, dispatches, strict=True)
    )
    # Going on took time that a simulation adds by itself.
    length -= (len(attempts) - 1) * seconds(config.greenest.resume_cost) * 1000
    return Job(spec, max(round(length), 1), 0, seen_at=decisions[0].at)


# -- when the router saw and looked ------------------------------------------------------------


def _seen(
    zone: str,
    intensities: Sequence[Message],
    asked: Sequence[tuple[str, Kind, Decision]],
    clock: GridClock,
    config: Config,
) -> list[tuple[int, IntensityObserved]]:
    """The zone's events and when the router knew them: when they came, but after the decisions
    that were made without them, and before those that were made with them."""
    events = [message for message in intensities if message.event.zone == zone]
    orders = [(*entry_order(message.entry_id), message.index) for message in events]
    after = [-1] * (len(events) + 1)  # by the first event not known then
    before = [_FOREVER_MS] * (len(events) + 1)
    for _, _, decision in asked:
        known = _known(zone, decision, config)
        count = 0 if known is None else bisect_right(orders, known)
        after[count] = max(after[count], decision.at)
        before[count] = min(before[count], decision.at)
    for number in reversed(range(len(events))):
        before[number] = min(before[number], before[number + 1])
    seen, last, bound = [], -1, -1
    for number, message in enumerate(events):
        bound = max(bound, after[number])
        time = min(max(clock.grid(message.at_ms), bound + 1), before[number + 1])
        last = max(last, time)
        seen.append((last, message.event))
    return seen


def _known(zone: str, decision: Decision, config: Config) -> tuple[int, int, int] | None:
    """The place of the last event of the zone that a decision knew."""
    intensity_id = decision.intensity_id
    if (decision.zone or config.zone) != zone:
        intensity_id = None
        for each in decision.considered:
            if each.zone == zone:
                intensity_id = each.intensity_id
    if intensity_id is None:
        return None
    entry, _, index = intensity_id.partition("/")
    return (*entry_order(entry), int(index or 0))


def _timing(
    grids: Mapping[str, RecordedGrid],
    decisions: Mapping[str, Sequence[Made]],
    attempts: Mapping[str, Sequence[Attempt]],
    books: Sequence[tuple[int, int]],
    clock: GridClock,
    config: Config,
) -> Timing:
    """When it looked at all jobs is on record where that changed anything; where not, it is
    taken to have looked as long after the intensity event as it usually did."""
    policy, _ = policy_of(config)
    events = sorted({time for grid in grids.values() for time in grid.times})
    certain: set[int] = set()
    likely: set[int] = set()
    possible: set[int] = set()
    paused: set[int] = set()
    woken: dict[str, list[int]] = {}
    for job_id, all_made in decisions.items():
        for earlier, made in pairwise(all_made):
            if made.kind == "suspend":
                paused.add(made.at)
                continue
            woken.setdefault(job_id, []).append(made.at)
            if earlier.kind != "dispatch":
                # Before its time has come nothing but a sweep looks at a job.
                grid = grids[earlier.zone or config.zone]
                if made.at < _due(earlier, made.at, grid, policy):
                    certain.add(made.at)
                elif made.at < _due(
                    earlier, events[bisect_right(events, made.at) - 1] - 1, grid, policy
                ):
                    likely.add(made.at)
                else:
                    possible.add(made.at)
    soon = round(_SOON_MS * clock.speed)
    windows = list(zip(events, [*events[1:], _FOREVER_MS], strict=bool(events)))
    sure, probable, maybe, asked = map(sorted, (certain, likely, possible, paused))
    swept = [
        _first(sure, begin, end)
        or _first(probable, begin, min(end, begin + soon))
        or _first(maybe, begin, min(end, begin + soon))
        for begin, end in windows
    ]
    sweeps = certain | _filled(events, swept)
    if policy.pauses:
        paused |= _filled(events, [_first(asked, begin, end) for begin, end in windows])
    return Timing(sorted(sweeps), sorted(paused), woken, attempts, books)


def _due(plan: Made, at: int, grid: RecordedGrid, policy: Policy) -> int:
    """When a job is to be looked at that was planned so, as known at a time."""
    answer = Defer(grid.zone, plan.pool, plan.start, plan.latest_start or plan.start, plan.reason)
    return wake(answer, latest(grid, max(plan.at, at)), policy)


def _first(times: Sequence[int], begin: int, end: int) -> int | None:
    """The first of `times` (ascending) in [begin, end)."""
    place = bisect_left(times, begin)
    return times[place] if place < len(times) and times[place] < end else None


def _filled(events: Sequence[int], looks: Sequence[int | None]) -> set[int]:
    """The looks after each event; those that are not known as long after it as the others."""
    delays = [look - event for event, look in zip(events, looks, strict=True) if look is not None]
    usual = median_low(delays) if delays else 0
    return {
        event + usual if look is None else look for event, look in zip(events, looks, strict=True)
    }
