"""The one primitive: guarded writes, many of them in one atomic round trip."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from shop import CODEC, Ordered, items, order

from streams.codec import entry_fields, envelope
from streams.commit import MAX_BYTES, MAX_TRANSACTIONS, Committer, Transaction
from streams.errors import CommitTooLarge, WriteFailed
from streams.group import Group
from streams.keys import Partition
from streams.scripts import COMMIT


@pytest.fixture
def record(partition: Partition, permanent: list[str]) -> str:
    """A hash."""
    permanent.append("record")
    return partition.key("record")


@pytest.fixture
def line(partition: Partition, permanent: list[str]) -> str:
    """A sorted set."""
    permanent.append("line")
    return partition.key("line")


def emitted(rows: list[tuple[bytes, list[bytes]]]) -> list[list[object]]:
    """For each entry the numbers in its batch."""
    return [json.loads(fields[1]) for _, fields in rows]


# -- guards ---------------------------------------------------------------------------------


async def test_writes_happen_if_the_guard_holds(
    committer: Committer, redis: Redis, record: str
) -> None:
    claim = Transaction().require_field(record, "state", "").set_fields(record, {"state": "new"})
    assert await committer.apply(claim) is True
    assert await redis.hgetall(record) == {b"state": b"new"}
    # The same again finds the field set, and changes nothing.
    again = Transaction().require_field(record, "state", "").set_fields(record, {"state": "newer"})
    assert await committer.apply(again) is False
    assert await redis.hget(record, "state") == b"new"


async def test_a_field_may_be_guarded_by_several_values(
    committer: Committer, redis: Redis, record: str
) -> None:
    async def move(new: str, *accepted: str) -> bool:
        transaction = Transaction().require_field(record, "state", *accepted)
        return await committer.apply(transaction.set_fields(record, {"state": new}))

    assert await move("open", "", "closed")
    assert await move("closed", "open", "ajar")
    assert not await move("ajar", "open")
    assert await redis.hget(record, "state") == b"closed"


async def test_all_guards_must_hold(committer: Committer, redis: Redis, record: str) -> None:
    await redis.hset(record, mapping={"a": "1", "b": "2"})
    both = Transaction().require_field(record, "a", "1").require_field(record, "b", "1")
    assert not await committer.apply(both.set_fields(record, {"c": "3"}))
    assert not await redis.hexists(record, "c")


async def test_a_member_of_a_sorted_set_is_taken_by_one_only(
    committer: Committer, redis: Redis, line: str, record: str
) -> None:
    await redis.zadd(line, {"tea": 1})
    takes = [Transaction().require_zrem(line, "tea").increment(record, "taken", 1) for _ in "123"]
    assert await committer.commit(takes) == [True, False, False]
    assert await redis.hget(record, "taken") == b"1"


async def test_a_member_moves_between_sorted_sets_at_the_score_that_it_has(
    committer: Committer, redis: Redis, line: str, record: str
) -> None:
    await redis.zadd(line, {"tea": 7})
    moves = [
        Transaction().shift(line, record, "tea"),
        Transaction().put(line, 9, "rum").shift(line, record, "rum"),
        Transaction().shift(line, record, "ale"),  # which is not there
        Transaction().drop(line, "tea").shift(line, record, "tea"),  # nor any more
    ]
    assert await committer.commit(moves) == [True] * 4
    assert await redis.zrange(line, 0, -1) == []
    assert await redis.zrange(record, 0, -1, withscores=True) == [(b"tea", 7.0), (b"rum", 9.0)]
    await committer.apply(Transaction().shift(record, line, "tea").shift(line, record, "tea"))
    assert await redis.zrange(record, 0, -1, withscores=True) == [(b"tea", 7.0), (b"rum", 9.0)]


async def test_a_key_is_created_once(committer: Committer, redis: Redis, record: str) -> None:
    creations = [
        Transaction().require_absent(record).set_fields(record, {"by": name}) for name in "ab"
    ]
    assert await committer.commit(creations) == [True, False]
    assert await redis.hgetall(record) == {b"by": b"a"}


async def test_an_entry_is_deleted_once(
    committer: Committer, redis: Redis, orders: str, record: str
) -> None:
    await order(committer, orders, "tea")
    ((entry_id, _),) = await redis.execute_command("XRANGE", orders, "-", "+")
    drop = Transaction().require_deleted(orders, entry_id.decode()).increment(record, "dropped", 1)
    assert [await committer.apply(drop), await committer.apply(drop)] == [True, False]
    assert await redis.hget(record, "dropped") == b"1"


async def test_processing_twice_takes_effect_once(
    committer: Committer, redis: Redis, orders: str, record: str, new_group: Callable[..., Group]
) -> None:
    """Exactly once: the entry's acknowledgement is the guard of its effects."""
    await order(committer, orders, "tea")
    slow, quick = new_group("slow"), new_group("quick")
    await slow.ensure()
    (first,) = await slow.take(1)
    (second,) = await quick.claim(0, 1)
    assert first.id == second.id

    async def handle(entry_id: str) -> bool:
        guard = Transaction().require_ack(orders, "shipping", entry_id)
        return await committer.apply(guard.increment(record, "shipped", 1))

    assert [await handle(first.id), await handle(second.id)] == [True, False]
    assert await redis.hget(record, "shipped") == b"1"


async def test_steps_are_tried_once_the_guard_holds(
    committer: Committer, redis: Redis, record: str
) -> None:
    transaction = Transaction().require_field(record, "outer", "")
    transaction.set_fields(record, {"outer": "done"})
    transaction.step().require_field(record, "outer", "done").set_fields(record, {"inner": "1"})
    transaction.step().require_field(record, "outer", "").set_fields(record, {"never": "1"})
    # Whether a step held is no matter for the others, nor for the whole.
    transaction.step().step().set_fields(record, {"innermost": "1"})
    assert await committer.commit([transaction, transaction]) == [True, False]
    assert await redis.hgetall(record) == {b"outer": b"done", b"inner": b"1", b"innermost": b"1"}


# -- writes ---------------------------------------------------------------------------------


async def test_values_are_text_bytes_or_int_and_arrive_unchanged(
    committer: Committer, redis: Redis, record: str
) -> None:
    values: dict[str, str | bytes | int] = {
        "text": "tea ☕ \x00",
        "bytes": bytes(range(256)),
        "int": -(1 << 62),
        "": "",
    }
    await committer.apply(Transaction().set_fields(record, values))
    assert await redis.hgetall(record) == {
        b"text": "tea ☕ \x00".encode(),
        b"bytes": bytes(range(256)),
        b"int": b"-4611686018427387904",
        b"": b"",
    }


async def test_any_single_key_command_can_be_a_write(
    committer: Committer, redis: Redis, record: str, line: str
) -> None:
    change = Transaction().write("ZADD", line, 7, "tea").set_fields(record, {"a": "1"})
    await committer.apply(change.write("EXPIRE", record, 60))
    assert await redis.zscore(line, "tea") == 7
    assert 0 < await redis.ttl(record) <= 60


async def test_emitted_events_of_a_batch_share_entries(
    committer: Committer, redis: Redis, orders: str
) -> None:
    await committer.commit([Transaction().emit(orders, b"%d" % number) for number in range(250)])
    rows = await redis.execute_command("XRANGE", orders, "-", "+")
    batches = emitted(rows)
    assert [len(batch) for batch in batches] == [100, 100, 50]
    assert [number for batch in batches for number in batch] == list(range(250))


async def test_large_events_are_spread_over_entries(
    committer: Committer, redis: Redis, orders: str
) -> None:
    event = b'"%s"' % (b"x" * 40_000)
    await committer.commit([Transaction().emit(orders, event) for _ in range(3)])
    assert await redis.xlen(orders) == 3


async def test_increments_of_a_batch_are_summed(
    committer: Committer, redis: Redis, record: str
) -> None:
    amounts = [2**53 - 1, -(2**52), 7, -8]
    await committer.commit([Transaction().increment(record, "grams", each) for each in amounts])
    await committer.apply(Transaction().increment(record, "grams", 1))
    assert await redis.hget(record, "grams") == b"%d" % (sum(amounts) + 1)


def test_an_amount_that_would_not_be_exact_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not below 2\*\*53"):
        Transaction().increment("key", "field", 2**53)


def test_other_values_are_refused_when_they_are_given() -> None:
    """Not when it is sent: by then they would hold up the transactions of others."""
    for value in ("\ud800", 1.5, None):
        with pytest.raises((TypeError, ValueError)):
            Transaction().write("HSET", "key", "field", value)  # type: ignore[arg-type]


# -- batches --------------------------------------------------------------------------------


async def test_nothing_to_commit_is_no_round_trip(committer: Committer, redis: Redis) -> None:
    assert await committer.commit([]) == []
    assert await redis.dbsize() == 0


async def test_concurrent_callers_share_a_round_trip(
    committer: Committer, redis: Redis, record: str
) -> None:
    """Group commit. While one batch is under way, what comes in meanwhile forms the next."""
    before = await calls(redis)
    takes = [
        Transaction().require_field(record, str(n // 2), "").set_fields(record, {str(n // 2): n})
        for n in range(100)
    ]
    answers = await asyncio.gather(*map(committer.apply, takes))
    assert answers == [True, False] * 50  # and each caller gets his own answer
    assert await calls(redis) - before <= 3


async def calls(redis: Redis) -> int:
    """How many scripts the server has run."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def test_more_than_fits_into_one_batch_goes_in_several(
    committer: Committer, redis: Redis, record: str
) -> None:
    count = 2 * MAX_TRANSACTIONS + 1
    transactions = [Transaction().increment(record, "n", 1) for _ in range(count)]
    assert await committer.commit(transactions) == [True] * count
    assert await redis.hget(record, "n") == b"%d" % count


async def test_batches_are_cut_by_size_too(committer: Committer, redis: Redis, record: str) -> None:
    large = b"x" * (MAX_BYTES // 3)
    transactions = [Transaction().set_fields(record, {str(n): large}) for n in range(4)]
    assert await committer.commit(transactions) == [True] * 4
    assert await redis.hlen(record) == 4


async def test_a_transaction_that_fits_into_no_batch_is_refused(
    committer: Committer, redis: Redis, record: str
) -> None:
    too_large = Transaction().set_fields(record, {"a": b"x" * MAX_BYTES})
    with pytest.raises(CommitTooLarge):
        await committer.apply(too_large)
    assert await committer.apply(Transaction().set_fields(record, {"a": "1"}))


async def test_a_cancelled_caller_commits_all_the_same(
    committer: Committer, redis: Redis, record: str
) -> None:
    task = asyncio.create_task(committer.apply(Transaction().set_fields(record, {"a": "1"})))
    await asyncio.sleep(0)  # it has handed in its transaction, and waits
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await committer.settled()
    assert await redis.hget(record, "a") == b"1"


async def test_a_refused_write_harms_no_other_transaction(
    committer: Committer, redis: Redis, orders: str, record: str
) -> None:
    """The server takes nothing back, so a defect must stay with whoever has it."""
    await redis.set(record, "no hash", ex=60)
    good = [Transaction().emit(orders, envelope(Ordered(each), "till")) for each in ("tea", "jam")]
    bad = Transaction().set_fields(record, {"a": "1"})
    with pytest.raises(WriteFailed, match="WRONGTYPE") as failure:
        await committer.commit([good[0], bad, good[1]])
    assert failure.value.failed == (1,)
    assert await items(redis, orders) == ["tea", "jam"]


async def test_a_refused_write_is_reported_to_its_caller_only(
    committer: Committer, redis: Redis, orders: str, record: str
) -> None:
    await redis.set(record, "no hash", ex=60)
    good = Transaction().add_entry(orders, entry_fields(Ordered("tea"), "till"))
    bad = Transaction().set_fields(record, {"a": "1"})
    answers = await asyncio.gather(
        committer.apply(good), committer.apply(bad), committer.apply(good), return_exceptions=True
    )
    assert [answers[0], answers[2]] == [True, True]
    assert isinstance(answers[1], WriteFailed)


async def test_sums_and_events_for_a_key_of_another_type_fail_alone_too(
    committer: Committer, redis: Redis, orders: str, partition: Partition
) -> None:
    """They are written at the end of the batch, but checked where they stand."""
    text = partition.key("text")
    await redis.set(text, "no stream, no hash", ex=60)
    good = Transaction().emit(orders, envelope(Ordered("tea"), "till"))
    bad = [Transaction().emit(text, b"1"), Transaction().increment(text, "a", 1)]
    with pytest.raises(WriteFailed) as failure:
        await committer.commit([bad[0], good, bad[1]])
    assert failure.value.failed == (0, 2)
    assert await items(redis, orders) == ["tea"]


async def test_what_fails_at_the_very_end_is_reported_for_all(
    committer: Committer, redis: Redis, orders: str, record: str
) -> None:
    """Whose events they were is not known by then; better too many told than one lost."""
    emit = Transaction().emit(record, b"1")
    rival = Transaction().set_fields(record, {"a": "1"})  # makes a hash of it meanwhile
    with pytest.raises(WriteFailed, match="WRONGTYPE") as failure:
        await committer.commit([emit, rival, Transaction().require_absent(record)])
    assert failure.value.failed == (0, 1)  # but not the one whose guard did not hold


async def test_a_field_that_is_no_number_cannot_be_incremented(
    committer: Committer, redis: Redis, orders: str, record: str
) -> None:
    await redis.hset(record, "name", "tea")
    good = Transaction().increment(record, "n", 1)
    with pytest.raises(WriteFailed, match="not an integer") as failure:
        await committer.commit([Transaction().increment(record, "name", 1), good])
    assert failure.value.failed == (0,)
    assert await redis.hgetall(record) == {b"name": b"tea", b"n": b"1"}


# -- the script and its receipt -----------------------------------------------------------------


async def test_a_server_that_forgot_the_script_is_sent_it_again(
    committer: Committer, redis: Redis, record: str
) -> None:
    for expected in (b"1", b"2", b"3"):
        assert await committer.apply(Transaction().increment(record, "n", 1))
        assert await redis.hget(record, "n") == expected
        await redis.script_flush()


async def test_a_receipt_expires(committer: Committer, redis: Redis, record: str) -> None:
    await committer.apply(Transaction().increment(record, "n", 1))
    assert 0 < await redis.ttl(committer.receipt) <= 3600


async def test_a_batch_sent_again_is_answered_from_the_receipt(
    redis: Redis, partition: Partition, record: str
) -> None:
    async def send(sequence: int, transaction: Transaction) -> bytes:
        keys: set[str] = set()
        body = transaction.pack(keys)
        receipt = partition.key("receipt:test")
        return bytes(await COMMIT(redis, [receipt, *keys], [body, sequence, 60]))

    increment = Transaction().increment(record, "n", 1)
    refused = Transaction().require_absent(record).set_fields(record, {"a": "1"})
    assert [await send(1, increment), await send(1, increment)] == [b"1", b"1"]
    assert [await send(2, refused), await send(2, refused)] == [b"0", b"0"]
    assert await redis.hgetall(record) == {b"n": b"1"}
    # A copy that took so long that its successor came before it changes nothing either.
    await send(1, increment)
    assert await redis.hgetall(record) == {b"n": b"1"}


async def test_what_was_made_from_a_lost_entry_acknowledges_nothing(
    committer: Committer, redis: Redis, partition: Partition, orders: str, record: str
) -> None:
    """A guard of a step, but of the whole: the message waits to be decided about anew."""
    await order(committer, orders, "tea")
    group = Group(redis, CODEC, "shop", "one", [orders])
    await group.ensure()
    (entry,) = await group.take(10)

    def decided(basis: str) -> Transaction:
        outer = Transaction().require_ack(orders, "shop", entry.id)
        outer.step().step().made_from(orders, basis).set_fields(record, {"basis": basis})
        return outer

    assert not await committer.apply(decided("1-0"))
    assert not await redis.exists(record)
    assert await committer.apply(decided(entry.id))
    assert await redis.hgetall(record) == {b"basis": entry.id.encode()}
