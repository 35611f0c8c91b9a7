"""streaq: 16 tasks at once (default), results not kept, task logs silenced, uvloop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from streaq import Worker

from benchmarks.peers.slots import stamp

worker: Worker[None] = Worker(
    redis_url=os.environ["BENCH_REDIS"], anyio_kwargs={"use_uvloop": True}
)


@worker.task(ttl=0, silent=True)
async def noop(number: int, sent: int) -> None:
    stamp(number, sent)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    async def send(number: int, sent: int) -> None:
        await noop.enqueue(number, sent)

    async with worker:
        yield send
