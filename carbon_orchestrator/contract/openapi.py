"""The OpenAPI 3.1 document, made from the route table and the views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from carbon_orchestrator import __version__
from carbon_orchestrator.accounting.totals import GROUPS
from carbon_orchestrator.contract import house_views, live_views, submission_views
from carbon_orchestrator.contract.views import SCHEMAS
from carbon_orchestrator.events import POOLS, URGENCIES
from carbon_orchestrator.gateway.bulk import MEDIA_TYPE as LINES
from carbon_orchestrator.gateway.cloud_events import BATCH, STRUCTURED
from carbon_orchestrator.gateway.emissions import FORMATS
from carbon_orchestrator.gateway.job_events import MOST_EVENTS
from carbon_orchestrator.gateway.job_query import MOST_LISTED, SORTS
from carbon_orchestrator.gateway.letters import MOST_LISTED as MOST_LETTERS
from carbon_orchestrator.gateway.occurrence import TYPES as EVENT_TYPES
from carbon_orchestrator.gateway.outcome import LONGEST_KEY
from carbon_orchestrator.gateway.routes import ROUTES, Route
from carbon_orchestrator.lifecycle import STATES

_REF = "#/components/schemas/{name}"
_PROBLEM = "application/problem+json"
_DAY = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "examples": ["2026-01-31"]}
_TIME = {"type": "string", "format": "date-time", "examples": ["2026-01-31T18:00:00Z"]}
_LENGTH = {"type": "string", "examples": ["2h", "PT90M"]}
_WHY: Mapping[int, str] = {
    400: "No request, or no JSON.",
    401: "No API key, or none that is known.",
    403: "The API key does not allow it, or a browser sent this for another site.",
    404: "There is no such thing, or not for this API key.",
    409: "It has ended already, or there is nothing yet to answer it from.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is of no type that is taken.",
    422: "Something in the request is wrong; `field` or `detail` say what.",
    429: "Too many requests, or unfinished jobs, of this API key.",
    503: "The gateway or its stream server is busy or away; send it again after a while.",
}


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


class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`answers`: views by status, with "|" between those that it may be; `problems`: statuses
    besides those that all have; `lines`: the view of each of many bodies that may come together
    as newline-delimited JSON, and that of the answer to these."""

    summary: str
    answers: Mapping[int, str]
    problems: tuple[int, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    body: str | None = None
    lines: tuple[str, str] | None = None
    example: Mapping[str, Any] = {}
    media: tuple[str, ...] = ("application/json",)


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
_OPERATIONS: Mapping[str, _Operation] = {
    "index": _Operation(
        summary="What there is to see; the dashboard where text/html is asked for",
        answers={200: "Index"},
        media=("application/json", "text/html"),
    ),
    "asset": _Operation(
        summary="A file of the dashboard",
        answers={200: ""},
        problems=(404,),
        parameters=(_path("folder", "js, css, img or vendor"), _path("name", "of the file")),
        media=("text/javascript", "text/css", "text/plain", "image/svg+xml", "image/png"),
    ),
    "docs": _Operation(
        summary="This document to read and try out", answers={200: ""}, media=("text/html",)
    ),
    "openapi": _Operation(summary="This document", answers={200: ""}),
    "asyncapi": _Operation(
        summary="The streams and what goes over them, as AsyncAPI 3.0", answers={200: ""}
    ),
    "schemas": _Operation(summary="The JSON Schema of each event", answers={200: ""}),
    "livez": _Operation(summary="Whether this process answers", answers={200: "Status"}),
    "readyz": _Operation(summary="Whether the stream server answers", answers={200: "Status"}),
    "health": _Operation(
        summary="Whether all is well, with details for those who may read all there is",
        answers={200: "Health"},
    ),
    "metrics": _Operation(summary="For Prometheus", answers={200: ""}, media=("text/plain",)),
    "list_types": _Operation(summary="The types of jobs there are", answers={200: "JobTypes"}),
    "submit_job": _Operation(
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
        body="NewJob",
        lines=("BulkLine", "BulkResult"),
        example=_EXAMPLE,
    ),
    "list_jobs": _Operation(
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
    "show_job": _Operation(
        summary="A job: its timeline, the reason of each decision, energy and emissions",
        answers={200: "Job"},
        problems=(404,),
        parameters=(_ID,),
    ),
    "job_logs": _Operation(
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
    "cancel_job": _Operation(
        summary="Ask for the end of a job",
        answers={202: "Job"},
        problems=(404, 409),
        parameters=(_ID,),
    ),
    "carbon": _Operation(
        summary="The intensity, band and forecast of a zone",
        answers={200: "Carbon"},
        problems=(404,),
        parameters=(_query("zone", "the home zone by default", {"type": "string"}),),
    ),
    "best_window": _Operation(
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
    "carbon_history": _Operation(
        summary="The intensities of a zone in the past",
        answers={200: "CarbonHistory"},
        problems=(404, 422),
        parameters=(
            _query("zone", "the home zone by default", {"type": "string"}),
            _query("from", "a day before `to` by default", _TIME),
            _query("to", "now by default, on the grid clock", _TIME),
        ),
    ),
    "overview": _Operation(summary="The deployment at a glance", answers={200: "Overview"}),
    "list_letters": _Operation(
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
    "show_letter": _Operation(
        summary="A dead letter, with the original's fields",
        answers={200: "Letter"},
        problems=(404,),
        parameters=(_path("id", "of a dead letter"),),
    ),
    "retry_letters": _Operation(
        summary="Put dead letters back on the streams from which they came",
        answers={200: "LetterOutcomes"},
        problems=(413, 415, 422),
        body="LetterChoice",
        example={"stream": "jobs", "kind": "no such type"},
    ),
    "drop_letters": _Operation(
        summary="Delete dead letters for good",
        answers={200: "LetterOutcomes"},
        problems=(413, 415, 422),
        body="LetterChoice",
        example={"ids": ["1700000000000-0"]},
    ),
    "pool_demand": _Operation(
        summary="How many workers a pool needs, for an autoscaler",
        answers={200: "Demand"},
        problems=(404,),
        parameters=(_path("site", "of a pool, such as fast, or eco@FR of another zone"),),
    ),
    "list_pools": _Operation(
        summary="The pools: their workers, what runs and waits in them", answers={200: "Pools"}
    ),
    "job_events": _Operation(
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
    "job_starts": _Operation(
        summary="When jobs started, and are to start",
        answers={200: "JobStarts"},
        problems=(404, 422),
        parameters=(
            _query("zone", "the home zone by default", {"type": "string"}),
            _query("from", "on the grid clock; a day ago by default", _TIME),
            _query("to", "a day ahead by default", _TIME),
        ),
    ),
    "take_events": _Operation(
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
        body="CloudEvent",
        example=_CLOUD_EVENT,
    ),
    "events": _Operation(
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
    "emissions": _Operation(
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
_HEADERS: Mapping[str, Any] = {
    "Retry-After": {"description": "seconds", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "how to come in", "schema": {"type": "string"}},
    "Location": {"description": "of the job", "schema": {"type": "string"}},
    "ETag": {"description": "for If-None-Match", "schema": {"type": "string"}},
}
_TAGGED = {"ETag": _HEADERS["ETag"]}


def document() -> dict[str, Any]:
    """The document, as JSON values."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        described = _OPERATIONS[route.operation]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, described)
    views = (
        *(*SCHEMAS, *house_views.SCHEMAS, *submission_views.SCHEMAS),
        *live_views.SCHEMAS,
    )
    _, schemas = msgspec.json.schema_components(views, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "carbon-orchestrator",
            "version": __version__,
            "description": "Runs AI and batch jobs when and where they emit the least carbon."
            " Errors are problem details (RFC 9457). From loopback no API key is needed, unless"
            " the gateway was started with --require-keys.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "co_ID_SECRET"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Route, described: _Operation) -> dict[str, Any]:
    problems = {400, 503, *described.problems}
    shown: dict[str, Any] = {"operationId": route.operation, "summary": described.summary}
    if route.scopes:
        problems |= {401, 403, 429}
        # Any one of these will do; the last: none is needed from loopback.
        ways = [{way: [scope]} for way in ("bearer", "apiKey") for scope in route.scopes]
        shown["security"] = [*ways, {}]
    else:
        shown["security"] = []
    if described.parameters:
        shown["parameters"] = list(described.parameters)
    if described.body is not None:
        schema = _ref(described.body)
        shown["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": described.example}},
        }
    if described.body == "CloudEvent":
        content = shown["requestBody"]["content"]
        content["application/json"] = {"schema": {"type": "object"}, "example": _EXAMPLE}
        content[STRUCTURED] = {"schema": schema, "example": _CLOUD_EVENT}
        content[BATCH] = {
            "schema": {"type": "array", "items": schema},
            "example": [_CLOUD_EVENT],
        }
    answers = {
        str(status): _answer(status, view, described.media)
        for status, view in described.answers.items()
    }
    answers |= {str(status): _problem(status) for status in problems}
    if described.body == "CloudEvent":
        _told_of_each(answers, "BulkResult")
    if described.lines is not None:
        line, told = described.lines
        shown["requestBody"]["content"][LINES] = {
            "schema": {"type": "string", "description": f"one {line} in each line"},
            "example": _json_line(described.example) * 2,
        }
        _told_of_each(answers, told)
    if route.polled:
        answers["200"]["headers"] = _TAGGED
        answers["304"] = {"description": "It is as in If-None-Match.", "headers": _TAGGED}
    shown["responses"] = dict(sorted(answers.items()))
    return shown


def _told_of_each(answers: dict[str, Any], told: str) -> None:
    """Where none of many has come to anything, the status is that which all share."""
    for status, answer in answers.items():
        if int(status) >= 400 and status != "401":
            answer["content"]["application/json"] = {"schema": _ref(told)}


def _answer(status: int, view: str, media: tuple[str, ...]) -> dict[str, Any]:
    views = [_ref(each) for each in view.split("|") if each]
    schema: dict[str, Any] = {"anyOf": views} if len(views) > 1 else dict(*views)
    if not view and media == ("application/json",):
        schema = {"type": "object"}
    shown: dict[str, Any] = {
        "description": {200: "As asked.", 202: "Taken on."}[status],
        "content": {
            each: {"schema": schema if "json" in each else {"type": "string"}} for each in media
        },
    }
    if view.startswith("JobHead"):
        shown["headers"] = {"Location": _HEADERS["Location"]}
        shown["links"] = {
            name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
            for name in ("show_job", "cancel_job")
        }
    return shown


def _ref(view: str) -> dict[str, Any]:
    return {"$ref": _REF.format(name=view)}


def _json_line(value: Any) -> str:
    return msgspec.json.encode(value).decode() + "\n"


def _problem(status: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "description": _WHY[status],
        "content": {_PROBLEM: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    if status in (429, 503):
        shown["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    if status == 401:
        shown["headers"] = {"WWW-Authenticate": _HEADERS["WWW-Authenticate"]}
    return shown
