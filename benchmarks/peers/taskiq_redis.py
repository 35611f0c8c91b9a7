"""taskiq-redis: its acknowledging stream broker, 100 tasks at once (default), no result backend."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from taskiq_redis import RedisStreamBroker

from benchmarks.peers.slots import stamp

broker = RedisStreamBroker(url=os.environ["BENCH_REDIS"])


@broker.task
async def noop(number: int, sent: int) -> None:
    stamp(number, sent)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    async def send(number: int, sent: int) -> None:
        await noop.kiq(number, sent)

    await broker.startup()
    try:
        yield send
    finally:
        await broker.shutdown()
