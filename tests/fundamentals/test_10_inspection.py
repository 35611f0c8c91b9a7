"""What state streams and groups are in, for health checks and operators."""

from __future__ import annotations

from collections.abc import Callable

from redis.asyncio import Redis
from shop import CODEC, order

from streams.commit import Committer
from streams.embedded import EmbeddedServer
from streams.group import Group
from streams.inspection import GroupState, group_states
from streams.testing import leaked_keys, until

NewGroup = Callable[..., Group]


async def test_an_absent_stream_has_no_groups(redis: Redis, orders: str) -> None:
    assert await group_states(redis, orders) == []


async def test_a_group_shows_its_lag_and_what_is_pending(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await order(committer, orders, "tea", "jam", "bread")
    assert await group_states(redis, orders) == [GroupState(orders, "shipping", 3, 0, 0, 0)]
    await group.take(2)
    assert await group_states(redis, orders) == [GroupState(orders, "shipping", 1, 2, 1, 1)]


async def test_every_group_is_shown(redis: Redis, orders: str, new_group: NewGroup) -> None:
    await new_group().ensure()
    await Group(redis, CODEC, "billing", "me", [orders]).ensure()
    assert [each.group for each in await group_states(redis, orders)] == ["billing", "shipping"]


async def test_a_silent_consumer_is_not_live(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await order(committer, orders, "tea")
    await group.take(1)

    async def silent() -> bool:
        (state,) = await group_states(redis, orders, live_ms=20)
        return state == GroupState(orders, "shipping", 0, 1, 1, 0)

    await until(silent)


async def test_a_lag_that_the_server_cannot_tell_is_none(
    committer: Committer, redis: Redis, orders: str, new_group: NewGroup
) -> None:
    group = new_group()
    await group.ensure()
    await order(committer, orders, "tea", "jam", "bread")
    await group.take(1)
    rows = await redis.execute_command("XRANGE", orders, "-", "+")
    await redis.xdel(orders, rows[1][0])
    (state,) = await group_states(redis, orders)
    assert state.lag is None


async def test_keys_that_would_stay_forever_are_found(own_server: EmbeddedServer) -> None:
    """The check that every test here is followed by can fail."""
    async with Redis.from_url(own_server.url) as redis:
        await redis.xadd("shop:{0}:orders", {"a": "b"})
        await redis.set("shop:{0}:receipt:1", "1:1", ex=60)
        await redis.set("shop:{0}:receipt:2", "1:1")
        await redis.hset("shop:{0}:totals:1", "a", "1")
        await redis.set("stray", "1")
        assert await leaked_keys(redis, ["totals:*"]) == ["shop:{0}:receipt:2", "stray"]
