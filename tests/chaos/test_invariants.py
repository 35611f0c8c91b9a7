"""The checks that chaos relies on find what they are meant to find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from benchmarks.invariants import check, resting
from carbon_orchestrator.events import JobCompleted
from carbon_orchestrator.topology import ACCOUNTING, Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.keys import Partition

JOB = "0" * 26 + "-0"


@pytest.fixture
def topology(partition: Partition) -> Topology:
    return Topology(partition)


@pytest.fixture
async def damaged(redis: Redis) -> AsyncIterator[Redis]:
    """A server to do damage on; nothing of that is left for the check of leaked keys."""
    yield redis
    await redis.flushall()


async def _wrong(redis: Redis, topology: Topology) -> str:
    return "\n".join((await check(redis, topology, ())).wrong)


async def test_of_nothing_nothing_is_wrong(damaged: Redis, topology: Topology) -> None:
    assert await resting(damaged, topology)
    assert await _wrong(damaged, topology) == ""


async def test_an_accepted_job_without_a_record_is_lost(damaged: Redis, topology: Topology) -> None:
    assert (await check(damaged, topology, [JOB])).lost == [JOB]


async def test_a_job_must_have_ended_once_and_be_in_one_index(
    damaged: Redis, topology: Topology
) -> None:
    await damaged.hset(topology.record(JOB), mapping={"state": "completed"})
    await damaged.zadd(topology.index("running"), {JOB: 1, "ghost": 1})
    assert not await resting(damaged, topology)
    wrong = await _wrong(damaged, topology)
    assert f"did not end once: 1 ({JOB} is completed, ended as [])" in wrong
    assert f"not in just its index: 1 ({JOB} is completed, in ['running'])" in wrong
    assert "in an index without a record: 1 (ghost ['running'])" in wrong
    assert "terminal without expiry" in wrong
    assert "total of completed: 1 (0, by the records 1)" in wrong


async def test_an_attempt_reported_twice_is_found(
    damaged: Redis, topology: Topology, committer: Committer
) -> None:
    times: dict[str, Any] = {"at": 2, "started_at": 1, "run_ms": 1, "submitted_at": 1}
    event = JobCompleted(job_id=JOB, attempt=1, pool="fast", type="t", urgency="normal", **times)
    for _ in range(2):
        await committer.apply(Transaction().emit(topology.completions, envelope(event, "test")))
    wrong = await _wrong(damaged, topology)
    assert f"attempts reported twice: 1 (('{JOB}', 1))" in wrong
    assert f"ended without a record: 1 ({JOB})" in wrong


async def test_what_is_unread_or_pending_is_found(damaged: Redis, topology: Topology) -> None:
    stream = topology.completions
    await damaged.xgroup_create(stream, ACCOUNTING, "0", mkstream=True)
    await damaged.xadd(stream, {"batch": "[]"})
    assert not await resting(damaged, topology)
    assert "not finished with" in await _wrong(damaged, topology)
    await damaged.xreadgroup(ACCOUNTING, "dead", {stream: ">"})
    assert not await resting(damaged, topology)
    assert "not finished with" in await _wrong(damaged, topology)


async def test_leaks_dead_letters_and_false_totals_are_found(
    damaged: Redis, topology: Topology
) -> None:
    await damaged.set(topology.partition.key("left-behind"), "x")
    await damaged.xadd(topology.dead_letters, {"reason": "x"})
    await damaged.zadd(topology.days, {"2020-01-01": 20200101})
    await damaged.hset(topology.totals("2020-01-01"), "energy_mj|p|t|fast|z", 7)
    wrong = await _wrong(damaged, topology)
    assert "keys without expiry: 1" in wrong
    assert "dead letters that are no job given up: 1" in wrong
    assert "total of energy_mj: 1 (7, by the records 0)" in wrong
