"""arq: 100 jobs at once, polling each 10 ms (default 500), results neither kept nor logged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import uvloop
from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers.slots import stamp

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
REDIS = RedisSettings.from_dsn(os.environ["BENCH_REDIS"])
LOGGING = {"version": 1, "root": {"level": "WARNING"}, "disable_existing_loggers": False}


async def noop(context: dict[str, Any], number: int, sent: int) -> None:
    stamp(number, sent)


class Settings:
    functions: ClassVar = [noop]
    redis_settings = REDIS
    max_jobs = 100
    poll_delay = 0.01
    keep_result = 0
    log_results = False


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    pool = await create_pool(REDIS)

    async def send(number: int, sent: int) -> None:
        await pool.enqueue_job("noop", number, sent)

    try:
        yield send
    finally:
        await pool.aclose()
