"""FastStream on a Redis stream with a consumer group, one handler call a message, no logging."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

from benchmarks.peers.slots import stamp

broker = RedisBroker(os.environ["BENCH_REDIS"], logger=None)
app = FastStream(broker, logger=None)

# From the start of the stream, so that jobs sent before the first worker are not skipped.
STREAM = StreamSub("bench", group="bench", consumer="worker", last_id="0", max_records=100)


@broker.subscriber(stream=STREAM)
async def noop(job: list[int]) -> None:
    stamp(*job)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    sender = RedisBroker(os.environ["BENCH_REDIS"], logger=None)

    async def send(number: int, sent: int) -> None:
        await sender.publish([number, sent], stream="bench")

    async with sender:
        yield send
