"""Events, and how they lie in the entries of a stream."""

from __future__ import annotations

import json

import msgspec
import pytest
from redis.asyncio import Redis
from shop import CODEC, Ordered, Shipped

from streams.codec import entry_fields, envelope
from streams.commit import Committer, Transaction
from streams.errors import DecodeError
from streams.keys import Partition


def as_bytes(fields: list[str | bytes]) -> tuple[bytes, ...]:
    return tuple(each.encode() if isinstance(each, str) else each for each in fields)


def test_an_event_is_a_struct_with_a_type_name() -> None:
    assert CODEC.event_types == ("shop.ordered", "shop.shipped")
    assert CODEC.event("shop.ordered", b'{"item":"tea"}') == Ordered("tea", quantity=1)


def test_an_entry_carries_one_event_as_a_cloud_event() -> None:
    fields = as_bytes(entry_fields(Ordered("tea", 2), "till-1", traceparent="00-ab-cd-01"))
    named = dict(zip(fields[::2], fields[1::2], strict=True))

    assert named[b"type"] == b"shop.ordered"
    assert json.loads(named[b"data"]) == {"item": "tea", "quantity": 2}

    entry = CODEC.entry("orders", "5-1", fields)
    (message,) = entry.messages
    assert message.event == Ordered("tea", 2)
    assert (message.source, message.traceparent) == ("till-1", "00-ab-cd-01")
    assert (entry.faults, entry.fields) == ((), fields)


def test_the_entry_id_tells_when_it_was_added() -> None:
    fields = as_bytes(entry_fields(Ordered("tea"), "till"))
    (message,) = CODEC.entry("orders", "1700000000123-4", fields).messages
    assert message.at_ms == 1_700_000_000_123


def test_type_and_data_are_all_that_an_outside_publisher_needs() -> None:
    entry = CODEC.entry("orders", "1-1", (b"type", b"shop.shipped", b"data", b'{"item":"tea"}'))
    assert [message.event for message in entry.messages] == [Shipped("tea")]


def test_unknown_fields_are_ignored_so_that_publishers_may_be_newer() -> None:
    data = b'{"item":"tea","wrapping":{"colour":"red"}}'
    entry = CODEC.entry("orders", "1-1", (b"type", b"shop.ordered", b"data", data, b"x", b"y"))
    assert [message.event for message in entry.messages] == [Ordered("tea")]


def test_an_entry_may_carry_a_batch_of_events() -> None:
    batch = b"[%s,%s]" % (envelope(Ordered("tea"), "till"), envelope(Shipped("tea"), "dock"))
    messages = CODEC.entry("orders", "7-0", (b"batch", batch)).messages
    assert [message.event for message in messages] == [Ordered("tea"), Shipped("tea")]
    assert [message.source for message in messages] == ["till", "dock"]
    # Its identity is its entry's id and its index.
    assert [(message.entry_id, message.index) for message in messages] == [("7-0", 0), ("7-0", 1)]


def test_a_source_may_be_any_text() -> None:
    batch = b"[%s]" % envelope(Ordered("tea"), 'the "old"\ntill', traceparent='"')
    (message,) = CODEC.entry("orders", "1-1", (b"batch", batch)).messages
    assert (message.source, message.traceparent) == ('the "old"\ntill', '"')


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((b"type", b"shop.ordered"), "no field 'data'"),
        ((b"data", b"{}"), "no field 'type'"),
        ((b"type", b"shop.stolen", b"data", b"{}"), "unknown event type 'shop.stolen'"),
        ((b"type", b"shop.ordered", b"data", b"{"), "truncated"),
        ((b"type", b"shop.ordered", b"data", b'{"item":1}'), "Expected `str`, got `int`"),
        ((b"type", b"shop.ordered", b"data", b'{"item":"x"}', b"id", b"\xff"), "not UTF-8"),
        ((b"batch", b'{"no":"array"}'), "Expected `array`"),
        ((), "trimmed"),
    ],
)
def test_what_cannot_be_decoded_is_a_fault_not_an_error(
    fields: tuple[bytes, ...], reason: str
) -> None:
    entry = CODEC.entry("orders", "1-1", fields)
    assert entry.messages == ()
    (fault,) = entry.faults
    assert reason in fault.reason
    assert fault.fields == fields


def test_one_bad_event_of_a_batch_leaves_the_others_alone() -> None:
    good = envelope(Ordered("tea"), "till")
    bad = b'{"type":"shop.ordered","data":{"item":null}}'
    entry = CODEC.entry("orders", "1-1", (b"batch", b"[%s,%s,%s]" % (good, bad, good)))
    assert [message.index for message in entry.messages] == [0, 2]
    (fault,) = entry.faults
    assert fault.index == 1
    assert fault.fields == (b"batch", b"[" + bad + b"]")  # as an entry of its own, to try again


def test_deeply_nested_data_is_a_fault_too() -> None:
    deep = b'{"item":"x","wrapping":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    entry = CODEC.entry("orders", "1-1", (b"type", b"shop.ordered", b"data", deep))
    assert len(entry.faults) == 1


def test_the_codec_itself_says_why() -> None:
    with pytest.raises(DecodeError, match=r"unknown event type 'x'; known are shop\.ordered"):
        CODEC.event("x", b"{}")
    with pytest.raises(DecodeError, match=r"shop\.ordered: Object missing required field `item`"):
        CODEC.event("shop.ordered", msgspec.Raw(b"{}"))


def test_the_keys_of_a_partition_share_a_hash_slot() -> None:
    partition = Partition("shop", 3)
    assert partition.key("orders") == "shop:{3}:orders"
    assert partition.name("shop:{3}:orders") == "orders"
    with pytest.raises(ValueError, match="not a key of partition 3"):
        partition.name("shop:{4}:orders")


async def test_any_redis_client_can_publish(
    redis: Redis, committer: Committer, partition: Partition
) -> None:
    orders = partition.key("orders")
    await redis.execute_command(
        "XADD", orders, "*", "type", "shop.ordered", "data", '{"item": "tea"}'
    )
    await committer.apply(Transaction().add_entry(orders, entry_fields(Ordered("jam"), "till")))
    rows = await redis.execute_command("XRANGE", orders, "-", "+")
    events = [
        message.event
        for entry_id, fields in rows
        for message in CODEC.entry(orders, entry_id.decode(), tuple(fields)).messages
    ]
    assert events == [Ordered("tea"), Ordered("jam")]
