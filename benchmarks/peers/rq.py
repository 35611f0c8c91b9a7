"""RQ: its SimpleWorker, which runs jobs in the worker's own process, results not kept.

RQ's notes on performance advise the forking Worker for production and SimpleWorker for jobs of
a few milliseconds; the latter is the faster by far.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis import Redis
from rq import Queue

from benchmarks.peers.slots import stamp


def noop(number: int, sent: int) -> None:
    stamp(number, sent)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    queue = Queue("bench", connection=Redis.from_url(os.environ["BENCH_REDIS"]))

    async def send(number: int, sent: int) -> None:
        queue.enqueue("benchmarks.peers.rq.noop", number, sent, result_ttl=0)

    yield send
