"""What somebody asks for, and what came of it; however it was sent."""

from __future__ import annotations

from typing import Any

import msgspec

from carbon_orchestrator.config import Config
from carbon_orchestrator.events import JobSubmitted, Spec

LONGEST_KEY = 255


class Asked(msgspec.Struct, frozen=True):
    """A job that somebody asks for. `data`: it as JSON; `named_project`: whether it named one;
    `identity`: what makes it the same job however often it comes, ("key", KEY) of a client's choice
    or ("event", SOURCE, ID) of a CloudEvent, None where each time is a new job; `traceparent`: W3C
    trace context, checked already."""

    submitted: JobSubmitted
    data: bytes
    named_project: bool
    identity: tuple[str, ...] | None = None
    traceparent: str | None = None


class Accepted(msgspec.Struct, frozen=True):
    """A new job, which the server has."""

    spec: Spec


class Repeated(msgspec.Struct, frozen=True):
    """The job that was made when this came before, and its state."""

    job_id: str
    state: str


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no job: a status, the stable last part of a problem's type, words, and `more`
    members of the problem. `retry_after`: seconds after which it may be different; `headers`: of
    the answer."""

    status: int
    kind: str
    detail: str
    more: dict[str, Any] = {}
    retry_after: int | None = None
    headers: dict[str, str] = {}


INTERNAL = Refused(
    status=500, kind="internal-error", detail="an error on our side; it has been logged"
)
Outcome = Accepted | Repeated | Refused


def wrong(kind: str, detail: str, field: str | None = None, **more: Any) -> Refused:
    """422: what was asked for cannot be; `field`: the path of what is at fault."""
    at = {} if field is None else {"field": field}
    return Refused(status=422, kind=kind, detail=detail, more={**at, **more})


def unable(detail: str, retry_after: int = 1) -> Refused:
    """503: not now; it may be asked again."""
    return Refused(status=503, kind="server-unavailable", detail=detail, retry_after=retry_after)


def malformed(detail: str) -> Refused:
    """400: no JSON that means one thing only."""
    return Refused(status=400, kind="malformed-json", detail=detail)


def no_such_job(config: Config) -> Refused:
    """404: it never was, is no longer on record, or is not for who asks."""
    detail = f"no job has this id, or it ended more than {config.retention.jobs} ago"
    return Refused(status=404, kind="no-such-job", detail=detail)


def wrong_key(key: str, field: str | None = None) -> Refused | None:
    """Why this cannot be an idempotency key, if it cannot."""
    if 1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable():
        return None
    detail = f"an idempotency key is 1 to {LONGEST_KEY} printable ASCII characters"
    return wrong("invalid-idempotency-key", detail, field)
