"""What is said of jobs that are submitted many at a time, or only to see, as schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from carbon_orchestrator.contract.views import NewJob, Problem, Time
from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.lifecycle import State


class BulkLine(NewJob, kw_only=True, forbid_unknown_fields=True):
    """One line of newline-delimited JSON."""

    idempotency_key: (
        Annotated[str, Meta(min_length=1, max_length=255, description="as the header of one job")]
        | None
    ) = None


class CloudEvent(msgspec.Struct, kw_only=True):
    """A CloudEvent of version 1.0 in the JSON format. Other attributes may be there."""

    specversion: Literal["1.0"]
    type: Literal["job.submitted", "job.cancel_requested"]
    source: Annotated[str, Meta(min_length=1, max_length=1024)]
    id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1024,
            description="with the source: the same job, however often it is sent",
        ),
    ]
    data: Annotated[
        dict[str, Any] | UnsetType, Meta(description="a job as for POST /jobs, or its `job_id`")
    ] = UNSET
    data_base64: Annotated[str, Meta(description="in place of data")] | UnsetType = UNSET
    datacontenttype: str | None = None
    traceparent: str | None = None


class LineResult(msgspec.Struct, kw_only=True):
    """What came of a line, or of an event of a batch; they count from 1. 202: a new job; 200: the
    job that came of it before, or is to be cancelled, in `state`; anything else: why not."""

    line: int
    status: int
    id: str | UnsetType = UNSET
    state: State | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BulkResult(msgspec.Struct, kw_only=True):
    """What came of the lines that are not empty, in order."""

    accepted: int
    repeated: int
    refused: int
    submitted_at: Time
    results: list[LineResult]


class Preview(msgspec.Struct, kw_only=True):
    """What would be decided about a job now. `start`: when it would start; `expected_ms`,
    `longest_ms`: how long it should run there, and what 95 of 100 such jobs do not exceed, on the
    grid clock; `expected_intensity`: the mean over that run, absent where nothing is known of the
    grid. A router may decide otherwise by what comes until then, and does so anew at each further
    intensity event."""

    would: Literal["dispatch", "defer"]
    type: str
    urgency: Urgency
    project: str
    pool: Pool
    zone: str
    submitted_at: Time
    start: Time
    latest_start: Time | None
    deadline: Time | None
    expected_ms: int
    longest_ms: int
    intensity: Annotated[float, Meta(description="gCO2e/kWh")] | None
    expected_intensity: Annotated[float, Meta(description="gCO2e/kWh")] | UnsetType = UNSET
    band: Band | None
    policy: str
    reason: str
    simulated: bool | None


SCHEMAS = (CloudEvent, BulkLine, BulkResult, Preview)
