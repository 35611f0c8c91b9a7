"""The books as a router reads them, with bookings of its own under way."""

from __future__ import annotations

import asyncio

from carbon_orchestrator.config import Config, JobType, PoolConfig, complete
from carbon_orchestrator.router.books import Books
from carbon_orchestrator.router.capacity import BUCKET_MS, Booking
from carbon_orchestrator.runtime import Runtime
from streams.commit import Transaction

CONFIG = Config(
    types={"x": JobType(command=["true"])},
    default_types=False,
    pools={"fast": PoolConfig(slots=1), "eco": PoolConfig(slots=1)},
)


async def test_what_is_under_way_is_among_what_is_read(server_url: str) -> None:
    runtime = Runtime(server_url, complete(CONFIG))
    committer, client = runtime.committer(), runtime.connect()
    books = Books(runtime, [committer])
    try:
        await books.read(client)
        assert books.ended_id is None
        booking = Booking.of(4 * BUCKET_MS, 6 * BUCKET_MS)
        books.ledgers["fast", "local"].book(booking)
        change = Transaction()
        booking.write(change, runtime.topology.booked("fast"))
        under_way = asyncio.create_task(committer.commit([change]))
        await asyncio.sleep(0)
        await books.read(client)
        full = books.ledgers["fast", "local"].full(BUCKET_MS, 0, 10 * BUCKET_MS)
        assert full == ((4 * BUCKET_MS, 6 * BUCKET_MS),)
        assert await under_way == [True]
        # A booking made while they are read: they are read once more.
        another = Booking.of(8 * BUCKET_MS, 9 * BUCKET_MS)
        change = Transaction()
        another.write(change, runtime.topology.booked("fast"))
        reading = asyncio.create_task(books.read(client))
        await asyncio.sleep(0)
        books.ledgers["fast", "local"].book(another)
        assert await committer.apply(change)
        await reading
        full = books.ledgers["fast", "local"].full(BUCKET_MS, 0, 10 * BUCKET_MS)
        assert full[1:] == ((8 * BUCKET_MS, 9 * BUCKET_MS),)
        assert books.age < 60
    finally:
        await runtime.aclose()


async def test_they_say_up_to_which_end_they_know_and_who_runs_then(server_url: str) -> None:
    runtime = Runtime(server_url, complete(CONFIG))
    client = runtime.connect()
    books = Books(runtime)
    try:
        entry_id = await client.xadd(runtime.topology.completions, {"type": "x", "data": "{}"})
        await client.zadd(runtime.topology.interruptible, {"a": 1, "c": 2})
        running = await books.read(client, runtime.topology.interruptible, ["a", "b", "c"])
        assert books.ended_id == entry_id.decode()
        assert running == [True, False, True]
    finally:
        await runtime.aclose()
