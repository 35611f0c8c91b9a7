"""Submitting jobs: one, many, or none but to learn what would be decided."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from carbon_orchestrator.client import bulk
from carbon_orchestrator.client.bulk import Answers, Given, Line, LineAnswer, Lines, Submitted
from carbon_orchestrator.client.connection import Connection, header, typed
from carbon_orchestrator.client.errors import (
    Conflict,
    Incomplete,
    InvalidRequest,
    OrchestratorError,
    Unavailable,
    of_problem,
)
from carbon_orchestrator.client.jobs import Job, JobList, Plan
from carbon_orchestrator.client.submission import Deadline, Duration, encoded

_AT_ONCE = 4


class Submitting(Connection):
    """What a client can submit."""

    async def submit(
        self,
        type: str,
        *,
        payload: Mapping[str, Any] | None = None,
        urgency: str | None = None,
        deadline: Deadline | None = None,
        expected_duration: Duration | None = None,
        interruptible: bool | None = None,
        zones: Sequence[str] | None = None,
        project: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: Duration | None = None,
        max_attempts: int | None = None,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> Job:
        """Submit a job. What is not given is as the operator configured it.

        `urgency`: "urgent", "normal" or "flexible". `deadline`: by when it is to have run, as a
        time with a zone or a length from now ("8h", seconds, a timedelta). `timeout`: of one
        attempt. `key`: an idempotency key; the same key and job are one job, whoever submits
        them again and when, so name it after what the job is for. Without one, each call is a
        new job. `traceparent`: W3C trace context, passed on to the job.

        Raises InvalidJob with the field that is wrong, Conflict for a key that came with another
        job, Unavailable, whose `key` is the one to submit it with again.
        """
        job = {
            "type": type,
            "payload": payload,
            "urgency": urgency,
            "deadline": deadline,
            "expected_duration": expected_duration,
            "interruptible": interruptible,
            "zones": zones,
            "project": project,
            "labels": labels,
            "timeout": timeout,
            "max_attempts": max_attempts,
        }
        return await self._submit(encoded(job), key, traceparent)

    async def _submit(self, body: bytes, key: str | None, traceparent: str | None = None) -> Job:
        key = uuid.uuid4().hex if key is None else key
        headers = {"Content-Type": "application/json", "Idempotency-Key": header("key", key)}
        if traceparent is not None:
            headers["traceparent"] = header("traceparent", traceparent)
        try:
            answer = await self._transport.ask("POST", "/jobs", body=body, headers=headers)
        except Unavailable as error:
            error.key = key
            raise
        return typed(Job, answer)

    async def plan(self, job: Given) -> Plan:
        """What would be decided about a job if it were submitted now; nothing is submitted.
        `job`: a mapping of what `submit` takes. Raises InvalidJob as `submit` does.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         plan = await client.plan({"type": "training", "urgency": "urgent"})
        ...         print(plan.would, "on", plan.pool)
        >>> asyncio.run(main())
        dispatch on fast
        """
        body = bulk.line(0, job, None).body
        answer = await self._transport.ask(
            "POST",
            "/jobs",
            query=[("dry_run", "true")],
            body=body,
            headers={"Content-Type": "application/json"},
        )
        return typed(Plan, answer)

    async def submit_many(
        self, jobs: Iterable[Given], *, key: str | None = None, at_once: int = _AT_ONCE
    ) -> JobList:
        """Submit many jobs, each a mapping of what `submit` takes, up to 1,000 in a request and
        `at_once` requests at a time; they are taken from `jobs` as they are sent. In the end
        there is a Job for each, in order, as it stood when it was submitted.

        `key`: for all of them; each gets it with its place in the order ("KEY-0", "KEY-1", ...),
        so that submitting all again, after an interruption, makes those that are missing. A
        mapping may also have a "key" of its own.

        Raises Incomplete if there are jobs that were not accepted: those that are wrong are left
        out, and where the gateway is away or refuses us the rest is not tried.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         sweep = ({"type": "training", "payload": {"lr": lr}} for lr in (0.1, 0.01))
        ...         jobs = await client.submit_many(sweep, key="sweep-7")
        ...         again = await client.submit_many(
        ...             [{"type": "training", "payload": {"lr": lr}} for lr in (0.1, 0.01)],
        ...             key="sweep-7",
        ...         )
        ...         print([job.id for job in jobs] == [job.id for job in again])
        >>> asyncio.run(main())
        True
        """
        made: dict[int, Job | None] = {}
        errors: dict[int, OrchestratorError] = {}
        async with aclosing(self.submit_each(jobs, key=key, at_once=at_once)) as all_of_them:
            async for each in all_of_them:
                made[each.index] = each.job
                if each.error is not None:
                    errors[each.index] = each.error
        tried = [made[index] for index in sorted(made)]
        if errors:
            raise Incomplete(_told(len(tried), errors), tried, errors)
        return JobList(job for job in tried if job is not None)

    async def submit_each(
        self,
        jobs: Iterable[Given],
        *,
        key: str | None = None,
        first: int = 0,
        at_once: int = _AT_ONCE,
    ) -> AsyncGenerator[Submitted, None]:
        """As `submit_many`, but tells what came of each job as soon as that is known, in the
        order of the answers, and raises nothing for them; a job may also be a line of JSON.
        `first`: the place of the first one. Ends early where the gateway is away or refuses us.
        """
        if at_once < 1:
            raise ValueError("at_once is 1 or more")
        source, halted = Lines(iter(jobs), key, first), False
        running: set[asyncio.Task[list[Submitted]]] = set()
        try:
            while True:
                while not halted and len(running) < at_once:
                    lines, wrong = source.take()
                    if not lines and not wrong:
                        break
                    if lines:
                        running.add(asyncio.ensure_future(self._send(lines)))
                    for each in wrong:
                        yield each
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in (each for task in done for each in task.result()):
                    halted = halted or _halts(each.error)
                    yield each
        finally:
            for task in running:
                task.cancel()

    async def _send(self, lines: list[Line]) -> list[Submitted]:
        """What came of each line of a request, sent again while some have no answer."""
        done: list[Submitted] = []
        retries = self._transport.retries()
        while len(lines) > 1:
            try:
                answers = await self._together(lines)
            except OrchestratorError as error:
                if error.status != 413:
                    return done + [_failed(each, error) for each in lines]
                half = len(lines) // 2  # as it takes less in a request than we thought
                return [*done, *await self._send(lines[:half]), *await self._send(lines[half:])]
            outcomes = [await self._outcome(lines, each, answers) for each in answers.results]
            late = [each for each in outcomes if isinstance(each.error, Unavailable)]
            done += [each for each in outcomes if not isinstance(each.error, Unavailable)]
            if not late:
                return done
            try:
                assert late[0].error is not None
                await retries.wait(late[0].error)
            except OrchestratorError:
                return done + late
            again = {each.index for each in late}
            lines = [each for each in lines if each.index in again]
        return [*done, await self._alone(lines[0])]

    async def _alone(self, line: Line) -> Submitted:
        try:
            job = await self._submit(line.body, line.key, line.traceparent)
        except OrchestratorError as error:
            return _failed(line, error)
        return Submitted(index=line.index, job=job)

    async def _together(self, lines: list[Line]) -> Answers:
        answer = await self._transport.ask(
            "POST",
            "/jobs",
            body=bulk.ndjson(lines),
            headers={"Content-Type": "application/x-ndjson"},
            results=True,
        )
        answers = typed(Answers, answer)
        if [each.line for each in answers.results] != list(range(1, len(lines) + 1)):
            raise OrchestratorError("the gateway's answer is not understood: not one for each line")
        return answers

    async def _outcome(
        self, lines: Sequence[Line], result: LineAnswer, answers: Answers
    ) -> Submitted:
        line = lines[result.line - 1]
        if result.status not in (200, 202):
            error = of_problem(result.status, result.problem, None, submitting=True)
            return _failed(line, error)
        repeated = result.status == 200
        state = result.state if repeated else "submitted"
        if state is None or answers.submitted_at is None:
            # Only alone are we told more, and by its key it is the same job.
            found = await self._alone(line)
            return msgspec.structs.replace(found, repeated=repeated)
        job = bulk.accepted(line, result.id, state, answers.submitted_at)
        return Submitted(index=line.index, job=job, repeated=repeated)


def _failed(line: Line, error: OrchestratorError) -> Submitted:
    own = copy.copy(error)
    if isinstance(own, Unavailable):
        own.key = line.key
    return Submitted(index=line.index, error=own)


def _halts(error: OrchestratorError | None) -> bool:
    """Whether it is about more than one job."""
    return error is not None and not isinstance(error, InvalidRequest | Conflict)


def _told(tried: int, errors: Mapping[int, OrchestratorError]) -> str:
    first = min(errors)
    rest = "; the rest was not tried" if any(map(_halts, errors.values())) else ""
    return (
        f"{len(errors)} of {tried} jobs were not submitted{rest}; see `errors`."
        f" Number {first}: {errors[first]}"
    )
