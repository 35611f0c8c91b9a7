"""The OpenAPI 3.1 document, made from the route table, the operations and the views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from carbon_orchestrator import __version__
from carbon_orchestrator.contract import house_views, live_views, submission_views
from carbon_orchestrator.contract.operations import OPERATIONS, REF, Operation, ref
from carbon_orchestrator.contract.views import SCHEMAS
from carbon_orchestrator.gateway.routes import ROUTES, Route

_PROBLEM = "application/problem+json"
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
        described = OPERATIONS[route.operation]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, described)
    views = (
        *(*SCHEMAS, *house_views.SCHEMAS, *submission_views.SCHEMAS),
        *live_views.SCHEMAS,
    )
    _, schemas = msgspec.json.schema_components(views, ref_template=REF)
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


def _operation(route: Route, described: Operation) -> dict[str, Any]:
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
    if described.content:
        shown["requestBody"] = {"required": True, "content": dict(described.content)}
    answers = {
        str(status): _answer(status, view, described.media)
        for status, view in described.answers.items()
    }
    answers |= {str(status): _problem(status) for status in problems}
    if described.told is not None:
        _told_of_each(answers, described.told)
    if route.polled:
        answers["200"]["headers"] = _TAGGED
        answers["304"] = {"description": "It is as in If-None-Match.", "headers": _TAGGED}
    shown["responses"] = dict(sorted(answers.items()))
    return shown


def _told_of_each(answers: dict[str, Any], told: str) -> None:
    """Where none of many has come to anything, the status is that which all share."""
    for status, answer in answers.items():
        if int(status) >= 400 and status != "401":
            answer["content"]["application/json"] = {"schema": ref(told)}


def _answer(status: int, view: str, media: tuple[str, ...]) -> dict[str, Any]:
    views = [ref(each) for each in view.split("|") if each]
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


def _problem(status: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "description": _WHY[status],
        "content": {_PROBLEM: {"schema": ref("Problem")}},
    }
    if status in (429, 503):
        shown["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    if status == 401:
        shown["headers"] = {"WWW-Authenticate": _HEADERS["WWW-Authenticate"]}
    return shown
