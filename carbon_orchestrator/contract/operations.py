"""What each operation of the HTTP interface is, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from carbon_orchestrator.accounting.totals import GROUPS
from carbon_orchestrator.events import POOLS, URGENCIES
from carbon_orchestrator.gateway.deployment.emissions import FORMATS
from carbon_orchestrator.gateway.deployment.letters import MOST_LISTED as MOST_LETTERS
from carbon_orchestrator.gateway.intake.bulk import MEDIA_TYPE as LINES
from carbon_orchestrator.gateway.intake.cloud_events import BATCH, STRUCTURED
from carbon_orchestrator.gateway.intake.outcome import LONGEST_KEY
from carbon_orchestrator.gateway.live.occurrence import TYPES as EVENT_TYPES
from carbon_orchestrator.gateway.lookup.job_events import MOST_EVENTS
from carbon_orchestrator.gateway.lookup.job_query import MOST_LISTED, SORTS
from carbon_orchestrator.lifecycle import STATES

REF = "#/components/schemas/{name}"
_DAY = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "examples": ["2026-01-31"]}
_TIME = {"type": "string", "format": "date-time", "examples": ["2026-01-31T18:00:00Z"]}
_LENGTH = {"type": "string", "examples": ["2h", "PT90M"]}


_EXAMPLE = {
    "type": "analytics",
    "urgency": "flexible",
    "payload": {"rows": 100000},
    "deadline": "6h",
    "project": "forecasts",
}

_CLOUD_EVENT = {
    "specversion": "1.0",
    "type": "job.submitted",
    "source": "/nightly",
    "id": "2026-11-23",
    "data": _EXAMPLE,
}
_ATTRIBUTES = {
    "specversion": "1.0",
    "type": "job.submitted or job.cancel_requested",
    "source": "who sends it",
    "id": "with the source: the same job, however often it is sent",
}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`answers`: views by status, with "|" between those that it may be; `problems`: statuses
    besides those that all have; `content`: the bodies that it takes, by media type; `told`: the
    view of what is answered where many come together in one, also where none has come to
    anything."""

    summary: str
    answers: Mapping[int, str]
    problems: tuple[int, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    content: Mapping[str, Mapping[str, Any]] = {}
    told: str | None = None
    media: tuple[str, ...] = ("application/json",)


def ref(view: str) -> dict[str, Any]:
    """A reference to a view."""
    return {"$ref": REF.format(name=view)}


def _json(view: str, example: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {"application/json": {"schema": ref(view), "example": example}}


def _query(name: str, description: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _list(name: str, description: str, items: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of values with commas between them."""
    schema = {"type": "array", "items": items}
    return {**_query(name, description, schema), "style": "form", "explode": False}


def _path(name: str, description: str) -> Mapping[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "description": description,
    }


_ID = _path("id", "of a job, as it was given out")
OPERATIONS: Mapping[str, Operation] = {
    "index": Operation(
        summary="What there is to see; the dashboard where text/html is asked for",
        answers={200: "Index"},
        media=("application/json", "text/html"),
    ),
    "asset": Operation(
        summary="A file of the dashboard",
        answers={200: ""},
        problems=(404,),
        parameters=(_path("folder", "js, css, img or vendor"), _path("name", "of the file")),
        media=("text/javascript", "text/css", "text/plain", "image/svg+xml", "image/png"),
    ),
    "docs": Operation(
        summary="This document to read and try out", answers={200: ""}, media=("text/html",)
    ),
    "openapi": Operation(summary="This document", answers={200: ""}),
    "asyncapi": Operation(
        summary="The streams and what goes over them, as AsyncAPI 3.0", answers={200: ""}
    ),
    "schemas": Operation(summary="The JSON Schema of each event", answers={200: ""}),
    "livez": Operation(summary="Whether this process answers", answers={200: "Status"}),
    "readyz": Operation(summary="Whether the stream server answers", answers={200: "Status"}),
    "health": Operation(
        summary="Whether all is well, with details for those who may read all there is",
        answers={200: "Health"},
    ),
    "metrics": Operation(summary="For Prometheus", answers={200: ""}, media=("text/plain",)),
    "list_types": Operation(summary="The types of jobs there are", answers={200: "JobTypes"}),
    "submit_job": Operation(
        summary="Submit a job; or many, a line each; or see what would be decided about one",
        answers={
            200: "Job|JobHead|Preview",  # it came before
            202: "JobHead|BulkResult",
        },
        problems=(408, 413, 415, 422),
        parameters=(
            _query(
                "dry_run",
                "say what would be decided about the job now, and keep nothing",
                {"type": "boolean", "default": False},
            ),
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "submitting twice under one key gives one job",
                "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
            },
            {
                "name": "traceparent",
                "in": "header",
                "description": "W3C trace context, passed on",
                "schema": {"type": "string"},
            },
        ),
        content={
            **_json("NewJob", _EXAMPLE),
            LINES: {
                "schema": {"type": "string", "description": "one BulkLine in each line"},
                "example": (msgspec.json.encode(_EXAMPLE).decode() + "\n") * 2,
            },
        },
        told="BulkResult",
    ),
    "list_jobs": Operation(
        summary="Jobs, the latest first; a page may be short though others follow",
        answers={200: "JobPage"},
        problems=(422,),
        parameters=(
            _list("state", "only jobs in these states", {"enum": list(STATES)}),
            _list("type", "only of these types", {"type": "string"}),
            _list("pool", "only those that are, or were last, in these", {"enum": list(POOLS)}),
            _list("project", "only of these projects", {"type": "string"}),
            _list("urgency", "only of these urgencies", {"enum": list(URGENCIES)}),
            _query("submitted_from", "the earliest, on the grid clock", _TIME),
            _query("submitted_to", "before this time, on the grid clock", _TIME),
            _query(
                "sort",
                "planned_start is of deferred jobs only: when they are due to be started, or looked"
                " at again if that is earlier",
                {"enum": list(SORTS), "default": SORTS[0]},
            ),
            _query(
                "limit",
                "how many at most",
                {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": 50},
            ),
            _query("cursor", "`next` of the page before", {"type": "string"}),
        ),
    ),
    "show_job": Operation(
        summary="A job: its timeline, the reason of each decision, energy and emissions",
        answers={200: "Job"},
        problems=(404,),
        parameters=(_ID,),
    ),
    "job_logs": Operation(
        summary="The output of a job, as far as it is kept; JSON lines with the attempt, the"
        " offset and the text where these are asked for",
        answers={200: ""},
        media=("text/plain", "application/x-ndjson"),
        problems=(404, 422),
        parameters=(
            _ID,
            _query(
                "offset",
                "of the first byte, counted from the beginning of the output; the header"
                " Carbon-Log-Offset says with which the answer begins",
                {"type": "integer", "minimum": 0, "default": 0},
            ),
            _query("follow", "go on until the job ends", {"type": "boolean", "default": False}),
        ),
    ),
    "cancel_job": Operation(
        summary="Ask for the end of a job",
        answers={202: "Job"},
        problems=(404, 409),
        parameters=(_ID,),
    ),
    "carbon": Operation(
        summary="The intensity, band and forecast of a zone",
        answers={200: "Carbon"},
        problems=(404,),
        parameters=(_query("zone", "the home zone by default", {"type": "string"}),),
    ),
    "best_window": Operation(
        summary="When a flexible job would best be run on FAST, without submitting it",
        answers={200: "BestWindow"},
        problems=(404, 409, 422),
        parameters=(
            {
                **_query("duration", "how long it runs, on the grid clock", _LENGTH),
                "required": True,
            },
            _query("deadline", "as of a job: a time, or a length of time from now", _LENGTH),
            _query("zone", "the home zone by default", {"type": "string"}),
        ),
    ),
    "carbon_history": Operation(
        summary="The intensities of a zone in the past",
        answers={200: "CarbonHistory"},
        problems=(404, 422),
        parameters=(
            _query("zone", "the home zone by default", {"type": "string"}),
            _query("from", "a day before `to` by default", _TIME),
            _query("to", "now by default, on the grid clock", _TIME),
        ),
    ),
    "overview": Operation(summary="The deployment at a glance", answers={200: "Overview"}),
    "list_letters": Operation(
        summary="Dead letters, entries that nobody could process: by the group, and each",
        answers={200: "LetterPage"},
        problems=(422,),
        parameters=(
            _query(
                "limit",
                "how many letters at most",
                {"type": "integer", "minimum": 1, "maximum": MOST_LETTERS, "default": 100},
            ),
            _query("after", "the id of a letter to go on from", {"type": "string"}),
        ),
    ),
    "show_letter": Operation(
        summary="A dead letter, with the original's fields",
        answers={200: "Letter"},
        problems=(404,),
        parameters=(_path("id", "of a dead letter"),),
    ),
    "retry_letters": Operation(
        summary="Put dead letters back on the streams from which they came",
        answers={200: "LetterOutcomes"},
        problems=(413, 415, 422),
        content=_json("LetterChoice", {"stream": "jobs", "kind": "no such type"}),
    ),
    "drop_letters": Operation(
        summary="Delete dead letters for good",
        answers={200: "LetterOutcomes"},
        problems=(413, 415, 422),
        content=_json("LetterChoice", {"ids": ["1700000000000-0"]}),
    ),
    "pool_demand": Operation(
        summary="How many workers a pool needs, for an autoscaler",
        answers={200: "Demand"},
        problems=(404,),
        parameters=(_path("site", "of a pool, such as fast, or eco@FR of another zone"),),
    ),
    "list_pools": Operation(
        summary="The pools: their workers, what runs and waits in them", answers={200: "Pools"}
    ),
    "job_events": Operation(
        summary="All events about a job, in order",
        answers={200: "JobEvents"},
        problems=(404, 422),
        parameters=(
            _ID,
            _query(
                "limit",
                "how many, about",
                {"type": "integer", "minimum": 1, "maximum": MOST_EVENTS, "default": 100},
            ),
            _query("cursor", "`next` of the page before", {"type": "string"}),
        ),
    ),
    "job_starts": Operation(
        summary="When jobs started, and are to start",
        answers={200: "JobStarts"},
        problems=(404, 422),
        parameters=(
            _query("zone", "the home zone by default", {"type": "string"}),
            _query("from", "on the grid clock; a day ago by default", _TIME),
            _query("to", "a day ahead by default", _TIME),
        ),
    ),
    "take_events": Operation(
        summary="CloudEvents from other services: job.submitted, job.cancel_requested",
        answers={200: "Job|JobHead", 202: "JobHead|Job|BulkResult"},
        problems=(404, 408, 409, 413, 415, 422),
        parameters=tuple(
            {
                "name": f"ce-{name}",
                "in": "header",
                "description": f"{meaning}; in binary mode only",
                "schema": {"type": "string"},
            }
            for name, meaning in _ATTRIBUTES.items()
        ),
        content={
            "application/json": {"schema": {"type": "object"}, "example": _EXAMPLE},
            STRUCTURED: {"schema": ref("CloudEvent"), "example": _CLOUD_EVENT},
            BATCH: {
                "schema": {"type": "array", "items": ref("CloudEvent")},
                "example": [_CLOUD_EVENT],
            },
        },
        told="BulkResult",
    ),
    "events": Operation(
        summary="What happens, as server-sent events",
        answers={200: ""},
        media=("text/event-stream",),
        problems=(422,),
        parameters=(
            {
                **_query(
                    "types", "of events", {"type": "array", "items": {"enum": list(EVENT_TYPES)}}
                ),
                "style": "form",
                "explode": False,
            },
            _query("job", "only what is about this job", {"type": "string"}),
            _query("project", "only what is of this project", {"type": "string"}),
            _query("last_event_id", "for those who send no headers", {"type": "string"}),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "go on after the frame of this id; else begin now",
                "schema": {"type": "string"},
            },
        ),
    ),
    "emissions": Operation(
        summary="Energy and emissions by group",
        answers={200: "Totals"},
        media=("application/json", "text/csv"),
        problems=(422,),
        parameters=(
            {
                **_query(
                    "by",
                    "groups, the day by default",
                    {"type": "array", "items": {"enum": list(GROUPS)}},
                ),
                "style": "form",
                "explode": False,
            },
            _query("from", "the first day, on the grid clock", _DAY),
            _query("to", "the last day", _DAY),
            _query(
                "format",
                "rather than what Accept asks for",
                {"enum": list(FORMATS)},
            ),
        ),
    ),
}
