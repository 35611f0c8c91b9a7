"""Sends jobs by a peer's own client; runs inside the peer's environment.

    python -m benchmarks.peers.submit MODULE FIRST COUNT RATE

RATE is in jobs/s; 0 sends as fast as the client takes them, 64 at a time.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Awaitable, Callable

IN_FLIGHT = 64

Send = Callable[[int, int], Awaitable[None]]


async def flood(send: Send, first: int, count: int) -> None:
    """Keep IN_FLIGHT sends going until all are sent."""
    numbers = iter(range(first, first + count))

    async def lane() -> None:
        for number in numbers:
            await send(number, time.monotonic_ns())

    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))


async def pace(send: Send, first: int, count: int, rate: float) -> None:
    """Send at a steady rate, whether or not the sends before have come back."""
    began = time.perf_counter()
    tasks = []
    for index in range(count):
        await asyncio.sleep(max(0, began + index / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(_stamped(send, first + index)))
    await asyncio.gather(*tasks)


async def _stamped(send: Send, number: int) -> None:
    await send(number, time.monotonic_ns())


async def submit(module: str, first: int, count: int, rate: float) -> None:
    async with importlib.import_module(module).client() as send:
        if rate:
            await pace(send, first, count, rate)
        else:
            await flood(send, first, count)


def main() -> None:
    module, first, count, rate = sys.argv[1:]
    asyncio.run(submit(module, int(first), int(count), float(rate)))


if __name__ == "__main__":
    main()
