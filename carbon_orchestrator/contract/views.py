"""What the gateway takes and answers, as schemas. Every answer is tested to be one of these."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.lifecycle import State

Time = Annotated[
    str, Meta(description="RFC 3339, UTC, on the grid clock", examples=["2026-01-31T18:00:00.000Z"])
]
Duration = str | float | int
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@/-]{0,63}$")]


class NewJob(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A job to be run. Lengths of time are seconds, or text such as "90s", "1h30m", "PT15M"."""

    type: Annotated[str, Meta(description="one that the operator configured")]
    urgency: Urgency = "normal"
    payload: Annotated[dict[str, Any], Meta(description="the job's parameters")] = {}
    deadline: Annotated[
        Duration | None, Meta(description="a time (RFC 3339), or a length of time from now")
    ] = None
    expected_duration: Annotated[Duration | None, Meta(description="else it is learned")] = None
    interruptible: Annotated[
        bool, Meta(description="it may be suspended, and resumed from its checkpoints")
    ] = False
    zones: Annotated[list[str], Meta(description="where it may run; the home zone by default")] = []
    project: Annotated[Name, Meta(description="whom to account it to")] = "default"
    labels: Annotated[dict[Name, Annotated[str, Meta(max_length=256)]], Meta(max_length=32)] = {}
    timeout: Annotated[Duration | None, Meta(description="of one attempt")] = None
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None


class JobHead(msgspec.Struct, kw_only=True):
    """A job that was accepted."""

    id: str
    state: State
    type: str
    urgency: Urgency
    submitted_at: Time
    deadline: Time | None


class Progress(msgspec.Struct, kw_only=True):
    """How far a running job is. `at`: when it said so, or else when its attempt began; `finish_at`:
    when it should be done, by its own pace or else by what such jobs take."""

    fraction: Annotated[float, Meta(ge=0, le=1)] | None
    message: str | None
    at: Time
    finish_at: Time | None


class Log(msgspec.Struct, kw_only=True):
    """A job's output so far, all attempts one after another: `bytes` were written, those from the
    offset `from` on are kept."""

    bytes: int
    from_: int = msgspec.field(name="from")


class JobSummary(msgspec.Struct, kw_only=True):
    """A job as listed. Planned fields are there while it is deferred."""

    id: str
    state: State
    type: str
    urgency: Urgency
    project: str
    submitted_at: Time
    deadline: Time | None
    attempts: int
    pool: Pool | None
    started_at: Annotated[Time | None, Meta(description="when its latest attempt did")]
    finished_at: Annotated[Time | None, Meta(description="when the job ended, for good")]
    planned_start: Time | UnsetType = UNSET
    latest_start: Time | UnsetType = UNSET
    planned_pool: Pool | UnsetType | None = UNSET
    planned_zone: str | UnsetType | None = UNSET
    reason: str | UnsetType = UNSET
    progress: Annotated[Progress, Meta(description="while it runs")] | UnsetType = UNSET
    energy_mj: Annotated[int, Meta(description="mJ, of all attempts")] | UnsetType = UNSET
    emissions_ug: Annotated[int, Meta(description="µg CO2e")] | UnsetType = UNSET


class Step(msgspec.Struct, kw_only=True):
    """Something that happened to a job."""

    at: Time
    event: str
    attempt: int | UnsetType = UNSET
    pool: Pool | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    worker: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    planned_start: Time | UnsetType = UNSET
    intensity: Annotated[float, Meta(description="gCO2e/kWh")] | UnsetType = UNSET
    band: Band | UnsetType = UNSET


class Job(JobSummary, kw_only=True):
    """All there is to say of a job. `runs`: its ended attempts (worker/attempts.py)."""

    payload: dict[str, Any]
    labels: dict[str, str]
    interruptible: bool
    expected_duration: Annotated[float | None, Meta(description="seconds, as submitted")]
    timeout: Annotated[float | None, Meta(description="seconds, of one attempt")]
    max_attempts: int | None
    zones: Annotated[list[str], Meta(description="where it may run; none: the home zone")]
    replans: int
    failures: int
    segments: int
    timeline: list[Step]
    runs: list[dict[str, Any]]
    energy_method: str | UnsetType | None = UNSET
    energy_uncertainty: Annotated[float, Meta(description="relative")] | UnsetType | None = UNSET
    baseline_ug: int | UnsetType = UNSET
    avoided_ug: int | UnsetType = UNSET
    unpriced_mj: int | UnsetType = UNSET
    embodied_ug: int | UnsetType = UNSET
    sci_ug: Annotated[int, Meta(description="emitted and embodied, µg CO2e")] | UnsetType = UNSET
    log: Log | UnsetType | None = UNSET
    zone: str | UnsetType | None = UNSET


class JobPage(msgspec.Struct, kw_only=True):
    """`next`: the cursor of the following page. A page may be short though others follow."""

    jobs: list[JobSummary]
    next: str | None


class Clock(msgspec.Struct, kw_only=True):
    now: Time
    speed: float
    signal: str | None


class Forecast(msgspec.Struct, kw_only=True):
    """`low`, `high`: what is expected in 8 of 10 cases."""

    time: Time
    intensity: float
    low: float | UnsetType = UNSET
    high: float | UnsetType = UNSET


class Carbon(msgspec.Struct, kw_only=True):
    """A zone's grid. All but the first fields are absent while nothing is known of it."""

    zone: str
    zones: list[str]
    clock: Clock
    signal: Annotated[str, Meta(description="ok, degraded or none")]
    unusable: Annotated[str | None, Meta(description="why decisions do without it")]
    intensity: Annotated[float, Meta(description="gCO2e/kWh")] | UnsetType = UNSET
    unit: str | UnsetType = UNSET
    since: Time | UnsetType = UNSET
    age_ms: int | UnsetType = UNSET
    band: Band | UnsetType | None = UNSET
    low: float | UnsetType | None = UNSET
    high: float | UnsetType | None = UNSET
    source: str | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    estimated: bool | UnsetType = UNSET
    simulated: bool | UnsetType = UNSET
    degraded: str | UnsetType | None = UNSET
    forecast_source: str | UnsetType | None = UNSET
    forecast: list[Forecast] | UnsetType = UNSET


class StreamState(msgspec.Struct, kw_only=True):
    stream: str
    group: str
    lag: int | None
    pending: int
    live_consumers: int


class Health(msgspec.Struct, kw_only=True):
    """`status` is "ok" or "degraded"; the rest is for those who may read all there is."""

    status: str
    version: str | UnsetType = UNSET
    no_consumers: list[str] | UnsetType = UNSET
    jobs: dict[str, int] | UnsetType = UNSET
    dead_letters: int | UnsetType = UNSET
    carbon: Carbon | UnsetType = UNSET
    streams: list[StreamState] | UnsetType = UNSET


class Status(msgspec.Struct, kw_only=True):
    status: str


class Index(msgspec.Struct, kw_only=True):
    name: str
    version: str
    see: list[str]


class Totals(msgspec.Struct, kw_only=True):
    """`rows`: the groups' names and sums; `metrics`: what each sum is, with its unit."""

    by: list[str]
    rows: list[dict[str, Any]]
    metrics: dict[str, str]
    method: Annotated[str, Meta(description="how the figures come about, in words")]
    simulated: bool | None


class Problem(msgspec.Struct, kw_only=True):
    """RFC 9457. `field`: of the submission; `scopes`: any of which was needed."""

    type: str
    title: str
    status: int
    detail: str
    field: str | UnsetType = UNSET
    known: list[str] | UnsetType = UNSET
    scopes: list[str] | UnsetType = UNSET


SCHEMAS = (NewJob, JobHead, Job, JobPage, Carbon, Health, Status, Index, Totals, Problem)
