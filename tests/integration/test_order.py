"""Who goes first, and that a busy worker holds nothing back."""

from __future__ import annotations

from typing import Any

import pytest
from deployment import Deploy, Deployment

from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.events import URGENCIES, JobSubmitted
from streams.codec import envelope
from streams.testing import until


async def many(house: Deployment, number: int, **fields: Any) -> None:
    """So many jobs, straight to the stream."""
    one = envelope(JobSubmitted(**fields), "test")
    for start in range(0, number, 500):
        batch = b"[" + b",".join([one] * min(500, number - start)) + b"]"
        await house.redis.xadd(house.topology.jobs, {"batch": batch})


async def starts(house: Deployment) -> list[str]:
    events = await house.events(house.topology.completions)
    return [each.job_id for each in events if each.event_type == "job.started"]


async def test_an_urgent_job_is_next_however_many_wait(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    house.router()
    await many(house, 10_000, type="quick")  # no signal: to ECO
    await house.counted("dispatched", 10_000, timeout=20)
    # An urgent job in a high band goes to ECO too, where all the others wait.
    await house.intensity(300)
    await house.routing()
    house.worker("eco", slots=1)
    await until(lambda: house.redis.xlen(house.topology.completions))
    before = len(await starts(house))
    urgent = await house.post("quick", urgency="urgent")
    await house.reach(urgent, "running", "completed")
    queued = await house.redis.xlen(house.topology.dispatch("eco", "urgent"))
    assert queued == 1, "it went by the pool that is busy"
    job = await house.job(urgent)
    order = await starts(house)
    # Starts after its dispatch and before its own: at the most the one that held the slot.
    at = {
        each.job_id: each.at
        for each in await house.events(house.topology.completions)
        if each.event_type == "job.started"
    }
    dispatched = parse_time(job["timeline"][1]["at"])
    between = [each for each in order[: order.index(urgent)] if at[each] > dispatched + 2]
    assert before < 10_000
    assert len(between) <= 1, len(between)


async def test_due_jobs_go_before_those_that_may_wait(deploy: Deploy) -> None:
    house = deploy(margin=0.6)
    await house.gateway()
    house.router()
    worker = house.worker("eco", slots=1)
    await house.intensity(150)
    await house.routing()
    holder = await house.post("hold")
    await house.reach(holder, "running")
    waiting = [await house.post("quick") for _ in range(3)]
    await house.intensity(300)
    await house.routing()
    due = await house.post("quick", deadline=1)
    for each in [*waiting, due]:
        await house.reach(each, "dispatched")
    assert worker.role.running == 1
    house.release()
    for each in [*waiting, due]:
        await house.reach(each, "completed")
    order = await starts(house)
    assert order[:2] == [holder, due]


async def test_a_busy_worker_holds_nothing_that_an_idle_one_could_run(deploy: Deploy) -> None:
    house = deploy(lease=30)
    await house.gateway()
    house.router()
    first = house.worker("eco", slots=1)
    holder = await house.post("hold")
    await house.reach(holder, "running")
    others = [await house.post("quick") for _ in range(5)]
    for each in others:
        await house.reach(each, "dispatched")
    pending = await house.redis.xpending(house.topology.dispatch("eco"), "worker")
    assert pending["pending"] == 1, "only what runs"
    house.worker("eco", slots=1)
    for each in others:
        await house.reach(each, "completed")
    assert await house.state(holder) == "running"
    assert first.role.running == 1


@pytest.mark.parametrize("slots", [1, 3])
async def test_no_more_run_at_once_than_there_are_slots(deploy: Deploy, slots: int) -> None:
    """Also when jobs come into several lanes in the same moment."""
    house = deploy()
    house.router()
    await house.intensity(50)
    await house.routing()
    worker = house.worker("fast", slots=slots)

    async def waits() -> bool:
        return bool(await house.redis.exists(house.topology.dispatch("fast")))

    await until(waits)
    jobs = [JobSubmitted(type="hold", urgency=each) for each in URGENCIES for _ in range(slots)]
    batch = b"[" + b",".join(envelope(each, "t") for each in jobs) + b"]"
    await house.redis.xadd(house.topology.jobs, {"batch": batch})
    await house.counted("running", slots)
    await house.counted("dispatched", 2 * slots)
    await until(lambda: worker.role.running == slots)
    house.release()
    await house.counted("completed", 3 * slots)
