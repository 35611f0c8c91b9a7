"""Every wire event, one tagged union.

All times named `*_at`, `time`, `deadline`, `*_start` are milliseconds since the Unix epoch
**on the grid clock** (see clock.py): wall time when the deployment follows a live signal,
trace time when it replays one. Intensities are gCO2e/kWh, energies millijoules (mJ),
emissions micrograms of CO2e (µg). Unknown fields are ignored on reading.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from streams.seals import SegmentSealed

Urgency = Literal["urgent", "normal", "flexible"]
Pool = Literal["fast", "eco"]
Band = Literal["low", "medium", "high"]
GridTime = Annotated[int, Meta(description="ms since the Unix epoch, on the grid clock")]
Intensity = Annotated[float, Meta(description="gCO2e/kWh")]
Energy = Annotated[int, Meta(description="mJ")]
Emissions = Annotated[int, Meta(description="µg CO2e")]
POOLS: tuple[Pool, ...] = ("fast", "eco")
URGENCIES: tuple[Urgency, ...] = ("urgent", "normal", "flexible")


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of all wire events; `event_type` is the entry's CloudEvents `type`, the union's tag."""

    event_type: ClassVar[str]


class Spec(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A validated job: what is to run, and by when. Times on the grid clock, ms."""

    job_id: str
    type: str
    urgency: Urgency = "normal"
    submitted_at: GridTime
    deadline: GridTime | None = None
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    expected_duration: float | None = None  # seconds of wall time
    interruptible: bool = False  # may be suspended and resumed from its checkpoints
    zones: list[str] = []  # where it may run, the home zone by default
    project: str = "default"
    labels: dict[str, str] = {}
    timeout: float | None = None  # seconds of wall time, per attempt
    max_attempts: int | None = None
    traceparent: str | None = None  # W3C trace context, passed on as it came


class JobSubmitted(Event, frozen=True, kw_only=True):
    """A job somebody wants run, as submitted: every field but `type` may be absent.

    `deadline` is an RFC 3339 time, or a duration from submission (seconds or text such as
    "6h" or "PT6H"). `expected_duration` and `timeout` are durations. The gateway adds
    `job_id` and `submitted_at`; other publishers leave them out.
    """

    event_type: ClassVar[str] = "job.submitted"
    type: str
    urgency: Urgency = "normal"
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    deadline: str | float | int | None = None
    expected_duration: str | float | int | None = None
    interruptible: bool = False
    zones: list[str] = []
    project: str = "default"
    labels: dict[str, str] = {}
    timeout: str | float | int | None = None
    max_attempts: int | None = None
    job_id: str | None = None
    submitted_at: GridTime | None = None


class CancelRequested(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "job.cancel_requested"
    job_id: str
    reason: str = "cancelled by request"


class IntensityObserved(Event, frozen=True, kw_only=True):
    """The carbon intensity of a zone from `time` on, and what is expected next.

    A later event of the same zone, kind and time revises the earlier one. `degraded` says why
    this is not the word of the zone's first source, where it is not. `forecast_low` and
    `forecast_high` are 10 % and 90 % quantiles at the times of `forecast`, or empty.
    """

    event_type: ClassVar[str] = "intensity.observed"
    zone: str
    time: GridTime
    intensity: Intensity
    source: str
    kind: Literal["average", "marginal"] = "average"
    estimated: bool = False
    simulated: bool = False
    resolution_ms: int
    age_ms: int = 0  # of the value when it was published
    degraded: str | None = None
    forecast: list[tuple[int, float]] = []  # (time, gCO2e/kWh), ascending, after `time`
    forecast_low: list[float] = []
    forecast_high: list[float] = []
    forecast_source: str | None = None


class Considered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A zone that a decision weighed: the intensity entry that it was known by, and when its
    pools had no room for this job, as (start, end) grid ms; None for a pool it does not have."""

    zone: str
    intensity_id: str | None = None
    fast_full: list[tuple[int, int]] | None = []
    eco_full: list[tuple[int, int]] | None = []


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was decided about a job, and everything that it was decided from.

    Lengths are of what is left to run. Where `considered` is empty, the home zone's pools were
    the choice and had room.
    """

    at: GridTime
    policy: str
    policy_version: int
    params: msgspec.Raw  # the policy's parameters, a JSON object
    intensity_id: str | None = None  # stream id of the intensity entry decided from
    intensity: Intensity | None = None
    band: Band | None = None
    low: Intensity | None = None  # band limits that then held, gCO2e/kWh
    high: Intensity | None = None
    fast_ms: int  # expected length on each pool, grid-clock ms, high quantile
    eco_ms: int
    margin_ms: int
    fast_mean_ms: int = 0  # expected length; 0: not asked for by the policy
    eco_mean_ms: int = 0
    fast_energy: float = 1.0  # expected energy, mJ where learned, else in units of FAST's
    eco_energy: float = 1.0
    resume_ms: int = 0  # what a suspension costs, as running time
    running: Pool | None = None  # where it ran when this was decided
    considered: list[Considered] = []
    ended_id: str | None = None  # of `completions`: up to there, the room of what ended is known
    zone: str | None = None  # None: home
    pool: Pool
    start: GridTime  # now for a dispatch, the planned start for a deferral
    end: GridTime | None = None  # expected, where room was booked for it
    latest_start: GridTime | None = None
    reason: str


class JobDeferred(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "job.deferred"
    job_id: str
    decision: Decision


class SuspendRequested(Event, frozen=True, kw_only=True):
    """A running job is asked to stop and go on at the decision's start."""

    event_type: ClassVar[str] = "job.suspend_requested"
    job_id: str
    attempt: int
    decision: Decision


class JobsReviewed(Event, frozen=True, kw_only=True):
    """The router has looked at all jobs because of an intensity event: at those that run, whether
    to pause, and at those that wait. About whom no decision of that moment is on record, nothing
    changed. Looks are (when jobs were listed, decided about, and all that on record); `ended`:
    (when decided about, `ended_id` as in Decision)."""

    event_type: ClassVar[str] = "jobs.reviewed"
    intensity_id: str  # of the last entry that it was about
    running: list[tuple[int, int, int]] = []
    waiting: list[tuple[int, int, int]] = []
    ended: list[tuple[int, str]] = []


class StopRequested(Event, frozen=True, kw_only=True):
    """A running job was asked to stop, because it was cancelled."""

    event_type: ClassVar[str] = "job.stop_requested"
    job_id: str
    at: GridTime
    reason: str


class JobRejected(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "job.rejected"
    job_id: str
    at: GridTime
    reason: str


class JobCancelled(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "job.cancelled"
    job_id: str
    at: GridTime
    reason: str


class JobDispatched(Event, frozen=True, kw_only=True):
    """One attempt of a job, handed to a pool.

    `fast_energy`, `fast_length`: energy and length of the same job on FAST against those on this
    pool, as learned; 1 where it runs on FAST, or too little is known.
    """

    event_type: ClassVar[str] = "job.dispatched"
    attempt: int
    spec: Spec
    decision: Decision
    failures: int = 0  # attempts that failed before
    replans: int = 0  # deferrals that changed its plan before
    fast_energy: float = 1.0
    fast_length: float = 1.0


class JobStarted(Event, frozen=True, kw_only=True):
    event_type: ClassVar[str] = "job.started"
    job_id: str
    attempt: int
    at: GridTime
    pool: Pool
    worker: str


class Finish(Event, frozen=True, kw_only=True):
    """What all ends of an attempt have in common. A job that is suspended and resumed runs in
    several attempts, of which each is one segment."""

    job_id: str
    attempt: int
    at: GridTime
    started_at: GridTime
    run_ms: int  # wall time that the attempt ran
    pool: Pool
    type: str
    urgency: Urgency
    project: str = "default"
    submitted_at: GridTime
    deadline: GridTime | None = None
    exit_code: int | None = None  # of a command; -N: killed by signal N
    output_bytes: int = 0  # written by the handler; the tail of it is on the job's record only
    limitations: tuple[str, ...] = ()  # what could not be applied or measured


class JobCompleted(Finish, frozen=True, kw_only=True):
    """`total_run_ms`: of all segments, where there were several, on this pool only; None where
    they ran on different ones."""

    event_type: ClassVar[str] = "job.completed"
    segments: int = 1
    total_run_ms: int | None = None
    error: str | None = None  # what else was said of the end, where it had been asked to stop


class JobSuspended(Finish, frozen=True, kw_only=True):
    """A segment ended because the grid is greener later; the job is deferred again."""

    event_type: ClassVar[str] = "job.suspended"
    resume_at: GridTime
    reason: str
    error: str | None = None  # how its handler took that, where that was said


class JobFailed(Finish, frozen=True, kw_only=True):
    """An attempt that failed; `final` when no further attempt follows.

    `outcome`: "failed", "timeout", "cancelled", "interrupted" (its worker was stopped), or "lost"
    (its workers died). `retry_at`: the earliest start of the next attempt, where one follows.
    """

    event_type: ClassVar[str] = "job.failed"
    error: str
    final: bool
    cancelled: bool = False
    outcome: str = "failed"
    retry_at: GridTime | None = None
    silent: bool = False  # `error` is but the outcome: nothing was said


class EmissionsRecorded(Event, frozen=True, kw_only=True):
    """What one attempt burnt. Totals are sums of these integers.

    The baseline is the same job run at once on FAST, at home: `baseline_mj` spent evenly over
    `baseline_ms` from `baseline_from` on (the submission; for a resumed job, so much later as it
    had run before), in `baseline_zone` (None: where it ran). `embodied_ug`: the share of the
    machine's making that the run used up. `priced_by`: the last event of the intensity stream that
    the figures take account of, as "entry/index"; they are those of the kind `intensity_kind`.
    """

    event_type: ClassVar[str] = "emissions.recorded"
    job_id: str
    attempt: int
    at: GridTime
    started_at: GridTime
    zone: str | None = None
    pool: Pool
    type: str
    project: str = "default"
    energy_mj: Energy
    energy_method: str
    energy_uncertainty: float  # relative, one number: 0.3 means ±30 %
    emissions_ug: Emissions
    baseline_ug: Emissions
    unpriced_mj: Energy = 0  # energy for which no intensity was known; not in the emissions
    embodied_ug: Emissions = 0
    outcome: str = "completed"  # as in job.failed; "completed", "suspended"
    urgency: Urgency = "normal"
    interruptible: bool = False
    submitted_at: GridTime = 0
    deadline: GridTime | None = None
    baseline_mj: Energy = 0
    baseline_from: GridTime = 0
    baseline_ms: int = 0
    baseline_zone: str | None = None
    priced_by: str | None = None
    intensity_source: str | None = None
    intensity_kind: str | None = None
    estimated: bool = False
    simulated: bool = False


class Change(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """By how much the totals of a day, project, type, pool and zone change; µg and mJ."""

    day: str
    project: str
    type: str
    pool: Pool
    zone: str
    attempts: int  # that are concerned
    emissions_ug: Emissions = 0
    baseline_ug: Emissions = 0
    unpriced_mj: Energy = 0
    bound_ug: Emissions = 0
    bounded_ug: Emissions = 0  # emissions of the attempts that have a bound by now
    bounded_baseline_ug: Emissions = 0  # the baseline of the same attempts
    bounded: int = 0  # attempts that have one


class EmissionsSettled(Event, frozen=True, kw_only=True):
    """Accounting has gone over the attempts again: `restated` says what intensities that came or
    were revised after an attempt was priced change; `bounded` says how little the attempts whose
    deadline is over could have emitted at best. Nothing on record is altered by it.

    Taken account of: the entries of `emissions` up to `emissions_id`, at the intensities of the
    entries up to `intensity_id`; bounds of the deadlines before `until` (grid ms). `previous`: the
    same of the settlement before, as (emissions_id, intensity_id, until).
    """

    event_type: ClassVar[str] = "emissions.settled"
    emissions_id: str
    intensity_id: str
    until: GridTime
    previous: tuple[str, str, int]
    restated: list[Change] = []
    bounded: list[Change] = []


class RoleStarted(Event, frozen=True, kw_only=True):
    """A component began to work by this configuration (without commands, environments and the
    sources of signals, which may hold secrets). What it decides can be checked by it. `clock`:
    the grid clock that it then found, as in the `clock` hash; empty: wall time."""

    event_type: ClassVar[str] = "role.started"
    role: str
    name: str
    version: str
    config: msgspec.Raw
    clock: dict[str, str] = {}


class OperatorActed(Event, frozen=True, kw_only=True):
    """Somebody did something by hand. `who`: the name of the API key or user@host; `action`: for
    instance "dead-letter.retry" or "key.revoke"; `subject`: the id of what it was done to;
    `removed`: the hash of an entry that was deleted by it (streams/sealing.py)."""

    event_type: ClassVar[str] = "operator.acted"
    who: str
    action: str
    subject: str
    removed: str | None = None
    detail: dict[str, str] = {}


class Backlog(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Jobs that want a pool. `pressing`: those of `waiting` that are urgent, or whose latest start
    is near, and what is taken before them; `pressing_soon`: those of `soon` with that start;
    `pace`: how many slots in all the deadlines of the others need (scaler/pressure.py)."""

    waiting: int = 0  # handed to the pool, not taken by a worker yet
    soon: int = 0  # deferred, to be handed to it before a new worker could be there
    pressing: int = 0
    pressing_soon: int = 0
    pace: int = 0


class InFlight(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What runs in a pool: jobs, and the live workers that have any."""

    jobs: int = 0
    workers: int = 0


class GridState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The grid as a pool's size was decided by it; without `intensity`, nothing usable is known."""

    intensity_id: str | None = None
    intensity: Intensity | None = None
    low: Intensity = 0.0  # highest "low" intensity
    high: Intensity = 0.0  # highest "medium" one
    valid_until: GridTime = 0


class ScalingMemory(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What decisions about a pool's size remember of those before.

    `wanted`: sizes that were wanted lately, as (time, workers), each smaller than those before.
    """

    band: Band | None = None
    band_since: GridTime = 0
    up_at: GridTime | None = None
    down_at: GridTime | None = None
    wanted: list[tuple[int, int]] = []


class PoolScaled(Event, frozen=True, kw_only=True):
    """A pool's size was changed, and everything that this was decided from: scaler/deciding.py
    comes to the same answer. `zone` None is the home zone; `contended`: how often in a row the
    size was found other than it had been set."""

    event_type: ClassVar[str] = "pool.scaled"
    pool: Pool
    zone: str | None = None
    at: GridTime
    version: int  # of the way to decide
    params: msgspec.Raw  # its parameters, a JSON object
    actuator: str
    scaler: str  # who decided
    revision: int  # counts the changes of this pool
    grid: GridState
    backlog: Backlog
    in_flight: InFlight
    memory: ScalingMemory
    current: int  # workers before
    replicas: int  # workers from now on
    band: Band | None = None  # None: no carbon limit
    contended: int = 0
    reason: str


EVENTS: tuple[type[Event] | type[SegmentSealed], ...] = (
    JobSubmitted,
    CancelRequested,
    IntensityObserved,
    JobDeferred,
    SuspendRequested,
    StopRequested,
    JobsReviewed,
    JobRejected,
    JobCancelled,
    JobDispatched,
    JobStarted,
    JobCompleted,
    JobSuspended,
    JobFailed,
    EmissionsRecorded,
    EmissionsSettled,
    RoleStarted,
    OperatorActed,
    PoolScaled,
    SegmentSealed,
)
