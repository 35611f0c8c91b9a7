"""Consumer groups: each entry goes to one member, and stays his until it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from shop import items_of, order

from streams.commit import Committer
from streams.group import Group, Lease
from streams.keys import Partition
from streams.testing import until

NewGroup = Callable[..., Group]


@pytest.fixture
async def group(new_group: NewGroup) -> Group:
    group = new_group()
    await group.ensure()
    return group


async def pending(redis: Redis, stream: str) -> int:
    summary = await redis.execute_command("XPENDING", stream, "shipping")
    return int(summary[0])


async def consumers(redis: Redis, stream: str) -> set[str]:
    return {each["name"].decode() for each in await redis.xinfo_consumers(stream, "shipping")}


# -- reading --------------------------------------------------------------------------------


async def test_what_came_before_the_first_member_is_work_too(
    committer: Committer, orders: str, new_group: NewGroup
) -> None:
    await order(committer, orders, "tea")
    group = new_group()
    await group.ensure()
    await group.ensure()  # once more does no harm
    assert items_of(await group.take(10)) == ["tea"]


async def test_an_entry_goes_to_one_member_only(
    committer: Committer, orders: str, group: Group, new_group: NewGroup
) -> None:
    await order(committer, orders, "tea", "jam", "bread")
    assert items_of(await group.take(2)) == ["tea", "jam"]
    assert items_of(await new_group("you").take(2)) == ["bread"]
    assert await group.take(2) == []


async def test_lanes_are_taken_in_order_of_urgency(
    committer: Committer, orders: str, partition: Partition, new_group: NewGroup
) -> None:
    express = partition.key("orders.express")
    group = new_group("me", express, orders)
    await group.ensure()
    await order(committer, orders, "tea", "jam", "bread")
    await order(committer, express, "medicine", "plasters")
    assert items_of(await group.take(3)) == ["medicine", "plasters", "tea"]
    await order(committer, express, "bandage")
    assert items_of(await group.take(1)) == ["bandage"]
    assert items_of(await group.take(3)) == ["jam", "bread"]


async def test_take_never_takes_more_than_asked_for(
    committer: Committer, redis: Redis, orders: str, group: Group
) -> None:
    await order(committer, orders, *map(str, range(10)))
    assert len(await group.take(3)) == 3
    assert await pending(redis, orders) == 3  # what was not taken is free for others
    assert await group.take(0) == []


async def test_wait_ends_with_the_next_entry(
    committer: Committer, orders: str, group: Group
) -> None:
    waiting = asyncio.create_task(group.wait(10, 5000))
    await order(committer, orders, "tea")
    assert items_of(await asyncio.wait_for(waiting, 2)) == ["tea"]


async def test_wait_gives_up_in_time(group: Group) -> None:
    assert await asyncio.wait_for(group.wait(10, 10), 2) == []


async def test_without_the_group_there_is_an_error(new_group: NewGroup) -> None:
    with pytest.raises(ResponseError, match="NOGROUP"):
        await new_group().take(1)


# -- pending entries ------------------------------------------------------------------------


async def test_own_pending_entries_can_be_read_again(
    committer: Committer, orders: str, group: Group, new_group: NewGroup
) -> None:
    """After a crash or a lost reply, whoever comes back under the same name finds his own."""
    await order(committer, orders, "tea", "jam", "bread")
    taken = await group.take(2)
    await new_group("you").take(1)
    came_back = new_group("me")
    found = await came_back.own_pending(10)
    assert [entry.id for entry in found] == [entry.id for entry in taken]
    assert items_of(found) == ["tea", "jam"]


async def test_own_pending_entries_come_in_pages(
    committer: Committer, orders: str, group: Group
) -> None:
    await order(committer, orders, "tea", "jam", "bread")
    await group.take(3)
    for again in (False, True):
        first = await group.own_pending(2, again=again)
        rest = await group.own_pending(2, {orders: first[-1].id}, again=again)
        assert items_of(first) + items_of(rest) == ["tea", "jam", "bread"]
        assert await group.own_pending(2, {orders: rest[-1].id}, again=again) == []


async def test_deliveries_are_counted(committer: Committer, orders: str, group: Group) -> None:
    await order(committer, orders, "tea")
    (entry,) = await group.take(1)
    assert entry.deliveries == 1
    (entry,) = await group.own_pending(1)
    assert entry.deliveries == 2
    # Looking again within one life of the reader is no further delivery.
    for _ in range(2):
        (entry,) = await group.own_pending(1, again=True)
        assert (entry.deliveries, items_of([entry])) == (2, ["tea"])
    (entry,) = await group.claim(0, 1)
    assert entry.deliveries == 3


async def test_a_pending_entry_that_was_trimmed_is_a_fault(
    committer: Committer, redis: Redis, orders: str, group: Group
) -> None:
    await order(committer, orders, "tea")
    await group.take(1)
    await redis.xtrim(orders, maxlen=0, approximate=False)
    for again in (False, True):
        (entry,) = await group.own_pending(10, again=again)
        assert entry.messages == ()
        assert entry.faults[0].reason == "the entry was trimmed while it was pending"


async def test_a_silent_member_is_relieved_of_his_entries(
    committer: Committer, orders: str, group: Group, new_group: NewGroup
) -> None:
    await order(committer, orders, "tea", "jam")
    await group.take(2)
    you = new_group("you")
    assert await you.claim(60_000, 10) == []  # he has been silent, but not for long
    claimed = await until(lambda: you.claim(20, 10))
    assert items_of(claimed) == ["tea", "jam"]
    assert [entry.deliveries for entry in claimed] == [2, 2]
    assert await group.own_pending(10) == []


async def test_claim_takes_no_more_than_asked_for(
    committer: Committer, orders: str, partition: Partition, new_group: NewGroup
) -> None:
    express = partition.key("orders.express")
    me, you = new_group("me", express, orders), new_group("you", express, orders)
    await me.ensure()
    await order(committer, orders, "tea", "jam")
    await order(committer, express, "medicine")
    await me.take(3)
    assert items_of(await you.claim(0, 2)) == ["medicine", "tea"]


async def test_claiming_what_was_trimmed_ends(
    committer: Committer, redis: Redis, orders: str, group: Group, new_group: NewGroup
) -> None:
    await order(committer, orders, "tea", "jam")
    await group.take(2)
    await redis.xtrim(orders, maxlen=1, approximate=False)
    assert items_of(await new_group("you").claim(0, 10)) == ["jam"]
    assert await pending(redis, orders) == 1


async def test_a_read_that_was_cancelled_may_have_been_answered(
    committer: Committer, redis: Redis, orders: str, group: Group
) -> None:
    """What was delivered unseen is found among one's own pending entries."""
    seen: list[str] = []
    for number in range(20):
        reading = asyncio.create_task(group.wait(10, 1000))
        await order(committer, orders, str(number))
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            seen += items_of(await reading)
    seen += items_of(await group.take(100))
    unseen = set(items_of(await group.own_pending(100))) - set(seen)
    assert sorted({*seen, *unseen}, key=int) == [str(number) for number in range(20)]


# -- leases ---------------------------------------------------------------------------------


async def test_a_lease_is_renewed_while_the_record_says_it_is_ours(
    committer: Committer, redis: Redis, orders: str, partition: Partition, group: Group,
    permanent: list[str],
) -> None:  # fmt: skip
    permanent.append("order:*")
    await order(committer, orders, "tea", "jam", "bread")
    entries = await group.take(3)
    records = [partition.key(f"order:{n}") for n in range(3)]
    await redis.hset(records[0], mapping={"attempt": "1", "pause": "later"})
    await redis.hset(records[1], mapping={"attempt": "1", "cancel": "changed my mind"})
    await redis.hset(records[2], mapping={"attempt": "2"})  # somebody else's by now
    leases = [
        Lease(orders, entry.id, record, "1") for entry, record in zip(entries, records, strict=True)
    ]
    lost = Lease(orders, entries[0].id, partition.key("order:none"), "1")

    await until(lambda: idle_for(redis, orders, 30))
    signals = await group.renew([*leases, lost], "attempt", "cancel", "pause")

    assert signals == [["", "later"], ["changed my mind", ""], None, None]
    # Renewed entries are fresh again, while the third is on its way to being claimed.
    rows = await redis.execute_command("XPENDING", orders, "shipping", "-", "+", 10)
    idle = [row[2] for row in rows]
    assert max(idle[:2]) < idle[2]
    assert [row[3] for row in rows] == [1, 1, 1]  # renewing is no delivery


async def idle_for(redis: Redis, stream: str, ms: int) -> bool:
    rows = await redis.execute_command("XPENDING", stream, "shipping", "-", "+", 10)
    return all(row[2] >= ms for row in rows)


async def test_renewing_an_acknowledged_entry_does_not_revive_it(
    committer: Committer, redis: Redis, orders: str, partition: Partition, group: Group,
    permanent: list[str],
) -> None:  # fmt: skip
    permanent.append("order")
    await order(committer, orders, "tea")
    (entry,) = await group.take(1)
    await redis.hset(partition.key("order"), "attempt", "1")
    await redis.xack(orders, "shipping", entry.id)
    await group.renew([Lease(orders, entry.id, partition.key("order"), "1")], "attempt", "cancel")
    assert await pending(redis, orders) == 0


async def test_nothing_to_renew(group: Group) -> None:
    assert await group.renew([], "attempt", "cancel") == []


# -- leaving --------------------------------------------------------------------------------


async def test_who_holds_nothing_can_leave(
    committer: Committer, redis: Redis, orders: str, group: Group
) -> None:
    await order(committer, orders, "tea")
    (entry,) = await group.take(1)
    await group.leave()
    assert await consumers(redis, orders) == {"me"}  # with him, his entry would be forgotten
    await redis.xack(orders, "shipping", entry.id)
    await group.leave()
    assert await consumers(redis, orders) == set()


async def test_leaving_concerns_oneself_only(
    committer: Committer, redis: Redis, orders: str, group: Group, new_group: NewGroup
) -> None:
    you = new_group("you")
    await group.take(1)
    await you.take(1)
    await redis.execute_command("XGROUP", "CREATECONSUMER", orders, "shipping", "you")
    await redis.execute_command("XGROUP", "CREATECONSUMER", orders, "shipping", "me")
    await group.leave()
    assert await consumers(redis, orders) == {"you"}


async def test_the_idle_are_removed_unless_they_hold_something(
    committer: Committer, redis: Redis, orders: str, group: Group, new_group: NewGroup
) -> None:
    for name in ("gone", "gone too"):
        await redis.execute_command("XGROUP", "CREATECONSUMER", orders, "shipping", name)
    await order(committer, orders, "tea")
    await new_group("holder").take(1)
    assert await group.remove_idle(60_000) == 0
    removed = 0
    while removed < 2:
        removed += await until(lambda: group.remove_idle(20))
    assert await consumers(redis, orders) == {"holder"}
    assert await pending(redis, orders) == 1


async def test_leaving_a_group_that_is_gone(redis: Redis, orders: str, group: Group) -> None:
    await redis.delete(orders)
    await group.leave()
    assert await group.remove_idle(0) == 0
