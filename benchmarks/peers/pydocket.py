"""docket (pydocket): 50 tasks at once, looked for each 10 ms, records not kept, uvloop.

The worker is started by its Python interface because its command takes whole seconds only and
keeps records. At 100 tasks at once its connection pool runs dry and executions are put off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import uvloop
from docket import Docket, Worker

from benchmarks.peers.slots import stamp


def bench() -> Docket:
    return Docket("bench", os.environ["BENCH_REDIS"], execution_ttl=timedelta(0))


async def noop(number: int, sent: int) -> None:
    stamp(number, sent)


@asynccontextmanager
async def client() -> AsyncIterator[Callable[[int, int], Awaitable[None]]]:
    async with bench() as docket:

        async def send(number: int, sent: int) -> None:
            await docket.add(noop)(number, sent)

        yield send


async def work() -> None:
    async with bench() as docket:
        docket.register(noop)
        interval = timedelta(milliseconds=10)
        async with Worker(docket, concurrency=50, minimum_check_interval=interval) as worker:
            await worker.run_forever()


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(work())
