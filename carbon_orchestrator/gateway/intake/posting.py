"""`POST /jobs`: from a request to what is asked for, and from what came of it to an answer."""

from __future__ import annotations

import re

import msgspec
from aiohttp import web
from multidict import istr

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.contract.views import JobHead
from carbon_orchestrator.events import Spec
from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.door.guard import Guest, caller
from carbon_orchestrator.gateway.door.ready import Ready, readied, ready
from carbon_orchestrator.gateway.intake.bodies import Bodies
from carbon_orchestrator.gateway.intake.bulk import MEDIA_TYPE, Bulk
from carbon_orchestrator.gateway.intake.outcome import (
    Accepted,
    Asked,
    Refused,
    Repeated,
    malformed,
    wrong,
    wrong_key,
)
from carbon_orchestrator.gateway.intake.preview import Preview
from carbon_orchestrator.gateway.intake.strict import Malformed, WrongField, submission
from carbon_orchestrator.gateway.intake.submitting import Submitting
from carbon_orchestrator.gateway.problems import answer, problem, refused, unavailable
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.runtime import Runtime

_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_TRACEPARENT, _KEY = istr("traceparent"), istr("Idempotency-Key")
_JSON = {"Content-Type": "application/json"}
_encode = msgspec.json.Encoder().encode
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def trace_context(given: str | None) -> str | None:
    """A W3C trace context; one that is none is ignored, as the standard asks."""
    return given if given is not None and _TRACE.fullmatch(given) else None


def traceparent(request: web.Request) -> str | None:
    """The request's trace context."""
    return trace_context(request.headers.get(_TRACEPARENT))


class Posting:
    """Takes jobs over HTTP."""

    def __init__(
        self,
        runtime: Runtime,
        reading: Reading,
        submitting: Submitting,
        preview: Preview,
        bodies: Bodies,
    ) -> None:
        self._runtime = runtime
        self._reading = reading
        self._preview = preview
        self._submitting = submitting
        self._bulk = Bulk(runtime, submitting, bodies)

    async def submit(self, request: web.Request) -> web.Response:
        """A new job, or the one that came with the same Idempotency-Key before; or many; or, with
        `dry_run`, what would be decided about it."""
        for name in request.query:
            if name != "dry_run":
                detail = f"there is no parameter {name[:40]!r}; known: dry_run"
                return refused(wrong("invalid-query", detail, name[:40]))
        dry_run = _FLAGS.get(",".join(request.query.getall("dry_run", ["false"])))
        if dry_run is None:
            return refused(wrong("invalid-query", "dry_run is true or false, once", "dry_run"))
        if request.content_type == MEDIA_TYPE:
            if dry_run:
                detail = "dry_run is for one job at a time, as application/json"
                return refused(wrong("invalid-query", detail, "dry_run"))
            return await self._bulk.submit(request, caller(request), traceparent(request))
        if request.content_type not in ("application/json", "application/octet-stream"):
            detail = f"send application/json, or many jobs as {MEDIA_TYPE}"
            return problem(415, "unsupported-media-type", detail)
        headers = request.headers
        asked = self._asked(
            await request.read(), headers.get(_KEY), trace_context(headers.get(_TRACEPARENT))
        )
        if isinstance(asked, Refused):
            return refused(asked)
        if dry_run:
            return await self._previewed(asked, request)
        return await self.one(asked, caller(request))

    async def plain(self, body: bytes, key: str | None, trace: str | None, guest: Guest) -> Ready:
        """As `submit`, of one job in JSON that is here already. `key`: an Idempotency-Key;
        `trace`: a trace context, as sent."""
        asked = self._asked(body, key, trace_context(trace))
        outcome = (
            asked if isinstance(asked, Refused) else await self._submitting.one(asked, guest.caller)
        )
        if isinstance(outcome, Accepted):
            spec, headers = outcome.spec, _JSON
            if guest.told:
                headers = {**headers, **guest.told}
            return ready(202, headers, _encode(head(spec)), location=f"/jobs/{spec.job_id}")
        response = await self._other(outcome, guest.caller)
        response.headers.update(guest.told)
        return readied(response)

    async def one(self, asked: Asked, asking: Caller) -> web.Response:
        """Submit it: 202 for a new job, 200 for the one that came before."""
        outcome = await self._submitting.one(asked, asking)
        if isinstance(outcome, Accepted):
            headers = {"Location": f"/jobs/{outcome.spec.job_id}"}
            return answer(head(outcome.spec), 202, headers)
        return await self._other(outcome, asking)

    async def _other(self, outcome: Repeated | Refused, asking: Caller) -> web.Response:
        if isinstance(outcome, Refused):
            return refused(outcome)
        job = await self._reading.job(outcome.job_id)
        if job is None:
            return unavailable("the job has just been forgotten; send it again")
        if not asking.may("read"):
            job = {name: job[name] for name in JobHead.__struct_fields__}
        return answer(job, 200, {"Location": f"/jobs/{outcome.job_id}"})

    async def _previewed(self, asked: Asked, request: web.Request) -> web.Response:
        checked = self._submitting.check(asked, caller(request))
        if isinstance(checked, Refused):
            return refused(checked)
        return answer(await self._preview.of(checked.spec))

    def _asked(self, body: bytes, key: str | None, trace: str | None) -> Asked | Refused:
        try:
            read = submission(body, self._runtime.config.limits.max_payload)
        except WrongField as error:
            return wrong("invalid-job", str(error), error.field)
        except Malformed as error:
            return malformed(str(error))
        if key is None:
            return Asked(*read, None, trace)
        return wrong_key(key) or Asked(*read, ("key", key), trace)


def head(spec: Spec) -> JobHead:
    """What is told of a job that was accepted."""
    return JobHead(
        id=spec.job_id,
        state="submitted",
        type=spec.type,
        urgency=spec.urgency,
        submitted_at=rfc3339(spec.submitted_at),
        deadline=None if spec.deadline is None else rfc3339(spec.deadline),
    )
