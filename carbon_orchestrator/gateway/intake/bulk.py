"""Many jobs in one request: newline-delimited JSON, of which each line is taken by itself.

Nothing happens before the whole body is there. Then so many lines at a time are read, while those
before them are on their way to the server, and others have their turn in between.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Sequence

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.intake.bodies import Bodies, stretches
from carbon_orchestrator.gateway.intake.outcome import (
    Accepted,
    Asked,
    Outcome,
    Refused,
    Repeated,
    malformed,
    wrong,
    wrong_key,
)
from carbon_orchestrator.gateway.intake.strict import Malformed, WrongField, line, lines
from carbon_orchestrator.gateway.intake.submitting import Submitting
from carbon_orchestrator.gateway.problems import answer, members, refused
from carbon_orchestrator.runtime import Runtime

MEDIA_TYPE = "application/x-ndjson"
MOST_LINES = 10_000


class Result(msgspec.Struct, omit_defaults=True):
    """What came of a line; lines count from 1."""

    line: int
    status: int
    id: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    problem: msgspec.Raw | UnsetType = UNSET


class Bulk:
    """Takes many jobs at a time."""

    def __init__(self, runtime: Runtime, submitting: Submitting, bodies: Bodies) -> None:
        self._runtime = runtime
        self._submitting = submitting
        self._limits = runtime.config.limits
        self._bodies = bodies

    async def submit(
        self, request: web.Request, asking: Caller, traceparent: str | None
    ) -> web.Response:
        """What came of each line; 202 if there is a job for any of them."""
        async with self._bodies.received(request, asking) as body:
            if isinstance(body, Refused):
                return refused(body)
            if (refusal := _too_many(body)) is not None:
                return refused(refusal)
            return await self._answer(body, asking, traceparent)

    async def _answer(self, body: bytes, asking: Caller, traceparent: str | None) -> web.Response:
        now, places = self._runtime.now(), self._bodies.places
        begun: list[asyncio.Task[list[Result]]] = []
        async with asyncio.TaskGroup() as tasks:
            for numbered in stretches(_lines(body)):
                await places.acquire()
                task = tasks.create_task(self._submit(numbered, traceparent, asking, now))
                task.add_done_callback(lambda _: places.release())
                begun.append(task)
                await asyncio.sleep(0)
        return told([result for task in begun for result in task.result()], now)

    async def _submit(
        self,
        numbered: Sequence[tuple[int, bytes]],
        traceparent: str | None,
        asking: Caller,
        now: int,
    ) -> list[Result]:
        """What came of these lines."""
        asked = self._read([row for _, row in numbered], traceparent)
        sound = [each for each in asked if isinstance(each, Asked)]
        made = iter(await self._submitting.submit(sound, asking, now))
        return [
            result(number, each if isinstance(each, Refused) else next(made))
            for (number, _), each in zip(numbered, asked, strict=True)
        ]

    def _read(self, rows: list[bytes], traceparent: str | None) -> Sequence[Asked | Refused]:
        most = min(self._limits.max_payload, self._limits.max_body)
        if (read := lines(rows, most)) is not None:
            return [Asked(*each, None, traceparent) for each in read]
        return [self._asked(row, traceparent) for row in rows]

    def _asked(self, body: bytes, traceparent: str | None) -> Asked | Refused:
        if len(body) > self._limits.max_body:
            detail = f"the line is over {self._limits.max_body} bytes"
            return Refused(status=413, kind="body-too-large", detail=detail)
        try:
            read, key = line(body, self._limits.max_payload)
        except WrongField as error:
            return wrong("invalid-job", str(error), error.field)
        except Malformed as error:
            return malformed(str(error))
        if key is None:
            return Asked(*read, None, traceparent)
        return wrong_key(key, "idempotency_key") or Asked(*read, ("key", key), traceparent)


def _too_many(body: bytes) -> Refused | None:
    lines = body.count(b"\n") + (not body.endswith(b"\n"))
    if lines > MOST_LINES:
        detail = f"{lines} lines; send {MOST_LINES} at most, the others in another request"
        return Refused(status=413, kind="too-many-lines", detail=detail)
    if not body.strip():
        return malformed("there is no line in the body")
    return None


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    """Those that are not empty, by number."""
    return [each for each in enumerate(io.BytesIO(body).readlines(), 1) if not each[1].isspace()]


def result(number: int, outcome: Outcome) -> Result:
    if isinstance(outcome, Accepted):
        return Result(number, 202, outcome.spec.job_id)
    if isinstance(outcome, Repeated):
        return Result(number, 200, outcome.job_id, outcome.state)
    return Result(number, outcome.status, problem=members(outcome))


def told(results: list[Result], now: int) -> web.Response:
    """The answer. Where no line has a job its status is that which all lines share, else 422; where
    there is no line, nothing has gone wrong."""
    counts = Counter(each.status for each in results)
    accepted, repeated = counts[202], counts[200]
    status, headers = 202, None
    if results and not accepted + repeated:
        status = next(iter(counts)) if len(counts) == 1 else 422
        if status in (429, 503):
            headers = {"Retry-After": "1"}
    body = {
        "accepted": accepted,
        "repeated": repeated,
        "refused": len(results) - accepted - repeated,
        "submitted_at": rfc3339(now),
        "results": results,
    }
    return answer(body, status, headers)
