"""Entries that nobody could process, kept as they came until an operator decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from shop import Ordered, Shipping, items

from streams.codec import entry_fields, timestamp
from streams.commit import Committer, Transaction
from streams.consumer import Consumer
from streams.dead_letters import DeadLetter, DeadLetters, bury, kind
from streams.errors import StreamsError
from streams.testing import running, until

ORIGINAL = (b"type", b"shop.ordered", b"data", b"\xff", b"data", b"twice", b"", b"\x00")


@pytest.fixture
def letters(redis: Redis, committer: Committer) -> DeadLetters:
    return DeadLetters(redis, committer)


async def bury_some(letters: DeadLetters, committer: Committer, orders: str, count: int) -> None:
    for number in range(count):
        burial = Transaction()
        bury(
            burial,
            letters.stream,
            reason=f"reason {number}",
            stream=orders,
            entry_id=f"{number}-0",
            group="shipping",
            deliveries=number,
            fields=ORIGINAL,
        )
        await committer.apply(burial)


async def test_a_letter_says_what_came_from_where_and_why(
    letters: DeadLetters, committer: Committer, orders: str
) -> None:
    before = timestamp()
    await bury_some(letters, committer, orders, 1)
    (letter,) = await letters.list()
    assert (letter.reason, letter.stream, letter.entry_id) == ("reason 0", orders, "0-0")
    assert (letter.group, letter.deliveries) == ("shipping", 0)
    assert before <= letter.time <= timestamp()
    assert letter.fields == ORIGINAL
    assert await letters.get(letter.id) == letter
    assert await letters.get("1-1") is None


async def test_letters_are_listed_in_pages(
    letters: DeadLetters, committer: Committer, orders: str
) -> None:
    await bury_some(letters, committer, orders, 5)
    first = await letters.list(3)
    rest = await letters.list(3, after=first[-1].id)
    assert [each.reason for each in [*first, *rest]] == [f"reason {n}" for n in range(5)]
    assert await letters.list(3, after=rest[-1].id) == []


async def test_retrying_puts_the_original_back_once(
    letters: DeadLetters, committer: Committer, redis: Redis, orders: str
) -> None:
    await bury_some(letters, committer, orders, 1)
    (letter,) = await letters.list()
    assert [await letters.retry(letter), await letters.retry(letter)] == [True, False]
    ((_, fields),) = await redis.execute_command("XRANGE", orders, "-", "+")
    assert tuple(fields) == ORIGINAL
    assert await letters.list() == []


async def test_dropping_deletes_it_once(
    letters: DeadLetters, committer: Committer, redis: Redis, orders: str
) -> None:
    await bury_some(letters, committer, orders, 2)
    first, second = await letters.list()
    assert [await letters.drop(first), await letters.drop(first)] == [True, False]
    assert await letters.retry(first) is False
    assert await letters.list() == [second]
    assert not await redis.exists(orders)


async def test_what_else_is_to_happen_happens_together_with_the_removal(
    letters: DeadLetters, committer: Committer, redis: Redis, orders: str
) -> None:
    await bury_some(letters, committer, orders, 3)
    first, second, third = await letters.list()
    noted = committer.partition.key("noted")

    def note(letter: DeadLetter) -> Transaction:
        return Transaction().add_entry(noted, ["letter", letter.id])

    assert await letters.drop_all([first], note) == [True]
    assert await letters.retry_all([first, second, third], note) == [False, True, True]
    rows = await redis.execute_command("XRANGE", noted, "-", "+")
    told = [fields[1].decode() for _, fields in rows]
    assert told == [first.id, second.id, third.id], "not again for the one that was gone"
    assert await letters.last() is None


def test_reasons_that_differ_in_ids_and_numbers_only_are_of_one_kind() -> None:
    reasons = (
        "delivered 6 times without success",
        "delivered 17 times without success",
    )
    assert {kind(each) for each in reasons} == {"delivered … times without success"}
    job = "0190b5c7-1e2d-7abc-8def-0123456789ab"
    assert kind(f"job {job} at 0xdeadbeef12, entry 1700000000000-3") == "job … at …, entry …"
    assert kind("batch item 3: Expected `int`, got `str`") == (
        "batch item …: Expected `int`, got `str`"
    )
    assert kind("a decade of feedbacks") == "a decade of feedbacks"


async def test_a_letter_without_an_original_cannot_be_retried(
    letters: DeadLetters, committer: Committer, orders: str
) -> None:
    burial = Transaction()
    bury(
        burial,
        letters.stream,
        reason="trimmed",
        stream=orders,
        entry_id="1-0",
        group="shipping",
        deliveries=1,
        fields=(),
    )
    await committer.apply(burial)
    (letter,) = await letters.list()
    with pytest.raises(StreamsError, match="no original"):
        await letters.retry(letter)
    assert await letters.list() == [letter]
    assert await letters.drop(letter)


async def test_a_reason_may_quote_anything(
    letters: DeadLetters, committer: Committer, orders: str
) -> None:
    burial = Transaction()
    bury(
        burial,
        letters.stream,
        reason="\udcff" + "long" * 10_000,
        stream=orders,
        entry_id="1-0",
        group="shipping",
        deliveries=1,
        fields=ORIGINAL,
    )
    await committer.apply(burial)
    (letter,) = await letters.list()
    assert letter.reason.startswith(r"\udcfflong")
    assert len(letter.reason) < 3000


async def test_after_the_defect_is_mended_a_retry_succeeds(
    letters: DeadLetters, committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: Callable[..., Consumer],
) -> None:  # fmt: skip
    async def broken(entries: object) -> list[Transaction]:
        raise RuntimeError("out of paper")

    await committer.apply(Transaction().add_entry(orders, entry_fields(Ordered("tea"), "till")))
    async with running(new_consumer(broken, max_deliveries=1).run):
        (letter,) = await until(letters.list)
    async with running(new_consumer(shipping).run):
        assert await letters.retry(letter)
        await until(lambda: redis.exists(shipping.shipped))
    assert await items(redis, shipping.shipped) == ["tea"]
