"""Whatever is tried, a job moves along the arrows, and each race has one winner."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from carbon_orchestrator import record
from carbon_orchestrator.lifecycle import STATES, TERMINAL, WAITING, State, allowed
from carbon_orchestrator.topology import Topology
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.keys import Partition

JOB = "0" * 26 + "-0"
#: The server is real, so examples are few.
SERVER = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
states = st.sampled_from(STATES)
moves = st.tuples(states, states)


def test_terminal_states_are_those_without_an_arrow() -> None:
    assert set(TERMINAL) == {"completed", "failed", "cancelled", "rejected"}
    assert not any(allowed(end, state) for end in TERMINAL for state in STATES)
    assert not set(WAITING) & TERMINAL


def test_every_state_is_reached_and_every_job_can_end() -> None:
    reached: set[State] = {"submitted"}
    while more := {b for a in reached for b in STATES if allowed(a, b)} - reached:
        reached |= more
    assert reached == set(STATES)
    ending = set(TERMINAL)
    while more := {a for a in STATES for b in ending if allowed(a, b)} - ending:
        ending |= more
    assert ending == set(STATES)


@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
def test_a_change_that_is_no_arrow_cannot_even_be_written(old: State, new: State) -> None:
    topology, change = Topology(Partition()), Transaction()
    wake = 1 if new == "deferred" else None
    if allowed(old, new):
        record.move(change, topology, JOB, old, new, 0, {}, 60, wake)
        assert change.pack(set())
    else:
        with pytest.raises(ValueError, match="cannot go"):
            record.move(change, topology, JOB, old, new, 0, {}, 60, wake)


@pytest.mark.parametrize(("new", "wake"), [("deferred", None), ("dispatched", 1), ("rejected", 0)])
def test_a_deferred_job_and_no_other_has_a_wake_up(new: State, wake: int | None) -> None:
    with pytest.raises(ValueError, match="wake-up"):
        record.move(Transaction(), Topology(Partition()), JOB, "submitted", new, 0, {}, 60, wake)


def moving(topology: Topology, old: State, new: State, fields: dict[str, str]) -> Transaction:
    change = Transaction()
    wake = 7 if new == "deferred" else None
    record.move(change, topology, JOB, old, new, 5, fields, 60, wake)
    return change


async def seen(redis: Redis, topology: Topology) -> State | None:
    """The job's state; what stands beside its record must agree with it."""
    raw = await redis.hget(topology.record(JOB), "state")  # type: ignore[misc]
    state = None if raw is None else raw.decode()
    listed = [each for each in STATES if await redis.zscore(topology.index(each), JOB) is not None]
    assert listed == ([state] if state else [])
    assert (await redis.zscore(topology.wake, JOB) is not None) == (state == "deferred")
    assert (await redis.ttl(topology.record(JOB)) > 0) == (state in TERMINAL)
    return state


@SERVER
@given(st.lists(moves, max_size=25), st.booleans())
async def test_a_job_only_ever_follows_the_arrows(
    server_url: str, wanted: list[tuple[State, State]], together: bool
) -> None:
    topology = Topology(Partition(f"t{uuid.uuid4().hex[:8]}"))
    redis = connect(server_url)
    committer = Committer(connect(server_url), topology.partition)
    try:
        created = Transaction()
        record.create(created, topology, JOB, 5, {})
        twice = Transaction()
        record.create(twice, topology, JOB, 5, {})
        assert await committer.commit([created, twice]) == [True, False]
        wanted = [(old, new) for old, new in wanted if allowed(old, new)]
        changes = [moving(topology, old, new, {}) for old, new in wanted]
        if together:
            held = await committer.commit(changes)
        else:
            held = []
            for change in changes:
                held.append(await committer.apply(change))
                await seen(redis, topology)
        expected: State = "submitted"
        for (old, new), took_effect in zip(wanted, held, strict=True):
            assert took_effect == (old == expected)
            expected = new if took_effect else expected
        assert await seen(redis, topology) == expected
    finally:
        await redis.unlink(*[key async for key in redis.scan_iter(topology.partition.key("*"))])
        await redis.aclose()
        await committer.aclose()


@pytest.mark.parametrize("old", [state for state in STATES if state not in TERMINAL])
async def test_of_rivals_one_wins(
    new_client: Callable[[], Redis], partition: Partition, permanent: list[str], old: State
) -> None:
    """Each by a connection of its own, all at once, for every change out of a state."""
    import asyncio

    redis, topology = new_client(), Topology(partition)
    rivals = [state for state in STATES if allowed(old, state) and state != old]
    committers = [Committer(new_client(), partition) for _ in rivals]
    for _ in range(5):
        await redis.delete(topology.record(JOB))
        await redis.hset(topology.record(JOB), "state", old)  # type: ignore[misc]
        await redis.zadd(topology.index(old), {JOB: 5})
        for state in STATES:
            if state != old:
                await redis.zrem(topology.index(state), JOB)
        await redis.zrem(topology.wake, JOB)
        if old == "deferred":
            await redis.zadd(topology.wake, {JOB: 7})
        won = await asyncio.gather(
            *(
                each.apply(moving(topology, old, state, {"by": state}))
                for each, state in zip(committers, rivals, strict=True)
            )
        )
        assert sum(won) == 1
        state = await seen(redis, topology)
        assert state == rivals[won.index(True)]
        assert await redis.hget(topology.record(JOB), "by") == state.encode()  # type: ignore[misc]
    permanent.append("job:*")
