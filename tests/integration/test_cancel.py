"""Cancelling works in every state and has one winner."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from deployment import HIGH, TYPES, Deploy, Deployment, command_type

from streams.testing import until

STUBBORN = """
trap 'echo asked' TERM
sh -c 'trap "" TERM; echo $$ >> pids; while :; do sleep 0.05; done' &
echo $$ >> pids
while :; do sleep 0.05; done
"""


async def cancel(house: Deployment, job_id: str) -> int:
    return (await house.http("DELETE", f"/jobs/{job_id}")).status


async def test_before_a_router_has_seen_it(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    job_id = await house.post("quick")
    assert await cancel(house, job_id) == 202
    house.router()
    house.worker("eco")
    await house.reach(job_id, "cancelled")
    await house.settled_router()
    job = await house.job(job_id)
    assert [each["event"] for each in job["timeline"]] == ["submitted", "cancelled"]
    assert job["reason"] == "cancelled by request"
    assert await house.redis.ttl(house.topology.record(job_id)) > 0
    assert not await house.redis.xlen(house.topology.dispatch("eco"))


async def test_while_it_is_deferred(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.intensity(HIGH)
    await house.routing()
    job_id = await house.post("quick", deadline=60)
    await house.reach(job_id, "deferred")
    assert await cancel(house, job_id) == 202
    await house.reach(job_id, "cancelled")
    assert await house.redis.zcard(house.topology.wake) == 0
    await house.intensity(1)
    await house.settled()
    assert await house.state(job_id) == "cancelled"


async def test_while_it_waits_for_a_worker(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    house.router()
    job_id = await house.post("quick")
    await house.reach(job_id, "dispatched")
    assert await cancel(house, job_id) == 202
    await house.reach(job_id, "cancelled")
    house.accounting()
    house.worker("eco")
    house.worker("fast")
    await house.settled()
    assert await house.ends(job_id) == {}


async def test_a_running_command_and_its_whole_group_end(deploy: Deploy) -> None:
    house = deploy(types={"stubborn": command_type("sh", "-c", STUBBORN)})
    await house.all()
    job_id = await house.post("stubborn", urgency="urgent")
    await house.reach(job_id, "running")
    pids = house.data / "checkpoints" / job_id / "pids"
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    processes = [int(each) for each in pids.read_text().split()]
    assert await cancel(house, job_id) == 202
    began = time.monotonic()
    await house.reach(job_id, "cancelled")
    assert time.monotonic() - began >= 0.25, "SIGKILL only after the grace"
    job = await house.job(job_id)
    assert "asked" in job["runs"][0]["output"], "SIGTERM came first"
    assert job["runs"][0]["outcome"] == "cancelled"
    await until(lambda: not any(alive(each) for each in processes))
    assert await cancel(house, job_id) == 409
    await until(lambda: not pids.parent.exists())
    await house.settled()
    sums = await house.sums()
    assert (sums["cancelled"], sums["attempts"], sums["failed"]) == (1, 1, 0)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return not Path("/proc").exists()


@pytest.mark.parametrize("kind", ["hold", "hold_thread"])
async def test_a_running_callable_ends(deploy: Deploy, kind: str) -> None:
    house = deploy()
    await house.all()
    job_id = await house.post(kind, urgency="urgent")
    await house.reach(job_id, "running")
    assert await cancel(house, job_id) == 202
    await house.reach(job_id, "cancelled")
    assert (await house.job(job_id))["runs"][0]["outcome"] == "cancelled"
    assert await cancel(house, job_id) == 409
    await house.settled()
    assert await house.ends(job_id) == {"job.started": 1, "job.failed": 1}


async def test_between_two_attempts(deploy: Deploy) -> None:
    house = deploy(retry_delay=60)
    await house.all()
    job_id = await house.post("broken", urgency="urgent")
    await house.reach(job_id, "deferred")
    assert await cancel(house, job_id) == 202
    await house.reach(job_id, "cancelled")
    assert (await house.job(job_id))["attempts"] == 1


@pytest.mark.parametrize("kind", ["quick", "nonsense", "broken"])
async def test_what_has_ended_cannot_be_cancelled(deploy: Deploy, kind: str) -> None:
    house = deploy()
    await house.all()
    await house.publish({"type": kind, "max_attempts": 1})
    state = {"quick": "completed", "nonsense": "rejected", "broken": "failed"}[kind]
    (job_id,) = await house.counted(state, 1)
    answer = await house.http("DELETE", f"/jobs/{job_id}")
    assert (answer.status, answer.body["type"].rpartition(":")[2]) == (409, "job-has-ended")
    await house.publish({"job_id": job_id}, type="job.cancel_requested")
    await house.settled_router()
    assert await house.state(job_id) == state


async def test_a_race_with_dispatch_start_and_end_has_one_winner(deploy: Deploy) -> None:
    house = deploy(types={"quick": TYPES["quick"]})
    await house.all()
    house.router()

    async def race(number: int) -> str:
        job_id = await house.post("quick", urgency="urgent" if number % 2 else "normal")
        await asyncio.sleep(0.0005 * (number % 12))
        assert await cancel(house, job_id) in (202, 409)
        await house.reach(job_id, "cancelled", "completed")
        return job_id

    ids = await asyncio.gather(*(race(number) for number in range(60)))
    await house.settled()
    states = {job_id: await house.state(job_id) for job_id in ids}
    completions = await house.events(house.topology.completions)
    deferrals = await house.events(house.topology.deferrals)
    for job_id, state in states.items():
        ends = [
            each
            for each in [*completions, *deferrals]
            if each.job_id == job_id
            and each.event_type not in ("job.started", "job.stop_requested")
        ]
        assert len(ends) == 1, (state, ends)
        won = ends[0].event_type == "job.completed"
        assert state == ("completed" if won else "cancelled")
    assert (await house.sums())["completed"] == list(states.values()).count("completed")


async def test_nonsense_cancellations_change_nothing(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    for job_id in ("", "x", "../clock", "0" * 26 + "-0", "0" * 26 + "-7"):
        await house.publish({"job_id": job_id}, type="job.cancel_requested")
    await house.publish({"type": "quick"})
    await house.counted("completed", 1)
    await house.settled()
    assert not await house.redis.exists(house.topology.record("0" * 26 + "-0"))
