"""What must hold of the codec for any bytes, and of commits for any transactions."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from streams.codec import Codec, entry_fields, envelope
from streams.commit import Committer, Transaction
from streams.group import Group
from streams.keys import Partition


class Noted(msgspec.Struct, frozen=True):
    """An event with fields of the kinds that arithmetic and text can go wrong in."""

    event_type: ClassVar[str] = "test.noted"
    text: str
    number: int = 0
    share: float = 0.0
    labels: dict[str, str] = {}


CODEC = Codec([Noted])
#: The server is real, so examples are few; each has many transactions.
SERVER = settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(-(2**63), 2**64 - 1)
notes = st.builds(
    Noted,
    text=texts,
    number=integers,
    share=st.floats(allow_nan=False, allow_infinity=False),
    labels=st.dictionaries(texts, texts, max_size=3),
)


def as_bytes(fields: list[str | bytes]) -> tuple[bytes, ...]:
    return tuple(each.encode() if isinstance(each, str) else each for each in fields)


# -- codec ----------------------------------------------------------------------------------


@given(notes, texts, st.none() | texts)
def test_an_entry_is_read_as_it_was_written(
    note: Noted, source: str, traceparent: str | None
) -> None:
    entry = CODEC.entry("s", "1-1", as_bytes(entry_fields(note, source, traceparent)))
    (message,) = entry.messages
    assert (message.event, message.source, message.traceparent) == (note, source, traceparent)
    assert entry.faults == ()


@given(st.lists(st.tuples(notes, texts, st.none() | texts), max_size=5))
def test_a_batch_is_read_as_it_was_written(events: list[tuple[Noted, str, str | None]]) -> None:
    batch = b"[%s]" % b",".join(envelope(*each) for each in events)
    entry = CODEC.entry("s", "1-1", (b"batch", batch))
    read = [(each.event, each.source, each.traceparent) for each in entry.messages]
    assert read == events
    assert [each.index for each in entry.messages] == list(range(len(events)))
    assert entry.faults == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
almost_json = json_values.map(lambda value: json.dumps(value).encode())
almost_notes = st.fixed_dictionaries(
    {"text": st.text() | json_values}, optional={"number": json_values, "share": json_values}
).map(lambda value: json.dumps(value).encode())
data = st.binary() | almost_json | almost_notes
almost_envelopes = st.builds(
    lambda kind, data: b'{"type":"%s","data":%s}' % (kind, data),
    st.sampled_from([b"test.noted", b"test.other", b'"', b"\xff"]),
    data,
)
names = st.sampled_from([b"type", b"data", b"batch", b"id", b"source", b"traceparent"])
values = (
    st.just(b"test.noted")
    | data
    | st.lists(almost_envelopes | data, max_size=4).map(lambda each: b"[%s]" % b",".join(each))
)


@settings(max_examples=300)
@given(st.lists(st.tuples(names | st.binary(max_size=8), values), max_size=6))
def test_any_bytes_are_events_or_faults_but_never_an_error(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    fields = tuple(each for pair in pairs for each in pair)
    entry = CODEC.entry("s", "1-1", fields)
    assert entry.fields == fields
    indexes = sorted(
        [each.index for each in entry.messages] + [each.index for each in entry.faults]
    )
    assert indexes == list(range(len(indexes)))
    if b"batch" not in dict(pairs):
        assert len(indexes) == 1
    assert all(fault.reason for fault in entry.faults)
    # What a dead letter keeps of it can be put back, and is then found wanting for itself.
    for fault in entry.faults:
        again = CODEC.entry("s", "2-1", fault.fields)
        assert (len(again.messages), len(again.faults)) == (0, 1)


@given(st.integers(4300, 6000), st.sampled_from(["number", "share", "text", "other"]))
def test_numbers_of_thousands_of_digits_are_no_error(digits: int, field: str) -> None:
    data = f'{{"text":"","{field}":{"9" * digits}}}'.encode()
    entry = CODEC.entry("s", "1-1", (b"type", b"test.noted", b"data", data))
    assert len(entry.messages) + len(entry.faults) == 1


# -- commits against a model ----------------------------------------------------------------


State = dict[str, dict[str, str]]
#: (guard, expectation, writes, steps): one key of few, so that transactions meet.
Plan = tuple[
    tuple[str, str, tuple[str, ...]] | None, tuple[tuple[str, str, str], ...], tuple["Plan", ...]
]

keys = st.sampled_from(["a", "b"])
fields = st.sampled_from(["x", "y"])
contents = st.sampled_from(["", "1", "2"])
guards = st.none() | st.tuples(
    keys, fields | st.just("<absent>"), st.lists(contents, min_size=1, max_size=2).map(tuple)
)
writes = st.lists(st.tuples(keys, fields | st.just("<delete>"), contents), max_size=2).map(tuple)
plans = st.recursive(
    st.tuples(guards, writes, st.just(())),
    lambda inner: st.tuples(guards, writes, st.lists(inner, max_size=2).map(tuple)),
    max_leaves=3,
)


def build(plan: Plan, key: Callable[[str], str], transaction: Transaction) -> Transaction:
    """The transaction of a plan."""
    guard, writes, steps = plan
    if guard is not None:
        name, field, accepted = guard
        if field == "<absent>":
            transaction.require_absent(key(name))
        else:
            transaction.require_field(key(name), field, *accepted)
    for name, field, content in writes:
        if field == "<delete>":
            transaction.write("DEL", key(name))
        else:
            transaction.set_fields(key(name), {field: content})
    for step in steps:
        build(step, key, transaction.step())
    return transaction


def follow(plan: Plan, state: State) -> bool:
    """What a transaction of this plan is to do."""
    guard, writes, steps = plan
    if guard is not None:
        name, field, accepted = guard
        if field == "<absent>":
            if name in state:
                return False
        elif state.get(name, {}).get(field, "") not in accepted:
            return False
    for name, field, content in writes:
        if field == "<delete>":
            state.pop(name, None)
        else:
            state.setdefault(name, {})[field] = content
    for step in steps:
        follow(step, state)
    return True


@SERVER
@given(chosen=st.lists(plans, max_size=30), size=st.integers(1, 30))
async def test_commits_do_what_the_model_does(
    chosen: list[Plan],
    size: int,
    committer: Committer,
    redis: Redis,
    partition: Partition,
    permanent: list[str],
) -> None:
    permanent[:] = ["a", "b"]
    await redis.delete(partition.key("a"), partition.key("b"))
    state: State = {}
    expected = [follow(plan, state) for plan in chosen]
    answers: list[bool] = []
    for start in range(0, len(chosen), size):
        answers += await committer.commit(
            [build(plan, partition.key, Transaction()) for plan in chosen[start : start + size]]
        )
    assert answers == expected
    found = {name: await redis.hgetall(partition.key(name)) for name in "ab"}
    assert found == {
        name: {k.encode(): v.encode() for k, v in state.get(name, {}).items()} for name in "ab"
    }


@SERVER
@given(
    increments=st.lists(
        st.tuples(fields, st.integers(-(2**43), 2**43) | st.integers(-3, 3)), max_size=200
    ),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
async def test_sums_are_exact_in_any_order_and_batching(
    increments: list[tuple[str, int]],
    sizes: list[int],
    order: random.Random,
    committer: Committer,
    redis: Redis,
    partition: Partition,
    permanent: list[str],
) -> None:
    permanent[:] = ["sums"]
    key = partition.key("sums")
    await redis.delete(key)
    expected: Counter[str] = Counter()
    for field, amount in increments:
        expected[field] += amount
    left = deepcopy(increments)
    order.shuffle(left)
    while left:
        size = order.choice(sizes)
        batch, left = left[:size], left[size:]
        await committer.commit([Transaction().increment(key, *each) for each in batch])
    found: dict[Any, Any] = await redis.hgetall(key)
    assert {name.decode(): int(value) for name, value in found.items() if value != b"0"} == {
        name: total for name, total in expected.items() if total
    }


@SERVER
@given(
    count=st.integers(1, 15),
    turns=st.lists(
        st.tuples(st.sampled_from("ABC"), st.booleans(), st.integers(1, 6)), max_size=30
    ),
)
async def test_each_delivery_takes_effect_once_however_often_it_comes(
    count: int,
    turns: list[tuple[str, bool, int]],
    committer: Committer,
    redis: Redis,
    partition: Partition,
    permanent: list[str],
) -> None:
    """Three members read and take over from each other at random, and commit late or never."""
    permanent[:] = ["done"]
    stream, done, out = partition.key("in"), partition.key("done"), partition.key("out")
    await redis.delete(stream, done, out)
    members = {name: Group(redis, CODEC, "group", name, [stream]) for name in "ABC"}
    await members["A"].ensure()
    await committer.commit(
        [
            Transaction().add_entry(stream, entry_fields(Noted(str(number)), "test"))
            for number in range(count)
        ]
    )

    def effects(entry_id: str, text: str) -> Transaction:
        transaction = Transaction().require_ack(stream, "group", entry_id)
        transaction.increment(done, text, 1).emit(out, envelope(Noted(text), "test"))
        return transaction

    held: list[Transaction] = []  # decided, not yet committed
    for name, claims, number in [*turns, ("A", True, count), ("A", False, count)]:
        member = members[name]
        entries = await (member.claim(0, number) if claims else member.take(number))
        held += [effects(each.id, each.messages[0].event.text) for each in entries]
        if number % 2:
            await committer.commit(held)
            held = held[: number // 2]  # some will be tried again
    held += [
        effects(each.id, each.messages[0].event.text) for each in await members["B"].claim(0, count)
    ]
    await committer.commit(held + held)

    assert await redis.hgetall(done) == {str(n).encode(): b"1" for n in range(count)}
    rows = await redis.execute_command("XRANGE", out, "-", "+")
    texts = [
        message.event.text
        for entry_id, row in rows
        for message in CODEC.entry(out, entry_id.decode(), tuple(row)).messages
    ]
    assert sorted(texts, key=int) == [str(number) for number in range(count)]
