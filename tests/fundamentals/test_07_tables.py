"""A table: the latest of a stream, kept in memory by every reader that wants it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from shop import CODEC, Ordered, order

from streams.codec import entry_fields
from streams.commit import Committer, Transaction
from streams.event import Message
from streams.table import Table
from streams.testing import running, until


class Stock:
    """What was ordered last, and everything that was applied."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.refused = ""

    def apply(self, message: Message) -> None:
        if message.event.item == self.refused:
            raise RuntimeError("not that")
        self.applied.append(message.event.item)


@pytest.fixture
def stock() -> Stock:
    return Stock()


@pytest.fixture
def table(new_client: Callable[[], Redis], orders: str, stock: Stock) -> Table:
    return Table(new_client(), CODEC, orders, stock.apply)


async def test_loading_applies_all_that_is_there(
    committer: Committer, orders: str, table: Table, stock: Stock
) -> None:
    await order(committer, orders, "tea", "jam")
    await table.load()
    assert stock.applied == ["tea", "jam"]
    await order(committer, orders, "bread")
    await table.load()  # goes on where it was
    assert stock.applied == ["tea", "jam", "bread"]


async def test_a_long_stream_is_loaded_in_pages(
    committer: Committer, orders: str, table: Table, stock: Stock
) -> None:
    names = [str(number) for number in range(2500)]
    await order(committer, orders, *names)
    await table.load()
    assert stock.applied == names


async def test_an_empty_stream_is_no_trouble(table: Table, stock: Stock) -> None:
    await table.load()
    assert stock.applied == []


async def test_it_keeps_up_with_the_stream(
    committer: Committer, orders: str, table: Table, stock: Stock
) -> None:
    await order(committer, orders, "tea")
    await table.load()
    async with running(table.run):
        await order(committer, orders, "jam")
        await until(lambda: stock.applied == ["tea", "jam"])
        await order(committer, orders, "bread")
        await until(lambda: stock.applied == ["tea", "jam", "bread"])


async def test_every_reader_has_a_table_of_its_own(
    committer: Committer, orders: str, new_client: Callable[[], Redis]
) -> None:
    stocks = [Stock(), Stock()]
    await order(committer, orders, "tea")
    for stock in stocks:
        await Table(new_client(), CODEC, orders, stock.apply).load()
    assert [stock.applied for stock in stocks] == [["tea"], ["tea"]]


async def test_what_cannot_be_decoded_is_skipped(
    committer: Committer, orders: str, table: Table, stock: Stock
) -> None:
    await committer.apply(Transaction().add_entry(orders, ["type", "shop.ordered", "data", "{"]))
    await order(committer, orders, "tea")
    await table.load()
    assert stock.applied == ["tea"]


async def test_an_event_that_cannot_be_applied_does_not_stop_it(
    committer: Committer, orders: str, table: Table, stock: Stock
) -> None:
    stock.refused = "glue"
    await order(committer, orders, "tea", "glue", "jam")
    async with running(table.run):
        await until(lambda: stock.applied == ["tea", "jam"])


async def test_a_lost_connection_is_made_again(
    committer: Committer, redis: Redis, orders: str, table: Table, stock: Stock
) -> None:
    await order(committer, orders, "tea")
    async with running(table.run):
        await until(lambda: stock.applied)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await order(committer, orders, "jam")
        await until(lambda: stock.applied == ["tea", "jam"])


async def test_a_stream_that_was_begun_anew_is_read_from_its_start(
    redis: Redis, orders: str, table: Table, stock: Stock
) -> None:
    """A server that lost its data may give lower ids than before, if its clock was behind."""

    async def add(entry_id: str, item: str) -> None:
        fields = entry_fields(Ordered(item), "till")
        await redis.execute_command("XADD", orders, entry_id, *fields)

    await add("5000-0", "tea")
    await table.load()
    await redis.delete(orders)
    await add("4000-0", "jam")
    async with running(table.run):
        await until(lambda: stock.applied == ["tea", "jam"])
        await add("4000-1", "bread")
        await until(lambda: stock.applied == ["tea", "jam", "bread"])


async def test_one_can_wait_until_the_table_has_reached_an_entry(
    committer: Committer, orders: str, table: Table, stock: Stock, redis: Redis
) -> None:
    async with running(table.run):
        await order(committer, orders, "tea", "jam")
        rows = await redis.execute_command("XREVRANGE", orders, "+", "-", "COUNT", 1)
        last = rows[0][0].decode()
        assert await table.reached(last, 5)
        assert stock.applied == ["tea", "jam"]
        ms = int(last.partition("-")[0])
        assert not await table.reached(f"{ms + 1}-0", 0.02)


async def test_what_went_with_a_lost_server_is_read_anew(
    redis: Redis, orders: str, table: Table, stock: Stock
) -> None:
    """A replica that stood in may lack the last entries, and have others by now."""

    async def add(entry_id: str, item: str) -> None:
        fields = entry_fields(Ordered(item), "till")
        await redis.execute_command("XADD", orders, entry_id, *fields)

    await add("5000-0", "tea")
    await add("6000-0", "jam")
    await table.load()
    await redis.execute_command("XDEL", orders, "6000-0")
    await add("7000-0", "bread")
    async with running(table.run):
        await until(lambda: stock.applied == ["tea", "jam", "tea", "bread"])
