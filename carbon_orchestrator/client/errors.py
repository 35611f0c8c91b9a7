"""What can go wrong, by what the caller can do about it; and RFC 9457 problems as such. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carbon_orchestrator.client.jobs import Job


class OrchestratorError(Exception):
    """Base of all errors of the client. `status`: of the HTTP answer, where there was one;
    `kind`: the stable last part of the problem's type, such as "unknown-type"."""

    def __init__(self, message: str, *, status: int | None = None, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class InvalidRequest(OrchestratorError, ValueError):
    """The gateway does not understand what was asked. Asking again does not help."""


class InvalidJob(InvalidRequest):
    """This job cannot be accepted. `field`: the path of what is wrong, such as "labels.team";
    `known`: what would have been right, where that is a short list."""

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        known: Sequence[str] = (),
        status: int | None = None,
        kind: str = "invalid-job",
    ) -> None:
        named = not field or kind == "unknown-type" or message.startswith(field)
        super().__init__(message if named else f"{field}: {message}", status=status, kind=kind)
        self.field = field
        self.known = tuple(known)


class Unauthorized(OrchestratorError):
    """An API key is needed, or the one given is not accepted."""


class Forbidden(OrchestratorError):
    """The API key, or the login of the stream server, may not do this."""


class NotFound(OrchestratorError, LookupError):
    """There is no such job or zone, or it is gone by now."""


class Conflict(OrchestratorError):
    """What was asked does not go with what is there: a job has ended already, or an idempotency
    key came with another job before."""


class Unavailable(OrchestratorError):
    """Nobody answered, or nobody who could; trying again later may help.

    `retry_after`: seconds after which to, where the gateway said so. `key`: the idempotency key
    of the submission that it cost; the job may have been accepted, and submitting it again with
    this key finds it, or makes it if it was not. `lost`: whether an answer may have been lost,
    so that what was asked for may have been done.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message, status=status, kind=kind)
        self.retry_after = retry_after
        self.key: str | None = None
        self.lost = False


class TooManyRequests(Unavailable):
    """More requests, or more unfinished jobs, than this API key may have."""


class NotEnded(OrchestratorError, TimeoutError):
    """Some of the jobs that were waited for had not ended in time. `jobs`: as last seen, the
    ended ones among them."""

    def __init__(self, message: str, jobs: Sequence[Job]) -> None:
        super().__init__(message)
        self.jobs = list(jobs)


class Incomplete(OrchestratorError):
    """Some of many jobs were not submitted. `jobs`: one for each that was tried, in order, None
    where there is an error; `errors`: those, by the place in that order."""

    def __init__(
        self, message: str, jobs: Sequence[Job | None], errors: Mapping[int, OrchestratorError]
    ) -> None:
        super().__init__(message)
        self.jobs = list(jobs)
        self.errors = dict(errors)


_BY_STATUS: Mapping[int, type[OrchestratorError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}
_REMEDIES = {
    "key-needed": "; give one in $CARBON_API_KEY, as api_key= or in an --api-key-file",
    "invalid-key": "; look at $CARBON_API_KEY, api_key= or the --api-key-file, or ask the operator"
    " for a new one",
    "idempotency-key-reused": ", or none",
}
_UNAVAILABLE = (502, 503, 504)
_ABOUT_THE_JOB = (400, 413, 415, 422)
_LONGEST = 500


def of_problem(
    status: int, problem: Mapping[str, Any], retry_after: float | None, *, submitting: bool
) -> OrchestratorError:
    """The error that an answer stands for. `submitting`: whether it was about a new job."""
    kind = str(problem.get("type", "")).rpartition(":")[2]
    said = str(problem.get("detail") or problem.get("title") or f"status {status}")
    text = said[:_LONGEST] + _REMEDIES.get(kind, "")
    if status == 429:
        return TooManyRequests(text, retry_after=retry_after, status=status, kind=kind)
    if status in _UNAVAILABLE:
        return Unavailable(text, retry_after=retry_after, status=status, kind=kind)
    if kind == "idempotency-key-reused":
        return Conflict(text, status=status, kind=kind)
    if status not in _ABOUT_THE_JOB:
        return _BY_STATUS.get(status, OrchestratorError)(text, status=status, kind=kind)
    if not submitting or kind == "invalid-idempotency-key":
        return InvalidRequest(text, status=status, kind=kind)
    known = problem.get("known")
    return InvalidJob(
        text,
        field=str(problem.get("field") or ""),
        known=[str(each) for each in known] if isinstance(known, list) else (),
        status=status,
        kind=kind,
    )
