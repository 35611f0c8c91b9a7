"""Celery: a pool of one thread, results ignored, and the prefetch its guide says for short tasks.

More threads and the default pool, a forked child, were slower with jobs that do nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from celery import Celery

from benchmarks.peers.slots import stamp

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.task_ignore_result = True


@app.task(name="noop")
def noop(number: int, sent: int) -> None:
    stamp(number, sent)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    with app.producer_pool.acquire(block=True) as producer:

        async def send(number: int, sent: int) -> None:
            noop.apply_async((number, sent), producer=producer)

        yield send
