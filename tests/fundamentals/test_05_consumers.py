"""The loop around a processor: a batch in, one outcome per entry out, one commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from redis.asyncio import Redis
from shop import Ordered, Shipping, items, items_of, order

from streams.codec import entry_fields, envelope
from streams.commit import Committer, Transaction
from streams.consumer import Consumer
from streams.dead_letters import DeadLetters
from streams.event import Entry
from streams.group import Group
from streams.inspection import group_states
from streams.stop import Stop
from streams.testing import running, until

NewConsumer = Callable[..., Consumer]


@pytest.fixture
def letters(new_client: Callable[[], Redis], committer: Committer) -> DeadLetters:
    return DeadLetters(new_client(), committer)


async def settled(redis: Redis, orders: str) -> bool:
    """Whether all that is in the stream has been delivered and acknowledged."""
    states = await group_states(redis, orders)
    return bool(states) and all(each.lag == 0 and each.pending == 0 for each in states)


async def test_a_batch_comes_in_and_its_outcomes_go_out(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping, new_consumer: NewConsumer
) -> None:
    await order(committer, orders, "tea", "jam", "tea")
    async with running(new_consumer(shipping).run):
        await until(lambda: redis.xlen(shipping.shipped))
        await order(committer, orders, "bread")
        await until(lambda: redis.hexists(shipping.totals, "bread"))
    assert shipping.batches == [["tea", "jam", "tea"], ["bread"]]
    assert await items(redis, shipping.shipped) == ["tea", "jam", "tea", "bread"]
    assert await redis.hgetall(shipping.totals) == {b"tea": b"2", b"jam": b"1", b"bread": b"1"}
    assert await redis.xlen(shipping.shipped) == 2  # one commit, one entry


async def test_an_outcome_with_a_guard_is_tried_but_need_not_hold(
    committer: Committer, redis: Redis, orders: str, new_consumer: NewConsumer,
    shipping: Shipping, letters: DeadLetters,
) -> None:  # fmt: skip
    """Deciding that an entry changes nothing is processing it too."""

    async def first_come(entries: Sequence[Entry]) -> list[Transaction]:
        return [
            Transaction()
            .require_field(shipping.totals, "winner", "")
            .set_fields(shipping.totals, {"winner": item})
            for item in items_of(entries)
        ]

    await order(committer, orders, "tea", "jam")
    async with running(new_consumer(first_come).run):
        await until(lambda: redis.hexists(shipping.totals, "winner"))
        await until(lambda: settled(redis, orders))
    assert await redis.hgetall(shipping.totals) == {b"winner": b"tea"}
    assert await letters.list() == []


async def test_a_consumer_that_was_too_slow_changes_nothing(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, new_group: Callable[..., Group],
) -> None:  # fmt: skip
    go_on = asyncio.Event()
    asleep = asyncio.Event()

    async def slow(entries: Sequence[Entry]) -> list[Transaction]:
        asleep.set()
        await go_on.wait()
        return await shipping(entries)

    await order(committer, orders, "tea")
    async with running(new_consumer(slow, "slow").run):
        await asyncio.wait_for(asleep.wait(), 5)
        async with running(new_consumer(shipping, "quick", lease_ms=50).run):
            await until(lambda: redis.hexists(shipping.totals, "tea"))
        go_on.set()
        await until(lambda: len(shipping.batches) == 2)
    assert shipping.batches == [["tea"], ["tea"]]  # it was processed twice,
    assert await redis.hgetall(shipping.totals) == {b"tea": b"1"}  # and took effect once
    assert await items(redis, shipping.shipped) == ["tea"]


async def test_the_entries_of_a_dead_consumer_are_taken_over(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, new_group: Callable[..., Group],
) -> None:  # fmt: skip
    dead = new_group("dead")
    await dead.ensure()
    await order(committer, orders, "tea", "jam")
    await dead.take(1)
    async with running(new_consumer(shipping, lease_ms=50).run):
        await until(lambda: settled(redis, orders))
    assert await redis.hgetall(shipping.totals) == {b"tea": b"1", b"jam": b"1"}


async def test_a_consumer_that_comes_back_takes_up_its_own_at_once(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, new_group: Callable[..., Group],
) -> None:  # fmt: skip
    before = new_group("me")
    await before.ensure()
    await order(committer, orders, "tea")
    await before.take(1)
    async with running(new_consumer(shipping, "me", lease_ms=60_000).run):
        await until(lambda: redis.hexists(shipping.totals, "tea"))


# -- what cannot be processed ---------------------------------------------------------------


async def test_what_cannot_be_decoded_goes_to_the_dead_letters_as_it_came(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, letters: DeadLetters,
) -> None:  # fmt: skip
    original: list[str | bytes] = [
        "type",
        "shop.ordered",
        "data",
        b"\xff{not json",
        "remark",
        b"\x00\xfe",
    ]
    await committer.apply(Transaction().add_entry(orders, original))
    await order(committer, orders, "tea")
    async with running(new_consumer(shipping).run):
        await until(lambda: settled(redis, orders))
    (letter,) = await letters.list()
    assert letter.fields == tuple(
        each.encode() if isinstance(each, str) else each for each in original
    )
    assert letter.reason.startswith("shop.ordered: ")
    ((entry_id, _), _) = await redis.execute_command("XRANGE", orders, "-", "+")
    assert (letter.stream, letter.entry_id) == (orders, entry_id.decode())
    assert (letter.group, letter.deliveries) == ("shipping", 1)
    assert await items(redis, shipping.shipped) == ["tea"]  # and the stream goes on


async def test_the_good_events_of_a_batch_take_effect_and_the_bad_one_is_buried(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, letters: DeadLetters,
) -> None:  # fmt: skip
    bad = b'{"type":"shop.stolen","data":{"item":"tea"}}'
    good = [envelope(Ordered(each), "till") for each in ("tea", "jam")]
    batch = b"[%s,%s,%s]" % (good[0], bad, good[1])
    await committer.apply(Transaction().add_entry(orders, ["batch", batch]))
    async with running(new_consumer(shipping).run):
        await until(lambda: settled(redis, orders))
    assert await items(redis, shipping.shipped) == ["tea", "jam"]
    (letter,) = await letters.list()
    assert letter.reason.startswith("batch item 1: unknown event type 'shop.stolen'")
    assert letter.fields == (b"batch", b"[" + bad + b"]")


class Choking(Shipping):
    """Fails at an item, a number of times."""

    def __init__(self, shipping: Shipping, item: str, times: int = 1 << 30) -> None:
        super().__init__(shipping.shipped, shipping.totals)
        self.item = item
        self.left = times

    async def __call__(self, entries: Sequence[Entry]) -> list[Transaction]:
        outcomes = await super().__call__(entries)
        if self.item in items_of(entries) and self.left:
            self.left -= 1
            raise RuntimeError(f"cannot wrap {self.item}: \udcff")
        return outcomes


async def test_an_entry_that_fails_does_not_hold_up_its_batch(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, letters: DeadLetters,
) -> None:  # fmt: skip
    choking = Choking(shipping, "glue")
    await order(committer, orders, "tea", "glue", "jam")
    async with running(new_consumer(choking, lease_ms=100, max_deliveries=3).run):
        await until(lambda: redis.hexists(shipping.totals, "jam"))
        assert await items(redis, shipping.shipped) == ["tea", "jam"]
        (letter,) = await until(letters.list)
        await until(lambda: settled(redis, orders))
    # First with the others, then alone, until it has failed as often as is allowed.
    assert Counter(tuple(batch) for batch in choking.batches if "glue" in batch) == {
        ("tea", "glue", "jam"): 1,
        ("glue",): 3,
    }
    assert letter.reason.startswith("processing failed 3 times: RuntimeError: cannot wrap glue")
    assert letter.fields[1] == b"shop.ordered"


async def test_an_entry_that_fails_at_first_is_tried_again(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, letters: DeadLetters,
) -> None:  # fmt: skip
    await order(committer, orders, "glue")
    async with running(new_consumer(Choking(shipping, "glue", times=2), lease_ms=100).run):
        await until(lambda: settled(redis, orders))
    assert await items(redis, shipping.shipped) == ["glue"]
    assert await letters.list() == []


async def test_an_entry_that_kills_its_consumers_is_buried(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, new_group: Callable[..., Group], letters: DeadLetters,
) -> None:  # fmt: skip
    """Nobody lived to count its failures, but the server counted its deliveries."""
    victim = new_group("victim")
    await victim.ensure()
    await order(committer, orders, "poison")
    await victim.take(1)
    await victim.claim(0, 1)
    async with running(new_consumer(shipping, lease_ms=30, max_deliveries=2).run):
        (letter,) = await until(letters.list)
    assert (letter.reason, letter.deliveries) == ("delivered 3 times without success", 3)
    assert shipping.batches == []


async def test_a_wrong_number_of_outcomes_is_a_failure(
    committer: Committer, redis: Redis, orders: str, new_consumer: NewConsumer,
    letters: DeadLetters,
) -> None:  # fmt: skip
    async def forgetful(entries: Sequence[Entry]) -> list[Transaction]:
        return []

    await order(committer, orders, "tea")
    async with running(new_consumer(forgetful, max_deliveries=1).run):
        (letter,) = await until(letters.list)
    assert "0 outcomes for 1 entries" in letter.reason


async def test_an_outcome_that_the_server_refuses_is_buried(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, letters: DeadLetters,
) -> None:  # fmt: skip
    """It cannot be tried again, for it is half done; nor may it vanish."""

    class Clumsy(Shipping):
        def outcome(self, entry: Entry) -> Transaction:
            outcome = super().outcome(entry)
            if items_of([entry]) == ["jam"]:
                outcome.set_fields(orders, {"a": "stream is no hash"})
            return outcome

    await order(committer, orders, "tea", "jam", "bread")
    clumsy = Clumsy(shipping.shipped, shipping.totals)
    async with running(new_consumer(clumsy).run):
        (letter,) = await until(letters.list)
        await until(lambda: settled(redis, orders))
    assert "WRONGTYPE" in letter.reason
    assert dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))[b"data"].startswith(
        b'{"item":"jam"'
    )
    assert {"tea", "bread"} <= set(await items(redis, shipping.shipped))
    assert len(clumsy.batches) == 1


async def test_a_trimmed_entry_is_buried_so_that_somebody_knows(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, new_group: Callable[..., Group], letters: DeadLetters,
) -> None:  # fmt: skip
    before = new_group("me")
    await before.ensure()
    await order(committer, orders, "tea")
    await before.take(1)
    await redis.xtrim(orders, maxlen=0, approximate=False)
    async with running(new_consumer(shipping, "me").run):
        (letter,) = await until(letters.list)
    assert (letter.reason, letter.fields) == ("the entry was trimmed while it was pending", ())


async def test_what_failed_here_and_was_done_elsewhere_is_forgotten(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping, new_consumer: NewConsumer
) -> None:
    """Else every batch from then on would be taken for the aftermath of a failure."""
    choking = Choking(shipping, "glue")
    consumer = new_consumer(choking, lease_ms=60_000)
    await order(committer, orders, "glue")
    async with running(consumer.run):
        await until(lambda: consumer._failures)
        await redis.xack(orders, "shipping", *[key[1] for key in consumer._failures])
        await order(committer, orders, "tea")
        await until(lambda: redis.hexists(shipping.totals, "tea"))
        await order(committer, orders, "jam")
        await until(lambda: redis.hexists(shipping.totals, "jam"))
        await until(lambda: not consumer._failures)


# -- stopping -------------------------------------------------------------------------------


async def test_stopping_finishes_the_batch_and_leaves_the_group(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping, new_consumer: NewConsumer
) -> None:
    inside = asyncio.Event()

    async def careful(entries: Sequence[Entry]) -> list[Transaction]:
        inside.set()
        await until(stop.is_set)
        return await shipping(entries)

    await order(committer, orders, "tea")
    consumer = new_consumer(careful)
    async with running(consumer.run) as stop:
        await asyncio.wait_for(inside.wait(), 5)
    assert await redis.hgetall(shipping.totals) == {b"tea": b"1"}
    assert await redis.xinfo_consumers(orders, "shipping") == []


async def test_stopping_finishes_what_was_delivered_unseen_too(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: NewConsumer, new_group: Callable[..., Group],
) -> None:  # fmt: skip
    """The stop cuts off a read that may have been answered already."""

    async def cut_off(entries: Sequence[Entry]) -> list[Transaction]:
        if not shipping.batches:
            await order(committer, orders, "jam")
            await new_group("me").take(1)  # as that read would have
            stop.set()
        return await shipping(entries)

    await order(committer, orders, "tea")
    async with running(new_consumer(cut_off).run) as stop:
        await asyncio.wait_for(stop.wait(), 5)
    assert shipping.batches == [["tea"], ["jam"]]
    assert await settled(redis, orders)


async def test_a_stop_does_not_wait_for_the_next_entry(
    orders: str, redis: Redis, shipping: Shipping, new_consumer: NewConsumer
) -> None:
    consumer = new_consumer(shipping)
    consumer.block_ms = 5000
    stop = Stop()
    task = asyncio.create_task(consumer.run(stop))
    await until(lambda: redis.exists(orders))
    stop.set()
    await asyncio.wait_for(task, 2)


async def test_stopping_before_it_began(
    committer: Committer, orders: str, shipping: Shipping, new_consumer: NewConsumer
) -> None:
    await order(committer, orders, "tea")
    stop = Stop()
    stop.set()
    await asyncio.wait_for(new_consumer(shipping).run(stop), 5)
    assert shipping.batches == []


async def test_a_busy_stream_is_stopped_and_continued_without_loss(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping, new_consumer: NewConsumer
) -> None:
    names = [str(number) for number in range(300)]
    for start in range(0, 300, 30):
        async with running(new_consumer(shipping, f"me-{start}").run):
            await committer.commit(
                [
                    Transaction().add_entry(orders, entry_fields(Ordered(name), "till"))
                    for name in names[start : start + 30]
                ]
            )
    async with running(new_consumer(shipping, lease_ms=30).run):
        await until(lambda: settled(redis, orders))
    assert await redis.hgetall(shipping.totals) == {name.encode(): b"1" for name in names}
