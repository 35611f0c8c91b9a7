"""The primary dies with writes that had not reached its replica: what is lost, what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from benchmarks.chaos.house import House
from benchmarks.chaos.plan import PUBLISHER, Plan
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.errors import CommitUnknown
from streams.keys import Partition
from streams.sealing import Sealer

PARTITION = Partition("replica", 0)
COUNTS = PARTITION.key("totals:x")
DELAY_MS = 150.0


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House(Plan(seed=1, faults=("failover",), fsync="no"))
    async with house:
        yield house
    house.remove()


@asynccontextmanager
async def _committer(house: House, replicas: int) -> AsyncIterator[Committer]:
    client = connect(house.url(PUBLISHER))
    committer = Committer(client, PARTITION, patience=20, replicas=replicas)
    try:
        yield committer
    finally:
        await committer.aclose()


def _count(member: str) -> Transaction:
    """Two keys that must agree, whatever is lost."""
    return (
        Transaction()
        .increment(COUNTS, member, 1)
        .increment(COUNTS, "all", 1)
        .put(PARTITION.key("days"), 1, member)
    )


async def _found(house: House) -> set[str]:
    """The commits that the primary of now knows; checks that its keys agree about them."""
    async with connect(house.server.url) as raw:
        client: Any = raw
        counts = {name.decode(): int(n) for name, n in (await client.hgetall(COUNTS)).items()}
        members = {each.decode() for each in await client.zrange(PARTITION.key("days"), 0, -1)}
    assert counts.pop("all", 0) == len(members)
    assert counts == dict.fromkeys(members, 1)
    return members


async def test_an_answer_that_waits_for_the_replica_outlives_the_primary(house: House) -> None:
    async with _committer(house, 1) as committer:
        await house.delay_replication(DELAY_MS)
        for member in ("first", "second"):
            assert await committer.apply(_count(member))
        await house.fail_over()
        assert await _found(house) == {"first", "second"}


async def test_one_that_does_not_may_be_lost_and_nothing_is_left_in_halves(house: House) -> None:
    async with _committer(house, 1) as sure:
        assert await sure.apply(_count("before"))
    async with _committer(house, 0) as committer:
        await house.hold_replication()
        assert await committer.apply(_count("lost"))
        await house.fail_over()
        assert await _found(house) == {"before"}
        assert await committer.apply(_count("after"))
        assert await _found(house) == {"before", "after"}


async def test_without_a_replica_there_is_no_answer(house: House) -> None:
    await house.fail_over()
    committer = Committer(connect(house.server.url), PARTITION, patience=0.0, replicas=1)
    with pytest.raises(CommitUnknown, match="0 of 1 replicas"):
        await committer.apply(_count("alone"))
    await committer.aclose()


async def test_an_answer_from_the_receipt_waits_for_the_replica_too(house: House) -> None:
    """The reply is lost, the connection is new: WAIT must still be about this commit."""
    async with _committer(house, 1) as committer:
        assert await committer.apply(_count("before"))
        await house.delay_replication(DELAY_MS)
        await house.cut_next_reply(PUBLISHER)
        assert await committer.apply(_count("cut"))
        await house.fail_over()
        assert await _found(house) == {"before", "cut"}


async def test_entries_that_went_with_the_primary_are_not_sealed_on_the_new_one(
    house: House,
) -> None:
    """They were read before it died; the seal comes after."""
    jobs = PARTITION.key("jobs")
    async with _committer(house, 1) as sure:
        await sure.apply(Transaction().emit(jobs, b"{}"))
    await house.hold_replication()
    async with _committer(house, 0) as committer, connect(house.url(PUBLISHER)) as reader:
        await committer.apply(Transaction().emit(jobs, b"{}"))
        commit = committer.commit

        async def late(transactions: Sequence[Transaction]) -> list[bool]:
            await house.fail_over()
            return await commit(transactions)

        sealer = Sealer(reader, committer, ["jobs"])
        committer.commit = late  # type: ignore[method-assign]
        assert await sealer.seal() == 0
        committer.commit = commit  # type: ignore[method-assign]
        await reader.aclose()  # its connection died with the primary
        assert await sealer.seal() > 0
    async with connect(house.server.url) as raw:
        client: Any = raw
        ((entry, _),) = await client.execute_command("XRANGE", jobs, "-", "+")
        assert await client.hget(PARTITION.key("chain"), "jobs") == entry
