"""SAQ: 20 jobs at once, as many as its queue runs commands at once; results not kept, uvloop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from saq import Queue

from benchmarks.peers.slots import stamp

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
queue = Queue.from_url(os.environ["BENCH_REDIS"])


async def noop(context: dict[str, Any], *, number: int, sent: int) -> None:
    stamp(number, sent)


settings = {"queue": queue, "functions": [noop], "concurrency": 20}


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    async def send(number: int, sent: int) -> None:
        await queue.enqueue("noop", number=number, sent=sent, ttl=-1)

    await queue.connect()
    try:
        yield send
    finally:
        await queue.disconnect()
