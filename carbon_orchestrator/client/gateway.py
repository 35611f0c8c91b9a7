"""The client for asyncio: all that a gateway can be asked."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

import msgspec

from carbon_orchestrator.client.batch import submit_all, together
from carbon_orchestrator.client.errors import (
    Conflict,
    InvalidRequest,
    OrchestratorError,
    Unavailable,
)
from carbon_orchestrator.client.following import Followed, Pace
from carbon_orchestrator.client.grid import Carbon, Emissions, Health
from carbon_orchestrator.client.jobs import Job
from carbon_orchestrator.client.submission import Deadline, Duration, encoded
from carbon_orchestrator.client.transport import Transport

T = TypeVar("T")
_PAGE = 200
_AT_ONCE = 8  # looks at jobs that are followed
_GRACE_SECONDS = 1.0


class Client:
    """Asks a gateway, from asyncio. Close it, or use it as a context manager.

    `url`: where the gateway is; $CARBON_URL, else http://127.0.0.1:8000. `api_key`:
    $CARBON_API_KEY by default. `timeout`: seconds for one answer. `patience`: seconds for which
    a request is sent again by itself while the gateway is away, restarts, or has no room; no job
    is ever made twice by that. Every method raises OrchestratorError; ValueError for a URL or
    key that cannot be one.

    >>> import asyncio
    >>> from carbon_orchestrator import Client
    >>> async def main() -> None:
    ...     async with Client() as client:
    ...         job = await client.submit("training", payload={"epochs": 3}, urgency="urgent")
    ...         job = await client.wait(job, timeout=60)
    ...         print(job.state, "on", job.pool, "after", job.attempts, "attempt")
    >>> asyncio.run(main())
    completed on fast after 1 attempt
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 15.0,
        patience: float = 30.0,
    ) -> None:
        self._transport = Transport(url, api_key, timeout=timeout, patience=patience)

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # -- in --------------------------------------------------------------------------------------

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
        return await self._submit(job, key, traceparent)

    async def _submit(
        self, job: Mapping[str, Any], key: str | None, traceparent: str | None = None
    ) -> Job:
        key = uuid.uuid4().hex if key is None else key
        headers = {"Content-Type": "application/json", "Idempotency-Key": _header("key", key)}
        if traceparent is not None:
            headers["traceparent"] = _header("traceparent", traceparent)
        try:
            answer = await self._transport.ask("POST", "/jobs", body=encoded(job), headers=headers)
        except Unavailable as error:
            error.key = key
            raise
        return _as(Job, answer)

    async def submit_many(
        self, jobs: Iterable[Mapping[str, Any]], *, key: str | None = None, at_once: int = 16
    ) -> list[Job]:
        """Submit many jobs, each a mapping of what `submit` takes, `at_once` at a time; they are
        taken from `jobs` as they are sent. In the end there is a Job for each, in order.

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
        return await submit_all(self._submit, jobs, key, at_once)

    async def cancel(self, job: Job | str) -> Job:
        """Ask for the end of a job; the job as it stood then. Raises NotFound, and Conflict
        where it has ended already, unless by a cancellation."""
        job_id = _id(job)
        try:
            answer = await self._transport.ask("DELETE", _path(job_id))
        except Conflict as ended:
            # An answer may have been lost: then it ended because we asked before.
            try:
                now = await self.job(job_id)
            except OrchestratorError:  # a key that may not read
                raise ended from None
            if now.state != "cancelled":
                raise
            return now
        return _as(Job, answer)

    # -- out -------------------------------------------------------------------------------------

    async def job(self, job: Job | str) -> Job:
        """A job as it stands now, with its timeline. Raises NotFound."""
        return _as(Job, await self._transport.ask("GET", _path(_id(job))))

    async def jobs(
        self, state: str | Iterable[str] = (), *, limit: int | None = None
    ) -> AsyncGenerator[Job, None]:
        """Jobs in one of the states, or all, the latest submission first, `limit` at most. They
        are fetched in pages, as they are asked for.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         async for job in client.jobs(state=["submitted", "deferred"], limit=10):
        ...             print(job.id, job.planned_start, job.reason)
        >>> asyncio.run(main())
        """
        states = [state] if isinstance(state, str) else list(state)
        left, cursor = limit, None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            query = [("limit", str(size)), *(("state", each) for each in states)]
            if cursor is not None:
                query.append(("cursor", cursor))
            page = _as(_Page, await self._transport.ask("GET", "/jobs", query=query))
            for job in page.jobs:
                yield job
            left = None if left is None else left - len(page.jobs)
            if page.next is None or page.next == cursor:
                return
            cursor = page.next

    async def follow(
        self, jobs: Job | str | Iterable[Job | str], *, timeout: float | None = None
    ) -> AsyncGenerator[Job, None]:
        """One job or several, each whenever it has changed: its state, its attempt or its plan.
        Ends when all have ended. They are looked at again and again, at growing intervals up to
        5 s. Raises NotEnded after `timeout` seconds, NotFound.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         job = await client.submit("training", urgency="urgent")
        ...         async for now in client.follow(job):
        ...             last = now.state
        ...         print(last)
        >>> asyncio.run(main())
        completed
        """
        named = [jobs] if isinstance(jobs, Job | str) else jobs
        followed, pace = Followed(map(_id, named)), Pace()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while looked := followed.open:
            changed = False
            for start in range(0, len(looked), _AT_ONCE):
                for job in await self._look(looked[start : start + _AT_ONCE], deadline, followed):
                    if followed.look(job):
                        changed = True
                        yield job
            if not followed.open:
                return
            wait = pace.next(len(looked), changed)
            if deadline is not None:
                wait = min(wait, deadline - loop.time())
                if wait <= 0:
                    raise followed.late()
            await asyncio.sleep(wait)

    async def _look(
        self, job_ids: list[str], deadline: float | None, followed: Followed
    ) -> list[Job]:
        """Jobs as they stand now. Raises NotEnded where that is not told in time."""
        try:
            # The last look, at the deadline, has to have some time for itself.
            grace = asyncio.get_running_loop().time() + _GRACE_SECONDS
            async with asyncio.timeout_at(None if deadline is None else max(deadline, grace)):
                return await together(map(self.job, job_ids))
        except TimeoutError:
            raise followed.late() from None

    @overload
    async def wait(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
        self, jobs: Job | str, *, timeout: float | None = None
    ) -> Job: ...

    @overload
    async def wait(
        self, jobs: Iterable[Job | str], *, timeout: float | None = None
    ) -> list[Job]: ...

    async def wait(
        self, jobs: Job | str | Iterable[Job | str], *, timeout: float | None = None
    ) -> Job | list[Job]:
        """Wait until one job has ended, or several have; as they ended, in the order given.

        A job that failed is returned like any other: look at `succeeded`. Raises NotEnded after
        `timeout` seconds, NotFound.
        """
        one = isinstance(jobs, Job | str)
        named = [_id(each) for each in ([jobs] if isinstance(jobs, Job | str) else jobs)]
        ended: dict[str, Job] = {}
        async for job in self.follow(named, timeout=timeout):
            ended[job.id] = job
        return ended[named[0]] if one else [ended[job_id] for job_id in named]

    async def carbon(self, zone: str | None = None) -> Carbon:
        """The grid of a zone, the home zone by default: its intensity, band and forecast.
        Raises NotFound."""
        query = [] if zone is None else [("zone", zone)]
        return _as(Carbon, await self._transport.ask("GET", "/carbon", query=query))

    async def emissions(
        self,
        by: str | Iterable[str] = "day",
        *,
        first: date | str | None = None,
        last: date | str | None = None,
    ) -> Emissions:
        """Energy and emissions, summed up by "day", "project", "type", "pool", "zone", or several
        of them; of the days (UTC) from `first` to `last`, both included."""
        query = [("by", by if isinstance(by, str) else ",".join(by))]
        query += [
            (name, day if isinstance(day, str) else f"{day:%Y-%m-%d}")
            for name, day in (("from", first), ("to", last))
            if day is not None
        ]
        return _as(Emissions, await self._transport.ask("GET", "/emissions", query=query))

    async def health(self) -> Health:
        """Whether all is well, and if not, what is missing."""
        return _as(Health, await self._transport.ask("GET", "/health"))

    # -- end -------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Page(msgspec.Struct):
    jobs: list[Job]
    next: str | None = None


def _as(kind: type[T], answer: Any) -> T:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise OrchestratorError(
            f"the gateway's answer is not understood ({error}): is its version ours?"
        ) from None


def _id(job: Job | str) -> str:
    return job if isinstance(job, str) else job.id


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _header(name: str, value: str) -> str:
    """`value`, if a header can carry it as it is. Raises InvalidRequest."""
    if not value or not value.isascii() or not value.isprintable() or value.strip() != value:
        raise InvalidRequest(f"{name} is of printable ASCII characters, no blanks at its ends")
    return value
