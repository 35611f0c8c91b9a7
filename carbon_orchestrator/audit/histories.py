"""What events say of every job, in the order in which it must have happened.

Events come by entry id. That is the order of commits within a stream, but not between streams:
ids tell milliseconds, by a clock that may be set back. So what a job's streams say within one
millisecond is put into the order of a job's life, and an event that does not fit waits until it
does; one that never does contradicts the record. Jobs that have ended are forgotten, so memory
is bounded by the jobs under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from carbon_orchestrator.audit.findings import Findings, Place
from carbon_orchestrator.audit.grids import place_order
from carbon_orchestrator.audit.submissions import Refused, Taken
from carbon_orchestrator.events import (
    EmissionsRecorded,
    Finish,
    JobCancelled,
    JobCompleted,
    JobDeferred,
    JobDispatched,
    JobFailed,
    JobRejected,
    JobStarted,
    JobSubmitted,
    JobSuspended,
    StopRequested,
    SuspendRequested,
)
from carbon_orchestrator.lifecycle import TERMINAL, WAITING, State, allowed
from streams.event import Message

_AT_THE_END = "at the end of what there is of the record"
_GATEWAY = "gateway"
#: In the order of a job's life.
_LIFE: tuple[type, ...] = (
    *(JobSubmitted, JobRejected, JobDeferred, JobDispatched, JobStarted),
    *(SuspendRequested, StopRequested, JobSuspended, JobFailed, JobCompleted),
    *(EmissionsRecorded, JobCancelled),
)
_RANK = {each: rank for rank, each in enumerate(_LIFE)}
_ABOUT_JOBS = (JobDeferred, SuspendRequested, StopRequested, JobRejected, JobCancelled)


class Job:
    """A job under way. `outcomes`: what its submission comes to; None: it is not on record."""

    __slots__ = (
        *("attempt", "early", "ends", "failures", "fast", "job_id", "kept", "outcomes", "outside"),
        *("replans", "state", "submitted"),
    )

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.state: State | None = None
        self.attempt = 0
        self.failures = 0
        self.replans = 0
        self.fast: tuple[float, float] | None = None  # of the last dispatch: energy, length
        self.outcomes: list[Taken | Refused] | None = None
        self.submitted: tuple[str, str, int] | None = None  # stream, entry, index
        self.outside = False  # not from the gateway: may come twice
        #: By attempt, what its end or its emissions said, and where, until the other is there too.
        self.ends: dict[int, tuple[tuple[Any, ...], Place]] = {}
        self.early: list[tuple[str, Message]] = []
        self.kept: Any = None  # what whoever listens keeps about it

    @property
    def over(self) -> bool:
        return self.state in TERMINAL and not self.ends


class Listener(Protocol):
    """Is told of every event when its turn has come; `before`: the state that it found."""

    def outcomes(self, message: Message, job_id: str) -> list[Taken | Refused]: ...
    def applied(self, job: Job, before: State | None, stream: str, message: Message) -> None: ...
    def ended(self, job: Job) -> None: ...


class Histories:
    """`identify`: the id of the job that a submission is about; `late`: the record does not begin
    with the deployment, so jobs may be met under way."""

    def __init__(
        self,
        findings: Findings,
        listener: Listener,
        identify: Callable[[str, Message], str],
        *,
        late: bool = False,
    ) -> None:
        self.jobs: dict[str, Job] = {}
        self._findings = findings
        self._listener = listener
        self._identify = identify
        self._late = late
        self._over: set[int] = set()  # hashes of the ids of jobs from outside that have ended
        self._ms = -1
        #: Of this millisecond, by job.
        self._now: dict[str, list[tuple[str, Message]]] = {}

    def take(self, stream: str, message: Message) -> None:
        """The next event of the record; those that say nothing of jobs are left alone."""
        event = message.event
        if isinstance(event, JobSubmitted):
            job_id = self._identify(stream, message)
        elif isinstance(event, JobDispatched):
            job_id = event.spec.job_id
        elif isinstance(event, (*_ABOUT_JOBS, JobStarted, Finish, EmissionsRecorded)):
            job_id = event.job_id
        else:
            return
        self._findings.check("histories")
        if message.at_ms != self._ms:
            self._turn()
            self._ms = message.at_ms
        self._now.setdefault(job_id, []).append((stream, message))

    def _turn(self) -> None:
        """The millisecond is over."""
        now, self._now = self._now, {}
        for job_id, events in now.items():
            while events:
                self._next(job_id, events)

    def _next(self, job_id: str, events: list[tuple[str, Message]]) -> None:
        """Take off `events` the one that comes next: of those that are first in their streams and
        fit, if any does, the one that is earliest in a job's life."""
        chosen = 0
        if len(events) > 1:
            job, seen = self._job(job_id), set[str]()
            heads: list[tuple[bool, int, int]] = []
            for at, (stream, message) in enumerate(events):
                if stream not in seen:
                    seen.add(stream)
                    event = message.event
                    misfit = not isinstance(event, JobSubmitted) and not _fits(job, event)
                    heads.append((misfit, _RANK[type(event)], at))
            chosen = min(heads)[2]
        stream, message = events.pop(chosen)
        if isinstance(message.event, JobSubmitted):
            self._submitted(job_id, stream, message)
            return
        job = self._job(job_id)
        if not _fits(job, message.event):
            job.early.append((stream, message))
            return
        self._apply(job, stream, message)
        self._settle(job)

    def _job(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            job = self.jobs[job_id] = Job(job_id)
        return job

    def _submitted(self, job_id: str, stream: str, message: Message) -> None:
        outside = message.source != _GATEWAY
        if outside and hash(job_id) in self._over:
            return  # it came again
        job = self._job(job_id)
        if job.state is not None:
            return
        job.state, job.outside = "submitted", outside
        job.outcomes = self._listener.outcomes(message, job_id)
        job.submitted = (stream, message.entry_id, message.index)
        self._listener.applied(job, None, stream, message)
        self._settle(job)

    def _settle(self, job: Job) -> None:
        """Whatever waited for this, until nothing more fits."""
        while job.early:
            fitting = next((each for each in job.early if _fits(job, each[1].event)), None)
            if fitting is None:
                return
            job.early.remove(fitting)
            self._apply(job, *fitting)
        if job.over:
            del self.jobs[job.job_id]
            if job.outside:
                self._over.add(hash(job.job_id))
            self._listener.ended(job)

    def _apply(self, job: Job, stream: str, message: Message) -> None:
        event, before = message.event, job.state
        if isinstance(event, EmissionsRecorded):
            self._meet(job, event.attempt, _burnt(event), stream, message)
        else:
            _move(job, event)
            if isinstance(event, Finish) and not _lost(event):
                self._meet(job, event.attempt, _end(event), stream, message)
        self._listener.applied(job, before, stream, message)

    def _meet(
        self, job: Job, attempt: int, said: tuple[Any, ...], stream: str, message: Message
    ) -> None:
        """The end of an attempt and what it burnt are one commit and say the same."""
        place = Place(stream, message.entry_id, message.index, job.job_id)
        other = job.ends.pop(attempt, None)
        if other is None:
            job.ends[attempt] = said, place
        elif other[0] != said:
            self._findings.find(
                "histories",
                f"attempt {attempt} ended otherwise than its emissions say",
                place,
                expected=str(other[0]),
                found=str(said),
            )

    # -- the end of the record ---------------------------------------------------------------------

    def finish(self, edge: int | None, put_back: dict[str, int]) -> None:
        """What still waits fits nowhere. `edge`: the order of an entry from which on some streams
        may not be there yet; `put_back`: how many dead letters were put back, by stream: their
        events may be there twice."""
        self._turn()
        for job in list(self.jobs.values()):
            for stream, message in job.early:
                self._misfit(job, stream, message, edge, put_back)
            if job.state is None:
                del self.jobs[job.job_id]
            elif job.ends:
                self._unpaired(job, edge)

    def _misfit(
        self, job: Job, stream: str, message: Message, edge: int | None, put_back: dict[str, int]
    ) -> None:
        findings, event = self._findings, message.event
        if edge is not None and place_order(message.entry_id) >= edge:
            findings.skip("histories", _AT_THE_END)
        elif job.state is None and self._late:
            findings.skip("histories", "of jobs that began before the record does")
        elif put_back.get(stream, 0) > 0:
            put_back[stream] -= 1
            findings.skip("histories", "dead letters that were put back and came to nothing")
        else:
            state = job.state or "not on record, or ended before"
            findings.find(
                "histories",
                f"{event.event_type} does not follow from what is on record of its job",
                Place(stream, message.entry_id, message.index, job.job_id),
                expected=f"an event of a job that is {state}, attempt {job.attempt},"
                f" {job.failures} failures",
                found=f"{event.event_type}, attempt {_number(event)}",
            )

    def _unpaired(self, job: Job, edge: int | None) -> None:
        for attempt, (said, place) in job.ends.items():
            if edge is not None and place_order(place.entry) >= edge:
                self._findings.skip("histories", _AT_THE_END)
                continue
            self._findings.find(
                "histories",
                f"attempt {attempt} has an end or emissions, not both",
                place,
                found=str(said),
            )


def _number(event: Any) -> str:
    return str(getattr(event, "attempt", "none"))


def _fits(job: Job, event: Any) -> bool:
    """Whether the event may be the next of the job."""
    state = job.state
    if isinstance(event, EmissionsRecorded):
        # With or after the end of its attempt, and before any other takes its place.
        begun = state not in (None, "dispatched") and event.attempt == job.attempt
        return begun or event.attempt in job.ends
    if state is None:
        return False
    if isinstance(event, JobStarted):
        following = job.attempt + (state == "running")
        return allowed(state, "running") and event.attempt == following
    if isinstance(event, JobDispatched):
        # An earlier deferral must have been seen; events of the first version do not count them.
        waits = allowed(state, "dispatched") and event.replans <= job.replans
        return waits and event.attempt == job.attempt + 1 and event.failures == job.failures
    if isinstance(event, JobDeferred):
        return state in ("submitted", "deferred")
    if isinstance(event, SuspendRequested):
        return state == "running" and event.attempt == job.attempt
    if isinstance(event, StopRequested):
        return state == "running"
    if isinstance(event, JobRejected):
        return state == "submitted"
    if isinstance(event, JobCancelled):
        return state in WAITING
    return state == "running" and event.attempt == job.attempt  # a Finish


def _move(job: Job, event: Any) -> None:
    if isinstance(event, JobDeferred):
        job.replans += job.state == "deferred"
        job.state = "deferred"
    elif isinstance(event, JobDispatched):
        job.state, job.attempt = "dispatched", event.attempt
        whole = (event.fast_energy, event.fast_length)
        job.fast = None if whole == (1.0, 1.0) else whole
    elif isinstance(event, JobStarted):
        job.state, job.attempt = "running", event.attempt
    elif isinstance(event, JobRejected):
        job.state = "rejected"
    elif isinstance(event, JobCancelled):
        job.state = "cancelled"
    elif isinstance(event, JobCompleted):
        job.state = "completed"
    elif isinstance(event, JobSuspended):
        job.state = "deferred"
    elif isinstance(event, JobFailed):
        job.failures += event.outcome in ("failed", "timeout")
        if not event.final:
            job.state = "deferred"
        else:
            job.state = "cancelled" if event.cancelled else "failed"


def _lost(event: Finish) -> bool:
    """Its workers died, so nobody knows what it burnt."""
    return isinstance(event, JobFailed) and event.outcome == "lost"


def _end(event: Finish) -> tuple[Any, ...]:
    outcome = "completed" if isinstance(event, JobCompleted) else "suspended"
    if isinstance(event, JobFailed):
        outcome = event.outcome
    return event.at, event.started_at, event.pool, event.type, event.project, outcome


def _burnt(event: EmissionsRecorded) -> tuple[Any, ...]:
    return event.at, event.started_at, event.pool, event.type, event.project, event.outcome
