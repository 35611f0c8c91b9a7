"""What a running system was given and what it decided, read from its streams.

Inputs are jobs, intensities as the router received them, and the times at which it looked and
workers began and ended; all else in the record is what a simulation has to arrive at by itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
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
    JobsReviewed,
    JobStarted,
    JobSubmitted,
    JobSuspended,
    Pool,
    SuspendRequested,
)
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.simulation.grid import RecordedGrid
from carbon_orchestrator.simulation.timed import Attempt, Timing
from carbon_orchestrator.simulation.workload import Job
from carbon_orchestrator.submission import accept
from streams.event import Message, entry_order

Kind = Literal["defer", "dispatch", "suspend"]
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
    sweeps: dict[int, tuple[int, int]] = {}
    pauses: dict[int, tuple[int, int]] = {}
    known: list[tuple[int, str | None]] = []  # when, and the last end that the router knew then
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
        elif isinstance(event, JobsReviewed):
            sweeps |= {at: (listed, done) for listed, at, done in event.waiting}
            pauses |= {at: (listed, done) for listed, at, done in event.running}
            known += event.ended
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
    looked = {job_id: [made.at for made in all_made[1:]] for job_id, all_made in decisions.items()}
    known += ((decision.at, decision.ended_id) for _, _, decision in asked)
    books = sorted(
        {
            (at, bisect_right(places, entry_order(ended_id)))
            for at, ended_id in known
            if ended_id is not None
        }
    )
    return Record(
        # Those seen at one moment in the order of their lanes.
        sorted(jobs, key=lambda job: (job.arrives, job.spec.urgency != "urgent")),
        list(grids.values()),
        Timing(sweeps, pauses, looked, attempts, books),
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
