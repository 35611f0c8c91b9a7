"""When a planned job is looked at again, carried out on a real server."""

from __future__ import annotations

from redis.asyncio import Redis

from carbon_orchestrator.config import Config, GreenestConfig, JobType, complete
from carbon_orchestrator.events import IntensityObserved, JobSubmitted, Pool
from carbon_orchestrator.router.expectation import Done
from carbon_orchestrator.router.outlook import Bands, outlook
from carbon_orchestrator.router.routing import Known, Routing
from carbon_orchestrator.router.sites import Sites
from carbon_orchestrator.router.waiting import (
    WAITING_FIELDS,
    Dispatched,
    Running,
    Waiting,
    waiting,
)
from carbon_orchestrator.signal.series import Series
from carbon_orchestrator.submission import accept, submitted_id
from carbon_orchestrator.topology import Topology
from carbon_orchestrator.worker.segments import pause_plan
from streams.commit import Committer
from streams.event import Entry, Message
from streams.keys import Partition

NOW = 1_590_969_600_000
HOUR = 3_600_000
PATIENCE = HOUR // 5
HOURS = (300.0, 200.0, 100.0, 300.0, 300.0, 300.0, 300.0)
CONFIG = complete(
    Config(
        types={"x": JobType(command=["true"])},
        default_types=False,
        policy="greenest_slots",
        greenest=GreenestConfig(min_saving=0, resume_cost=0),
    )
)
POOLS: dict[str, tuple[Pool, ...]] = {"local": ("fast",)}


def known(hour: int, now: int) -> Known:
    """With the event of that hour as the latest."""
    event = IntensityObserved(
        zone="local",
        time=NOW + hour * HOUR,
        intensity=HOURS[hour],
        source="s",
        resolution_ms=HOUR,
        forecast=[(NOW + n * HOUR, HOURS[n]) for n in range(hour + 1, len(HOURS))],
    )
    grid = outlook(event, f"{hour}-1/0", Series(1), Bands.of(CONFIG.threshold), event.time)
    return Known(Sites({"local": grid}, POOLS), {}, now, ended_id="7-0")


async def test_a_plan_within_the_present_step_waits_for_no_intensity(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    """Half of hour 1 and all of hour 2 are the greenest: hour 1 is yet to be observed, and then
    nothing is left to wait for, though the plan stands."""
    permanent.append("job:*")
    topology = Topology(partition)
    routing = Routing(topology, CONFIG)
    submitted = JobSubmitted(type="x", deadline="6h", expected_duration="90m")
    message = Message("1-0", 0, submitted, "id", "source")
    entry = Entry("jobs", "1-0", (message,))
    job_id = submitted_id(message, 0, urgent=False)

    async def wake() -> float | None:
        return await redis.zscore(topology.wake, job_id)

    async def read() -> Waiting:
        row = await redis.hmget(topology.record(job_id), WAITING_FIELDS)  # type: ignore[misc]
        found = waiting(row)
        assert found is not None
        return found

    assert await committer.apply(routing.submitted(message, entry, NOW, known(0, NOW)))
    job = await read()
    start = NOW + HOUR + HOUR // 2
    assert (job.plan.start, job.plan.wakes) == (start, start + PATIENCE)
    assert await wake() == start + PATIENCE
    assert routing.reconsidered(job, known(0, NOW + 5)) is None
    change = routing.reconsidered(job, known(1, NOW + HOUR + 5))
    assert change is not None
    assert await committer.apply(change)
    assert await wake() == start
    again = await read()
    assert (again.plan.start, again.plan.wakes, again.replans) == (start, start, job.replans)
    assert routing.reconsidered(again, known(1, NOW + HOUR + 6)) is None
    # What came from another look at it meanwhile is not overwritten.
    moved = routing.reconsidered(job, known(1, NOW + HOUR + 6))
    assert moved is not None
    await redis.hset(topology.record(job_id), "replans", "1")  # type: ignore[misc]
    assert not await committer.apply(moved)


async def test_a_job_asked_to_pause_waits_for_the_intensity_that_it_goes_on_by(
    redis: Redis, committer: Committer, partition: Partition, permanent: list[str]
) -> None:
    permanent.append("job:*")
    topology = Topology(partition)
    routing = Routing(topology, CONFIG)
    submitted = JobSubmitted(type="x", deadline="6h", expected_duration="1h", interruptible=True)
    spec = accept(submitted, CONFIG, "j", NOW)
    job = Running(spec, 1, Dispatched(NOW, "fast", "r", end=NOW + HOUR), NOW, Done())
    change = routing.suspended(job, known(0, NOW + 1000))
    assert change is not None
    record = topology.record("j")
    await redis.hset(record, mapping={"state": "running", "attempt": "1"})  # type: ignore[misc]
    assert await committer.apply(change)
    request = await redis.hget(record, "suspend")  # type: ignore[misc]
    plan = pause_plan(request.decode())
    assert plan is not None
    assert plan.start >= NOW + 2 * HOUR
    assert plan.wakes == plan.start + PATIENCE


def test_what_ended_before_a_decision_is_on_record_with_it(partition: Partition) -> None:
    routing = Routing(Topology(partition), CONFIG)
    spec = accept(JobSubmitted(type="x"), CONFIG, "j", NOW)
    assert routing.decide(spec, known(0, NOW))[1].ended_id == "7-0"
