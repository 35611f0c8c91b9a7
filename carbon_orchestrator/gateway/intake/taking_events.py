"""`POST /events`: CloudEvents from other services, taken as if they came straight to the streams.

The same source and id is the same job, whether it came here or by XADD.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiohttp import web

from carbon_orchestrator.events import CancelRequested, JobSubmitted
from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.door.guard import caller, missing
from carbon_orchestrator.gateway.intake.bodies import Bodies, stretches
from carbon_orchestrator.gateway.intake.bulk import MOST_LINES, Result, result, told
from carbon_orchestrator.gateway.intake.cloud_events import (
    BATCH,
    STRUCTURED,
    CloudEvent,
    batch,
    binary,
    structured,
)
from carbon_orchestrator.gateway.intake.outcome import (
    Asked,
    Outcome,
    Refused,
    Repeated,
    malformed,
    wrong,
)
from carbon_orchestrator.gateway.intake.posting import Posting, trace_context
from carbon_orchestrator.gateway.intake.strict import Malformed, WrongField, names, submission
from carbon_orchestrator.gateway.intake.strict import wrong as wrong_field
from carbon_orchestrator.gateway.intake.submitting import Submitting
from carbon_orchestrator.gateway.lookup.jobs import Jobs
from carbon_orchestrator.gateway.problems import fault, problem, refused
from carbon_orchestrator.runtime import Runtime


class _Cancellation(CancelRequested, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As strictly as a submission."""


_cancellation = msgspec.json.Decoder(_Cancellation)
TYPES = (JobSubmitted.event_type, CancelRequested.event_type)


class TakingEvents:
    """Takes the events that other services may send."""

    def __init__(
        self,
        runtime: Runtime,
        posting: Posting,
        submitting: Submitting,
        jobs: Jobs,
        bodies: Bodies,
    ) -> None:
        self._runtime = runtime
        self._posting = posting
        self._submitting = submitting
        self._jobs = jobs
        self._bodies = bodies

    async def take(self, request: web.Request) -> web.Response:
        """One event, binary or structured, or a batch."""
        asking, media = caller(request), request.content_type
        if media == BATCH:
            return await self._take_batch(request, asking)
        if media == STRUCTURED:
            event = structured(await request.read())
        elif media.startswith("application/cloudevents"):
            detail = f"send JSON: {STRUCTURED}, {BATCH}, or ce- headers and the data as the body"
            return problem(415, "unsupported-media-type", detail)
        else:
            content_type = request.headers.get("Content-Type", "")
            event = binary(request.headers, content_type, await request.read())
        asked = event if isinstance(event, Refused) else self._asked(event)
        if isinstance(asked, Refused):
            return refused(asked)
        if isinstance(asked, CancelRequested):
            return await self._jobs.ended(asked, asking)
        if not asking.may("submit"):
            return refused(missing("submit"))
        return await self._posting.one(asked, asking)

    async def _take_batch(self, request: web.Request, asking: Caller) -> web.Response:
        async with self._bodies.received(request, asking) as body:
            events = body if isinstance(body, Refused) else batch(body, MOST_LINES)
            if isinstance(events, Refused):
                return refused(events)
            now = self._runtime.now()
            results: list[Result] = []
            for some in stretches(list(enumerate(events, 1))):
                async with self._bodies.places:
                    asked = [self._read(each) for _, each in some]
                    outcomes = await self._outcomes(asked, asking, now)
                results += [result(n, each) for (n, _), each in zip(some, outcomes, strict=True)]
                await asyncio.sleep(0)
            return told(results, now)

    async def _outcomes(
        self, asked: Sequence[Asked | CancelRequested | Refused], asking: Caller, now: int
    ) -> list[Outcome]:
        """What came of each. Jobs are made first, so that a cancellation finds them."""
        submitted = [each for each in asked if isinstance(each, Asked)]
        if asking.may("submit"):
            made = iter(await self._submitting.submit(submitted, asking, now))
        else:
            made = iter([missing("submit")] * len(submitted))
        ends = [each for each in asked if isinstance(each, CancelRequested)]
        ended = iter(await asyncio.gather(*(self._ended(each, asking) for each in ends)))
        outcomes: list[Outcome] = []
        for each in asked:
            if isinstance(each, Refused):
                outcomes.append(each)
            else:
                outcomes.append(next(made if isinstance(each, Asked) else ended))
        return outcomes

    async def _ended(self, event: CancelRequested, asking: Caller) -> Outcome:
        try:
            job = await self._jobs.end(event, asking)
        except Exception as error:  # the others of the batch have their outcome
            return fault(error)
        return job if isinstance(job, Refused) else Repeated(job["id"], job["state"])

    def _read(self, body: bytes) -> Asked | CancelRequested | Refused:
        if len(body) > self._runtime.config.limits.max_body:
            detail = f"the event is over {self._runtime.config.limits.max_body} bytes"
            return Refused(status=413, kind="body-too-large", detail=detail)
        event = structured(body)
        return event if isinstance(event, Refused) else self._asked(event)

    def _asked(self, event: CloudEvent) -> Asked | CancelRequested | Refused:
        """What the event asks for."""
        if event.type not in TYPES:
            detail = f"no event of type {event.type[:64]!r} is taken; known: {', '.join(TYPES)}"
            return wrong("unknown-event-type", detail, "type", known=list(TYPES))
        try:
            if event.type == CancelRequested.event_type:
                return _cancelled(event.data)
            read = submission(event.data, self._runtime.config.limits.max_payload)
        except WrongField as error:
            return wrong("invalid-job", str(error), f"data.{error.field}")
        except Malformed as error:
            return malformed(f"data: {error}")
        identity = ("event", event.source, event.id)
        return Asked(*read, identity, trace_context(event.traceparent))


def _cancelled(data: bytes) -> CancelRequested:
    """Raises WrongField, Malformed."""
    try:
        names(data)
        cancelled = _cancellation.decode(data)
    except msgspec.ValidationError as error:
        raise wrong_field(str(error), ("job_id", "reason")) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"this is not JSON: {error}") from None
    if len(cancelled.reason) > 1024:
        raise WrongField("a reason has at most 1024 characters", "reason")
    return CancelRequested(job_id=cancelled.job_id, reason=cancelled.reason)
