"""What the router writes, carried out on a real server."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.config import Config, JobType, ThresholdConfig, complete
from carbon_orchestrator.events import CancelRequested, IntensityObserved, JobSubmitted
from carbon_orchestrator.router.outlook import Bands, Outlook, outlook
from carbon_orchestrator.router.routing import Known, Routing
from carbon_orchestrator.router.sites import Sites
from carbon_orchestrator.router.waiting import WAITING_FIELDS, Waiting, waiting
from carbon_orchestrator.signal.series import Series
from carbon_orchestrator.submission import submitted_id
from carbon_orchestrator.topology import CODEC, Topology
from streams.commit import Committer
from streams.event import Entry, Message
from streams.keys import Partition

NOW = 1_590_969_600_000
CONFIG = complete(
    Config(
        types={"x": JobType(command=["true"], expected_duration=1)},
        default_types=False,
        threshold=ThresholdConfig(mode="absolute", low=100, high=200, hysteresis=0),
    )
)


def grid(intensity: float) -> Outlook:
    event = IntensityObserved(
        zone="local", time=NOW, intensity=intensity, source="s", resolution_ms=1000
    )
    return outlook(event, "1-1/0", Series(1), Bands.of(CONFIG.threshold), NOW)


def known(intensity: float, now: int = NOW) -> Known:
    return Known(Sites({"local": grid(intensity)}), {}, now)


class Desk:
    """One router's decisions about one job."""

    def __init__(self, redis: Redis, committer: Committer, partition: Partition) -> None:
        self.redis, self.committer = redis, committer
        self.topology = Topology(partition)
        self.routing = Routing(self.topology, CONFIG)
        self.job_id = ""

    async def submit(self, intensity: float, **fields: Any) -> bool:
        message = Message("1-0", 0, JobSubmitted(type="x", **fields), "id", "source")
        entry = Entry("jobs", "1-0", (message,))
        self.job_id = submitted_id(message, 0, urgent=False)
        change = self.routing.submitted(message, entry, NOW, known(intensity))
        return await self.committer.apply(change)

    async def read(self) -> Waiting:
        record = self.topology.record(self.job_id)
        found = waiting(await self.redis.hmget(record, WAITING_FIELDS))  # type: ignore[misc]
        assert found is not None
        return found

    async def look_again(self, job: Waiting, intensity: float, now: int = NOW) -> bool | None:
        change = self.routing.reconsidered(job, known(intensity, now))
        return None if change is None else await self.committer.apply(change)

    async def set(self, **fields: str) -> None:
        await self.redis.hset(self.topology.record(self.job_id), mapping=fields)  # type: ignore[misc]

    async def get(self, name: str) -> bytes | None:
        return await self.redis.hget(self.topology.record(self.job_id), name)  # type: ignore[misc]


def desk(redis: Redis, committer: Committer, partition: Partition, permanent: list[str]) -> Desk:
    permanent.append("job:*")
    return Desk(redis, committer, partition)


async def test_the_same_submission_is_decided_once(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    router = desk(redis, committer, partition, permanent)
    assert await router.submit(300)
    assert not await router.submit(50)
    assert await router.get("state") == b"deferred"


async def test_a_plan_that_stands_writes_nothing(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    router = desk(redis, committer, partition, permanent)
    await router.submit(300)
    assert await router.look_again(await router.read(), 300) is None


async def test_a_cancellation_since_the_record_was_read_is_not_lost(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    router = desk(redis, committer, partition, permanent)
    await router.submit(300)
    seen = await router.read()
    await router.set(cancel="stop")
    assert await router.look_again(seen, 50) is False
    assert await router.look_again(await router.read(), 50) is True
    assert await router.get("state") == b"cancelled"


async def test_what_was_read_before_another_attempt_ran_decides_nothing(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    """Deferred, dispatched, failed and deferred again while one router slept."""
    router = desk(redis, committer, partition, permanent)
    await router.submit(300)
    seen = await router.read()
    await router.set(attempt="1")
    assert await router.look_again(seen, 50) is False
    assert await router.look_again(seen, 300, NOW + 1) is None
    assert await router.look_again(await router.read(), 50) is True
    assert (await router.get("state"), await router.get("attempt")) == (b"dispatched", b"2")
    (row,) = await redis.execute_command("XRANGE", router.topology.dispatch("fast"), "-", "+")
    (message,) = CODEC.entry("s", "1-0", tuple(row[1])).messages
    assert message.event.attempt == 2


async def test_two_looks_at_once_make_one_decision(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    """A sweep's and a wake-up's, say: what both have read is decided about once."""
    router = desk(redis, committer, partition, permanent)
    await router.submit(300, deadline="1h")
    seen = await router.read()
    moved = msgspec.structs.replace(seen.plan, start=seen.plan.start - 1)
    other = msgspec.structs.replace(seen, plan=moved)
    assert await router.look_again(other, 300, NOW + 1) is True
    assert await router.look_again(other, 300, NOW + 1) is False
    assert await router.get("replans") == b"1"


async def test_a_retry_waits_its_pause_whatever_the_grid_does(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    router = desk(redis, committer, partition, permanent)
    await router.submit(300)
    job = await router.read()
    later = msgspec.structs.replace(job.plan, not_before=NOW + 1000)
    job = msgspec.structs.replace(job, plan=later)
    assert await router.look_again(job, 50, NOW + 999) is None
    assert await router.look_again(job, 50, NOW + 1000) is True


async def test_the_second_of_two_cancellations_finds_nothing_to_do(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    router = desk(redis, committer, partition, permanent)
    await router.submit(50)
    for reason in ("first", "second"):
        event = CancelRequested(job_id=router.job_id, reason=reason)
        await committer.apply(router.routing.cancel_requested(event, known(300).sites, NOW))
    assert await router.get("reason") == b"first"
    assert await redis.xlen(router.topology.deferrals) == 1


def test_entries_of_both_lanes_with_one_id_are_two_jobs() -> None:
    message = Message("1-0", 0, JobSubmitted(type="x"))
    ids = {submitted_id(message, 0, urgent=urgent) for urgent in (True, False)}
    assert len(ids) == 2
