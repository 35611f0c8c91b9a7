"""The client for asyncio: all that a gateway can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from datetime import datetime
from typing import Any, TypeVar, overload

import msgspec

from carbon_orchestrator.client.asking import Asking
from carbon_orchestrator.client.connection import id_of, path_of, typed
from carbon_orchestrator.client.errors import Conflict, OrchestratorError
from carbon_orchestrator.client.following import Followed, Pace
from carbon_orchestrator.client.jobs import Job, JobList
from carbon_orchestrator.client.live import Live
from carbon_orchestrator.client.submission import written
from carbon_orchestrator.client.submitting import Submitting

T = TypeVar("T")
_PAGE = 200
_AT_ONCE = 8  # looks at jobs that are followed
_GRACE_SECONDS = 1.0


class Client(Submitting, Asking, Live):
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

    async def cancel(self, job: Job | str) -> Job:
        """Ask for the end of a job; the job as it stood then. Raises NotFound, and Conflict
        where it has ended already, unless by a cancellation."""
        try:
            answer = await self._transport.ask("DELETE", path_of(job))
        except Conflict as ended:
            # An answer may have been lost: then it ended because we asked before.
            try:
                now = await self.job(job)
            except OrchestratorError:  # a key that may not read
                raise ended from None
            if now.state != "cancelled":
                raise
            return now
        return typed(Job, answer)

    async def job(self, job: Job | str) -> Job:
        """A job as it stands now, with its timeline. Raises NotFound."""
        return typed(Job, await self._transport.ask("GET", path_of(job)))

    async def jobs(
        self,
        state: str | Iterable[str] = (),
        *,
        type: str | Iterable[str] = (),
        pool: str | Iterable[str] = (),
        project: str | Iterable[str] = (),
        urgency: str | Iterable[str] = (),
        submitted_from: datetime | str | None = None,
        submitted_to: datetime | str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Jobs in one of the states, of one of the types and so on, or all; `limit` at most. They
        are fetched in pages, as they are asked for. `sort`: "-submitted_at", the latest first, if
        not given; "submitted_at", or "planned_start" for those that are deferred.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         async for job in client.jobs(state=["submitted", "deferred"], limit=10):
        ...             print(job.id, job.planned_start, job.reason)
        >>> asyncio.run(main())
        """
        asked = {
            "state": _list(state),
            "type": _list(type),
            "pool": _list(pool),
            "project": _list(project),
            "urgency": _list(urgency),
            "submitted_from": written("submitted_from", submitted_from),
            "submitted_to": written("submitted_to", submitted_to),
            "sort": sort,
        }
        left, cursor = limit, None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = typed(_Page, await self.get("/jobs", **asked, limit=size, cursor=cursor))
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
        followed, pace = Followed(map(id_of, named)), Pace()
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
                return await _together(map(self.job, job_ids))
        except TimeoutError:
            raise followed.late() from None

    @overload
    async def wait(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
        self, jobs: Job | str, *, timeout: float | None = None
    ) -> Job: ...

    @overload
    async def wait(self, jobs: Iterable[Job | str], *, timeout: float | None = None) -> JobList: ...

    async def wait(
        self, jobs: Job | str | Iterable[Job | str], *, timeout: float | None = None
    ) -> Job | JobList:
        """Wait until one job has ended, or several have; as they ended, in the order given.

        A job that failed is returned like any other: look at `succeeded`. Raises NotEnded after
        `timeout` seconds, NotFound.
        """
        one = isinstance(jobs, Job | str)
        named = [id_of(each) for each in ([jobs] if isinstance(jobs, Job | str) else jobs)]
        ended: dict[str, Job] = {}
        async for job in self.follow(named, timeout=timeout):
            ended[job.id] = job
        return ended[named[0]] if one else JobList(ended[job_id] for job_id in named)


class _Page(msgspec.Struct):
    jobs: list[Job]
    next: str | None = None


def _list(given: str | Iterable[str]) -> str | None:
    """Values by commas; None if there are none."""
    return (given if isinstance(given, str) else ",".join(given)) or None


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What they return, in order; when one fails, or we are cancelled, none of them goes on."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
