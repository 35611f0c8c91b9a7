"""What the gateway answers about the deployment as a whole, as schemas."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from carbon_orchestrator.contract.views import Time
from carbon_orchestrator.events import Pool
from carbon_orchestrator.lifecycle import State

WallTime = Annotated[
    str, Meta(description="RFC 3339, UTC, on the wall clock", examples=["2026-01-31T18:00:00.000Z"])
]
Pair = Annotated[list[str], Meta(min_length=2, max_length=2)]
LetterId = Annotated[str, Meta(pattern=r"^[0-9]{1,20}-[0-9]{1,20}(-[0-9]{1,5})?$")]


class TypeOfJobs(msgspec.Struct, kw_only=True):
    """`description`: what its jobs do, in the operator's words, if any."""

    name: str
    description: str


class JobTypes(msgspec.Struct, kw_only=True):
    types: list[TypeOfJobs]


class PastIntensity(msgspec.Struct, kw_only=True):
    """An intensity from `time` on, gCO2e/kWh."""

    time: Time
    intensity: float
    estimated: bool
    simulated: bool


class CarbonHistory(msgspec.Struct, kw_only=True):
    """`low`, `high`: the limits of the bands as they are now; `step_ms`: where there are too many
    points for one answer, they are means over so long each, else null."""

    zone: str
    unit: str
    kind: str | None
    low: float | None
    high: float | None
    step_ms: int | None
    points: list[PastIntensity]


class Window(msgspec.Struct, kw_only=True):
    """A run, and the mean intensity that is expected over it, gCO2e/kWh."""

    start: Time
    end: Time
    intensity: float


class BestRun(Window, kw_only=True):
    """`low`, `high`: the mean over the run of what is expected in 8 of 10 cases."""

    low: float | None
    high: float | None


class BestWindow(msgspec.Struct, kw_only=True):
    """A run begun now, and the one that `greenest_window` would plan. `duration_ms`: on the grid
    clock; `saving`: the share of the emissions of a run begun now that waiting avoids;
    `forecast_until`: later intensities are taken to be the mean of the forecast's last day."""

    zone: str
    duration_ms: int
    deadline: Time | None
    now: Window
    best: BestRun
    saving: float
    latest_start: Time
    forecast_until: Time
    simulated: bool


class Sized(msgspec.Struct, kw_only=True):
    """The last change of a pool's size."""

    workers: int
    reason: str
    at: Time


class PoolState(msgspec.Struct, kw_only=True):
    """`zone` is null for the home zone; `slots`: jobs that its live workers run at once;
    `waiting`: jobs handed to it that no worker has taken, null where the server cannot tell."""

    site: str
    pool: Pool
    zone: str | None
    workers: int
    slots: int
    running: int
    waiting: int | None
    sized: Sized | None


class Pools(msgspec.Struct, kw_only=True):
    pools: list[PoolState]


class Demand(msgspec.Struct, kw_only=True):
    """What asks for a pool: jobs that run in it, wait in its lanes, are planned to be handed to it
    soon, and must start now; and how many workers it needs by the rules of the scaler, no fewer
    than have jobs."""

    site: str
    running: int
    waiting: int
    soon: int
    pressing: int
    workers: int
    reason: str


class EmissionsEver(msgspec.Struct, kw_only=True):
    """Of all days since `since`, by the intensities known by now. `simulated`: whether the grid of
    the last day, or of now, is made up."""

    emitted_ug: Annotated[int, Meta(description="µg CO2e")]
    baseline_ug: Annotated[int, Meta(description="µg CO2e")]
    avoided_ug: Annotated[int, Meta(description="baseline less emitted, µg CO2e")]
    energy_mj: Annotated[int, Meta(description="mJ")]
    since: Annotated[str | None, Meta(description="the first day, on the grid clock")]
    baseline: Annotated[str, Meta(description="what the baseline is, in words")]
    simulated: bool


class OldestWait(msgspec.Struct, kw_only=True):
    """The job that was submitted first of those that wait. `waits_ms`: grid time."""

    id: str
    state: State
    submitted_at: Time
    waits_ms: int


class Rates(msgspec.Struct, kw_only=True):
    """Jobs a minute of wall time, by the last minute."""

    submitted_per_min: float
    completed_per_min: float


class RunningJobs(msgspec.Struct, kw_only=True):
    fast: int
    eco: int


class JobAtRisk(msgspec.Struct, kw_only=True):
    """`expected_end`: with a length that 95 of 100 jobs like it do not exceed."""

    id: str
    type: str
    deadline: Time
    expected_end: Time
    why: str


class DeadlineRisk(msgspec.Struct, kw_only=True):
    """How many jobs are likely to miss their deadlines, of those `examined`: those that run, that
    stand first in the lanes of a pool, that are deferred past their planned start, or that no
    router has decided about; `complete`: whether these were all examined."""

    jobs: int
    examined: int
    complete: bool
    examples: list[JobAtRisk]


class Overview(msgspec.Struct, kw_only=True):
    """The deployment at a glance, at most a few seconds old."""

    now: Time
    emissions: EmissionsEver
    jobs: Annotated[dict[str, int], Meta(description="jobs on record, by state")]
    running: RunningJobs
    waiting: Annotated[int, Meta(description="jobs submitted, deferred or dispatched")]
    oldest_wait: OldestWait | None
    dead_letters: int
    deadline_risk: DeadlineRisk
    rates: Rates


class LetterGroup(msgspec.Struct, kw_only=True):
    """Dead letters of one stream whose reasons differ in numbers and ids only (… in `kind`);
    `oldest`, `newest`: wall clock; `example`: the newest's id."""

    stream: str
    kind: str
    reason: str
    count: int
    oldest: WallTime
    newest: WallTime
    example: str


class LetterHead(msgspec.Struct, kw_only=True):
    """An entry of `stream` that nobody could process. `at`: when it was put aside."""

    id: str
    at: WallTime
    stream: str
    reason: str
    entry: Annotated[str, Meta(description="the original's id")]
    deliveries: int


class Letter(LetterHead, kw_only=True):
    """`fields`: names and values of the original, for reading; `fields_base64`: its very bytes."""

    group: Annotated[str, Meta(description="the consumer group")]
    fields: list[Pair]
    fields_base64: list[Pair]


class LetterPage(msgspec.Struct, kw_only=True):
    """`letters`, the oldest first, and whether there are more after them; `groups` of the first
    `grouped` of all letters, the largest group first."""

    total: int
    grouped: int
    groups: list[LetterGroup]
    letters: list[LetterHead]
    more: bool


class LetterChoice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Dead letters by their ids; or by `stream` and `kind`, as a group has them."""

    ids: Annotated[list[LetterId], Meta(min_length=1, max_length=1000)] | None = None
    stream: str | None = None
    kind: str | None = None


class LetterOutcome(msgspec.Struct, kw_only=True):
    id: str
    outcome: Annotated[str, Meta(description="retried, dropped, or why not")]


class LetterOutcomes(msgspec.Struct, kw_only=True):
    """`done`: how many were retried or dropped; `more`: the group has more than one request deals
    with, so send it again."""

    outcomes: list[LetterOutcome]
    done: int
    more: bool


SCHEMAS = (
    JobTypes,
    CarbonHistory,
    BestWindow,
    LetterPage,
    Letter,
    LetterChoice,
    LetterOutcomes,
    Pools,
    Demand,
    Overview,
)
