"""What a worker writes about jobs that are asked to pause, and what it counts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import Config, JobType, complete
from carbon_orchestrator.events import (
    Decision,
    IntensityObserved,
    JobDispatched,
    JobFailed,
    JobSuspended,
    Spec,
)
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.router.waiting import Plan
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.topology import CODEC, WORKER, Topology
from carbon_orchestrator.worker.attempt import Halt
from carbon_orchestrator.worker.attempts import Attempt, Attempts
from carbon_orchestrator.worker.burnt import Grid, Run, burnt
from carbon_orchestrator.worker.energy import Energy
from carbon_orchestrator.worker.execution import Execution
from carbon_orchestrator.worker.segments import SEGMENTS_FIELDS, Segments, pause_plan
from streams.commit import Committer
from streams.connection import connect
from streams.event import Entry, Message
from streams.keys import Partition
from streams.scripts import GATHER

HOUR = 3_600_000
START = 1_590_969_600_000  # 2020-06-01
CONFIG = complete(Config(types={"t": JobType(command=["true"])}, default_types=False))
SPEC = Spec(job_id="j", type="t", submitted_at=START, interruptible=True)
PLAN = Plan(START, START + 5 * HOUR, "greener later", pool="eco", end=START + 6 * HOUR)
DECISION = Decision(
    at=START,
    policy="p",
    policy_version=1,
    params=msgspec.Raw(b"{}"),
    fast_ms=1,
    eco_ms=1,
    margin_ms=0,
    pool="fast",
    start=START,
    end=START + HOUR,
    reason="r",
)


def grid(*values: float) -> Grid:
    """One zone, whose intensity changes every hour from START on."""
    known = Intensities("local", Bands.of(CONFIG.threshold))
    for hour, value in enumerate(values):
        event = IntensityObserved(
            zone="local",
            time=START + hour * HOUR,
            intensity=value,
            source="s",
            resolution_ms=HOUR,
        )
        known.apply(Message(f"{hour}-0", 0, event))
    return Grid(known, known)


def energy(mj: int) -> Energy:
    return Energy(mj=mj, method="m", uncertainty=0.3)


# -- why an attempt stops ---------------------------------------------------------------------


@given(st.lists(st.sampled_from(["cancelled", "suspended", "interrupted"]), max_size=5))
def test_the_first_reason_stands_but_a_cancellation_wins(reasons: list[Any]) -> None:
    halt = Halt()
    assert not halt.suspending()
    for reason in reasons:
        halt.stop(reason)
    expected = "cancelled" if "cancelled" in reasons else (reasons or ["cancelled"])[0]
    assert halt.reason == expected
    assert halt.suspending() == (expected == "suspended")
    assert halt.is_set() == bool(reasons)


async def test_set_by_itself_it_is_a_cancellation() -> None:
    halt = Halt()
    asyncio.get_running_loop().call_soon(halt.set)
    await halt.wait()
    assert (halt.reason, halt.suspending()) == ("cancelled", False)


# -- segments ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["fast", "eco"]), st.integers(0, 10**9)), max_size=5))
def test_a_total_is_told_only_for_one_pool(runs: list[tuple[Any, int]]) -> None:
    sums = {name: sum(ms for pool, ms in runs if pool == name) for name in ("fast", "eco")}
    row = [b"running", b"7", str(len(runs)).encode(), *(b"%d" % each for each in sums.values())]
    before = Segments.of([*row, None, None], 7)
    assert before is not None
    assert before.ran_ms == sum(sums.values())
    for pool, other in (("fast", "eco"), ("eco", "fast")):
        total = before.total_ms(pool, 5)
        assert total == (sums[pool] + 5 if runs and not sums[other] else None)
    assert Segments.of([*row, None, None], 6) is None
    assert Segments.of([b"deferred", *row[1:], None, None], 7) is None


def test_a_damaged_request_is_none() -> None:
    assert pause_plan(PLAN.encode().decode()) == PLAN
    assert pause_plan('{"at": "soon"}') is pause_plan("gone") is pause_plan(None) is None


@given(
    st.lists(st.integers(1, 500), min_size=24, max_size=24),
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 100)), min_size=1, max_size=5),
    st.integers(1, 10**6),
)
def test_the_baselines_of_segments_are_that_of_one_run_begun_at_submission(
    values: list[int], segments: list[tuple[int, int]], power_mw: int
) -> None:
    """Segments: minutes of pause before each, and minutes run, at even power."""
    intensities = grid(*map(float, values))
    whole = sum(length for _, length in segments) * 60_000
    dispatched = JobDispatched(attempt=1, spec=SPEC, decision=DECISION)
    unbroken = Run(START, START + whole, whole, "completed")
    one = burnt(dispatched, 1, "fast", energy(whole * power_mw), unbroken, intensities).baseline_ug
    at, ran, baseline = START, 0, 0
    for pause, length in segments:
        at, run = at + pause * 60_000, length * 60_000
        spent = energy(run * power_mw)
        segment = Run(at, at + run, run, "suspended", ran)
        event = burnt(dispatched, 1, "fast", spent, segment, intensities)
        assert not event.unpriced_mj
        baseline += event.baseline_ug
        at, ran = at + run, ran + run
    assert abs(baseline - one) <= len(segments)  # each is rounded once


# -- commits ----------------------------------------------------------------------------------


class Desk:
    """One running attempt of a job, whose end is committed to a real server."""

    def __init__(self, redis: Redis, committer: Committer) -> None:
        self.redis: Any = redis
        self.committer = committer
        self.topology = Topology(committer.partition)
        self.attempts = Attempts(self.topology, CONFIG, "fast", "w")
        self.key = self.topology.record("j")
        self.attempt: Any = None

    async def begin(self) -> None:
        stream = self.topology.dispatch("fast")
        await self.redis.execute_command("XGROUP", "CREATE", stream, WORKER, "0", "MKSTREAM")
        entry_id = (await self.redis.xadd(stream, {"a": "b"})).decode()
        await self.redis.execute_command("XREADGROUP", "GROUP", WORKER, "c", "STREAMS", stream, ">")
        event = JobDispatched(attempt=1, spec=SPEC, decision=DECISION, failures=1)
        self.attempt = Attempt(Entry(stream, entry_id, ()), event, 1, 1)
        stale = {"state": "dispatched", "attempt": 1, "suspend": "stale"}
        await self.redis.hset(self.key, mapping=stale)
        assert await self.committer.apply(self.attempts.start(self.attempt, START))
        assert await self.field("suspend") is None

    async def field(self, name: str) -> Any:
        value = await self.redis.hget(self.key, name)
        return None if value is None else value.decode()

    async def ask(self, **fields: Any) -> None:
        await self.redis.hset(self.key, mapping=fields)

    async def before(self) -> Segments:
        (row,) = await GATHER(self.redis, [self.key], list(SEGMENTS_FIELDS))
        found = Segments.of(row, 1)
        assert found is not None
        return found

    async def burnt(self) -> list[Any]:
        rows = await self.redis.execute_command("XRANGE", self.topology.emissions, "-", "+")
        entries = [CODEC.entry("", raw.decode(), tuple(fields)) for raw, fields in rows]
        return [message.event for entry in entries for message in entry.messages]

    async def finish(self, outcome: Any, before: Segments) -> bool:
        result = Execution(outcome=outcome, run_ms=1000, cpu_ms=5.0, energy=energy(3600))
        end, _ = self.attempts.finish(
            self.attempt, result, START, START + HOUR, grid(100, 100), GridClock(), before
        )
        return await self.committer.apply(end)

    async def ends(self) -> list[Any]:
        stream, found = self.topology.completions, []
        for entry_id, fields in await self.redis.execute_command("XRANGE", stream, "-", "+"):
            entry = CODEC.entry(stream, entry_id.decode(), tuple(fields))
            found += [message.event for message in entry.messages]
        return found[1:]  # after the start

    async def booked(self, pool: Any) -> set[int]:
        changes = await self.redis.hvals(self.topology.booked(pool))
        return {int(each) for each in changes}


@pytest.fixture
async def desk(server_url: str) -> AsyncIterator[Desk]:
    committer = Committer(connect(server_url), Partition(f"t{uuid.uuid4().hex[:8]}"))
    redis = connect(server_url)
    desk = Desk(redis, committer)
    await desk.begin()
    yield desk
    await redis.unlink(*[each async for each in redis.scan_iter(committer.partition.key("*"))])
    await redis.aclose()
    await committer.aclose()


async def test_a_suspension_is_one_commit_and_no_failure(desk: Desk) -> None:
    await desk.ask(suspend=PLAN.encode())
    before = await desk.before()
    assert await desk.finish("suspended", before)
    assert not await desk.finish("suspended", before), "it ends once"
    assert (await desk.field("state"), await desk.field("failures")) == ("deferred", "1")
    assert (await desk.field("plan"), await desk.field("suspend")) == (PLAN.encode().decode(), None)
    assert (await desk.field("segments"), await desk.field("ran_fast_ms")) == ("1", "1000")
    wake = await desk.redis.zrange(desk.topology.wake, 0, -1, withscores=True)
    assert wake == [(b"j", PLAN.start)]
    assert not await desk.redis.zcard(desk.topology.interruptible)
    (event,) = await desk.ends()
    assert isinstance(event, JobSuspended)
    assert (event.resume_at, event.reason, event.run_ms) == (PLAN.start, PLAN.reason, 1000)
    # The room of the run is given back, that of the plan is kept: it stands already.
    assert await desk.booked("fast") == {-1000, 1000}
    assert await desk.booked("eco") == set()


async def test_a_suspended_job_wakes_when_the_router_said(desk: Desk) -> None:
    plan = msgspec.structs.replace(PLAN, wake=PLAN.start + 7)
    await desk.ask(suspend=plan.encode())
    assert await desk.finish("suspended", await desk.before())
    wake = await desk.redis.zrange(desk.topology.wake, 0, -1, withscores=True)
    assert wake == [(b"j", PLAN.start + 7)]


async def test_a_cancellation_that_comes_at_the_last_moment_is_not_lost(desk: Desk) -> None:
    await desk.ask(suspend=PLAN.encode())
    before = await desk.before()
    await desk.ask(cancel="changed my mind")
    assert not await desk.finish("suspended", before)
    assert await desk.finish("suspended", await desk.before())
    assert await desk.field("state") == "cancelled"
    assert await desk.field("suspend") is None
    (event,) = await desk.ends()
    assert isinstance(event, JobFailed)
    assert (event.cancelled, event.final) == (True, True)
    assert await desk.booked("eco") == {-1000, 1000}


async def test_a_request_that_comes_at_the_last_moment_is_withdrawn_with_its_room(
    desk: Desk,
) -> None:
    before = await desk.before()
    await desk.ask(suspend=PLAN.encode())
    assert not await desk.finish("completed", before)
    assert await desk.finish("completed", await desk.before())
    assert (await desk.field("state"), await desk.field("suspend")) == ("completed", None)
    assert await desk.booked("eco") == {-1000, 1000}


async def test_a_takeover_withdraws_the_request_and_shuts_the_first_worker_out(
    desk: Desk,
) -> None:
    text = PLAN.encode().decode()
    await desk.ask(suspend=text)
    before = await desk.before()
    second = msgspec.structs.replace(desk.attempt, number=2)
    assert not await desk.committer.apply(desk.attempts.take_over(second, START, None))
    assert await desk.committer.apply(desk.attempts.take_over(second, START, text))
    assert await desk.field("suspend") is None
    assert await desk.redis.zcard(desk.topology.interruptible) == 1
    assert not await desk.finish("suspended", before)
    assert await desk.field("state") == "running"


async def test_a_job_that_is_given_up_asks_for_nothing(desk: Desk) -> None:
    text = PLAN.encode().decode()
    await desk.ask(suspend=text)
    lost = msgspec.structs.replace(desk.attempt, number=2)
    assert await desk.committer.apply(desk.attempts.give_up(lost, START, text))
    assert (await desk.field("state"), await desk.field("suspend")) == ("failed", None)
    assert not await desk.redis.zcard(desk.topology.interruptible)
    assert await desk.booked("eco") == await desk.booked("fast") == {-1000, 1000}


async def test_what_ran_on_eco_counts_for_the_baseline_as_long_as_it_takes_on_fast(
    desk: Desk,
) -> None:
    await desk.ask(segments=2, ran_fast_ms=60_000, ran_eco_ms=600_000)
    event = msgspec.structs.replace(desk.attempt.event, fast_length=0.5, fast_energy=2.0)
    desk.attempt = msgspec.structs.replace(desk.attempt, event=event)
    assert await desk.finish("completed", await desk.before())
    (burnt,) = await desk.burnt()
    assert burnt.baseline_from == START + 60_000 + 300_000
    assert (burnt.baseline_ms, burnt.baseline_mj) == (HOUR // 2, 7200)
