"""Answers as JSON, and errors as RFC 9457 problem details."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

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


def unavailable(detail: str, retry_after: int = 1) -> web.Response:
    return problem(503, "server-unavailable", detail, headers={"Retry-After": str(retry_after)})


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into a problem response."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge as error:
        return problem(413, "body-too-large", f"{error.text}")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return problem(
            error.status,
            error.reason.lower().replace(" ", "-"),
            f"{request.method} {request.path}",
            headers=headers,
        )
    except CommitUnknown:
        return unavailable(
            "the server did not answer in time; the job may or may not have been accepted:"
            " send it again with the same Idempotency-Key to find out"
        )
    except Exception as error:
        if is_transient(error):
            return unavailable("the stream server is not reachable; try again")
        log.exception("request failed", method=request.method, path=request.path)
        return problem(500, "internal-error", "an error on our side; it has been logged")
