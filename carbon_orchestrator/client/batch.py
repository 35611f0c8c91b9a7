"""Many requests at once, but only so many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from carbon_orchestrator.client.errors import (
    Conflict,
    Incomplete,
    InvalidRequest,
    OrchestratorError,
)
from carbon_orchestrator.client.jobs import Job

T = TypeVar("T")
Submit = Callable[[Mapping[str, Any], str | None, str | None], Awaitable[Job]]

_BESIDE = ("key", "traceparent")  # of what is given with a job, what is not in its body


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What they return, in order; when one fails, or we are cancelled, none of them goes on."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def submit_all(
    submit: Submit, jobs: Iterable[Mapping[str, Any]], key: str | None, at_once: int
) -> list[Job]:
    """Submit them all, `at_once` at a time. Raises Incomplete, ValueError."""
    if at_once < 1:
        raise ValueError("at_once is 1 or more")
    made: list[Job | None] = []
    errors: dict[int, OrchestratorError] = {}
    source, halted = iter(jobs), False

    async def one_by_one() -> None:
        nonlocal halted
        for job in source:  # shared: each of us takes the next
            index = len(made)
            made.append(None)
            own = job.get("key")  # which may be None
            if own is None and key is not None:
                own = f"{key}-{index}"
            body = {name: value for name, value in job.items() if name not in _BESIDE}
            try:
                made[index] = await submit(body, own, job.get("traceparent"))
            except (InvalidRequest, Conflict) as error:  # about this job alone
                errors[index] = error
            except OrchestratorError as error:
                errors[index] = error
                halted = True
            if halted:
                return

    await together(one_by_one() for _ in range(at_once))
    accepted = [job for job in made if job is not None]
    if errors:
        raise Incomplete(_told(len(made), errors, halted), made, errors)
    return accepted


def _told(tried: int, errors: Mapping[int, OrchestratorError], halted: bool) -> str:
    first = min(errors)
    rest = "; the rest was not tried" if halted else ""
    return (
        f"{len(errors)} of {tried} jobs were not submitted{rest}; see `errors`."
        f" Number {first}: {errors[first]}"
    )
