"""dramatiq: 8 threads, its default, and no result backend.

`dramatiq_queue_prefetch` is 100: at its default of two messages a thread the consumer backs off
whenever the threads are busy, and short jobs run at a quarter of the speed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.slots import stamp

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int, sent: int) -> None:
    stamp(number, sent)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    async def send(number: int, sent: int) -> None:
        noop.send(number, sent)

    yield send
