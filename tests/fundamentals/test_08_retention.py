"""Streams stay bounded, but nothing undelivered or pending is ever cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from shop import items, items_of, order

from streams.commit import Committer
from streams.group import Group
from streams.retention import trim

NewGroup = Callable[..., Group]
COUNT = 2000  # several of the nodes that approximate trimming drops whole


async def fill(committer: Committer, orders: str) -> None:
    await order(committer, orders, *(str(number) for number in range(COUNT)))


async def drain(group: Group) -> None:
    while entries := await group.take(500):
        await group.redis.xack(group.lanes[0], group.name, *(entry.id for entry in entries))


async def test_what_everybody_is_done_with_goes(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await fill(committer, orders)
    await drain(group)
    went = await trim(redis, orders, older_than_ms=3_600_000, max_entries=100)
    assert await redis.xlen(orders) == COUNT - went
    assert 100 <= COUNT - went < 100 + COUNT // 4  # whole nodes only
    assert (await items(redis, orders))[-1] == str(COUNT - 1)


async def test_the_young_are_kept_within_the_number(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await fill(committer, orders)
    await drain(group)
    assert await trim(redis, orders, older_than_ms=3_600_000, max_entries=COUNT) == 0


async def test_the_old_go_even_within_the_number(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await fill(committer, orders)
    await drain(group)
    # "Older than" a time to come, for the age that a test has no time for.
    assert await trim(redis, orders, older_than_ms=-60_000, max_entries=COUNT) > COUNT // 2


async def test_the_undelivered_are_kept(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await fill(committer, orders)
    assert await trim(redis, orders, older_than_ms=-60_000, max_entries=0) == 0
    # What one group is done with, another may not have seen.
    await drain(group)
    late = Group(redis, group.codec, "billing", "me", [orders])
    await late.ensure()
    assert await trim(redis, orders, older_than_ms=-60_000, max_entries=0) == 0
    assert items_of(await late.take(COUNT)) == [str(number) for number in range(COUNT)]


@pytest.mark.parametrize("place", [0, 7, COUNT // 2, COUNT - 1])
async def test_the_pending_are_kept(
    place: int, committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await fill(committer, orders)
    entries = await group.take(COUNT)
    done = [entry.id for index, entry in enumerate(entries) if index != place]
    await redis.xack(orders, group.name, *done)
    await trim(redis, orders, older_than_ms=-60_000, max_entries=0)
    (entry,) = await group.own_pending(10)
    assert items_of([entry]) == [str(place)]


async def test_trimming_beside_a_busy_group(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    """Everything may change between its questions; still nobody misses an entry."""
    group = new_group()
    await group.ensure()
    await fill(committer, orders)
    seen: list[str] = []

    async def consume() -> None:
        while entries := await group.take(50):
            seen.extend(items_of(entries))
            await group.redis.xack(orders, group.name, *(entry.id for entry in entries))

    consuming = asyncio.create_task(consume())
    while not consuming.done():
        await trim(redis, orders, older_than_ms=-60_000, max_entries=0)
    await consuming
    assert seen == [str(number) for number in range(COUNT)]


async def test_a_stream_without_entries_or_none_at_all(
    redis: Redis, orders: str, new_group: NewGroup
) -> None:
    assert await trim(redis, orders, older_than_ms=0, max_entries=0) == 0
    await new_group().ensure()
    assert await trim(redis, orders, older_than_ms=0, max_entries=0) == 0
    assert await redis.exists(orders)
