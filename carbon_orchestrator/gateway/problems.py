"""Answers as JSON, and errors as RFC 9457 problem details."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.gateway.intake.outcome import INTERNAL, Refused, unable
from streams.errors import CommitUnknown, is_transient

log = structlog.get_logger(__name__)

_BASE = "urn:carbon-orchestrator:problem:"


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A response that is no problem."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers=headers,
    )


def problem_body(status: int, kind: str, detail: str, **more: Any) -> bytes:
    """The JSON of a problem; `kind` is the stable last part of its type."""
    body = {
        "type": _BASE + kind,
        "title": kind.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        **more,
    }
    return msgspec.json.encode(body)


def problem(
    status: int, kind: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> web.Response:
    """A problem response."""
    return web.Response(
        status=status,
        body=problem_body(status, kind, detail, **more),
        content_type="application/problem+json",
        headers=headers,
    )


def members(refusal: Refused) -> msgspec.Raw:
    """The JSON of a refusal as a problem."""
    return msgspec.Raw(problem_body(refusal.status, refusal.kind, refusal.detail, **refusal.more))


def refused(refusal: Refused) -> web.Response:
    """A refusal as a response."""
    headers = refusal.headers
    if refusal.retry_after is not None:
        headers = {**headers, "Retry-After": str(refusal.retry_after)}
    return problem(refusal.status, refusal.kind, refusal.detail, headers=headers, **refusal.more)


def unavailable(detail: str, retry_after: int = 1) -> web.Response:
    return refused(unable(detail, retry_after))


def fault(error: Exception) -> Refused:
    """What is said of an error that nobody foresaw."""
    if isinstance(error, CommitUnknown):
        return unable(
            "the server did not answer in time; the job may or may not have been accepted:"
            " send it again with the same Idempotency-Key to find out"
        )
    if is_transient(error):
        return unable("the stream server is not reachable; try again")
    return INTERNAL


def told(request: web.BaseRequest, error: Exception) -> web.Response:
    """What is answered when a handler raised this. Where an answer is on its way already, it is
    broken off: ConnectionResetError. Redirections are raised again."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return problem(413, "body-too-large", f"{error.text}")
    if isinstance(error, web.HTTPException):
        if error.status < 400:
            raise error
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problem(
            error.status,
            error.reason.lower().replace(" ", "-"),
            f"{request.method} {request.path}",
            headers=headers,
        )
    refusal = fault(error)
    if refusal is INTERNAL:
        log.error("request failed", method=request.method, path=request.path, exc_info=error)
    if request.writer.output_size:
        raise ConnectionResetError("the answer is broken off") from error
    return refused(refusal)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into a problem response."""
    try:
        return await handler(request)
    except Exception as error:
        return told(request, error)
