"""Folding the books of the past changes nothing about the load to come."""

from __future__ import annotations

import uuid
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbon_orchestrator.accounting.housekeeping import fold
from carbon_orchestrator.router.capacity import BUCKET_MS, Booking, Ledger
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.keys import Partition

times = st.integers(0, 40 * BUCKET_MS)
bookings = st.lists(st.tuples(times, st.integers(1, 10 * BUCKET_MS)), max_size=12)
SERVER = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def free(changes: dict[bytes, bytes], since: int, slots: int) -> object:
    """When a short job finds no room, from `since` on."""
    return Ledger.read(slots, changes).full(BUCKET_MS, since, 60 * BUCKET_MS)


@SERVER
@given(bookings, bookings, st.integers(0, 45), st.integers(1, 4))
async def test_the_load_to_come_stays_as_it_was(
    server_url: str,
    runs: list[tuple[int, int]],
    over: list[tuple[int, int]],
    now: int,
    slots: int,
) -> None:
    """`over` are bookings that are taken back after the folding, though they began before."""
    partition = Partition(f"t{uuid.uuid4().hex[:8]}")
    key = partition.key("books")
    redis, committer = connect(server_url), Committer(connect(server_url), partition)

    def write(runs: list[tuple[int, int]], sign: int = 1) -> Transaction:
        transaction = Transaction()
        for start, length in runs:
            Booking.of(start, start + length).write(transaction, key, sign)
        return transaction

    try:
        await committer.commit([write(runs), write(over)])
        before = await redis.hgetall(key)  # type: ignore[misc]
        change = fold(key, {k.decode(): v.decode() for k, v in before.items()}, now)
        if change is not None:
            # A rival's change in between is noticed, and nothing is lost of it.
            rival = min(int(bucket) for bucket in before)
            await redis.hincrby(key, str(rival), 1)  # type: ignore[misc]
            assert not await committer.apply(change)
            await redis.hincrby(key, str(rival), -1)  # type: ignore[misc]
            assert await committer.apply(change)
        after = await redis.hgetall(key)  # type: ignore[misc]
        assert all(int(bucket) >= now for bucket in after)
        since = now * BUCKET_MS
        assert free(after, since, slots) == free(before, since, slots)
        await committer.apply(write(over, -1))
        left: Counter[bytes] = Counter()
        for start, length in runs:
            booking = Booking.of(start, start + length)
            left[b"%d" % booking.first] += booking.weight
            left[b"%d" % booking.last] -= booking.weight
        rest = {bucket: b"%d" % change for bucket, change in left.items()}
        after = await redis.hgetall(key)  # type: ignore[misc]
        assert free(after, since, slots) == free(rest, since, slots)
    finally:
        await redis.unlink(*[each async for each in redis.scan_iter(partition.key("*"))], key)
        await redis.aclose()
        await committer.aclose()
