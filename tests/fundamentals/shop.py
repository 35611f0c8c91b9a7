"""The events that these tests use: a shop takes orders and ships them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from redis.asyncio import Redis

from streams.codec import Codec, entry_fields, envelope
from streams.commit import Committer, Transaction
from streams.event import Entry


class Ordered(msgspec.Struct, frozen=True):
    """Somebody wants an item."""

    event_type: ClassVar[str] = "shop.ordered"
    item: str
    quantity: int = 1


class Shipped(msgspec.Struct, frozen=True):
    """The item is on its way."""

    event_type: ClassVar[str] = "shop.shipped"
    item: str


CODEC = Codec([Ordered, Shipped])


async def order(committer: Committer, stream: str, *items: str) -> None:
    """Publish one entry for each item, in order."""
    await committer.commit(
        [Transaction().add_entry(stream, entry_fields(Ordered(each), "shop")) for each in items]
    )


async def items(redis: Redis, stream: str) -> list[str]:
    """The items named by all events on a stream, in order."""
    rows = await redis.execute_command("XRANGE", stream, "-", "+")
    return [
        message.event.item
        for entry_id, fields in rows
        for message in CODEC.entry(stream, entry_id.decode(), tuple(fields)).messages
    ]


def items_of(entries: Sequence[Entry]) -> list[str]:
    return [message.event.item for entry in entries for message in entry.messages]


class Shipping:
    """A processor: every order that comes in is shipped, and counted by item."""

    def __init__(self, shipped: str, totals: str) -> None:
        self.shipped = shipped
        self.totals = totals
        self.batches: list[list[str]] = []

    async def __call__(self, entries: Sequence[Entry]) -> list[Transaction]:
        self.batches.append(items_of(entries))
        return [self.outcome(entry) for entry in entries]

    def outcome(self, entry: Entry) -> Transaction:
        outcome = Transaction()
        for message in entry.messages:
            event: Any = message.event
            outcome.emit(self.shipped, envelope(Shipped(event.item), "shipping"))
            outcome.increment(self.totals, event.item, event.quantity)
        return outcome
