"""The clock that all share, and the house kept in order."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from deployment import HIGH, LOW, Deploy, Deployment

from carbon_orchestrator.accounting.housekeeping import Housekeeping
from carbon_orchestrator.clock import from_fields
from carbon_orchestrator.config import Retention
from carbon_orchestrator.lifecycle import STATES
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.signal.publishing import SignalRole
from streams.testing import until

TRACE = "time,gCO2/kWh\n" + "".join(
    f"2020-06-{day:02}T{hour:02}:00:00Z,{100 + (hour * 7 + day) % 200}\n"
    for day in range(1, 11)
    for hour in range(24)
)


async def clock(house: Deployment) -> dict[bytes, bytes]:
    fields: Any = await house.redis.hgetall(house.topology.clock)
    return dict(fields)


async def test_the_clock_is_set_once_and_kept(deploy: Deploy) -> None:
    house = deploy()
    first = house.signal(speed=60)
    await until(lambda: house.redis.exists(house.topology.clock))
    fields = await clock(house)
    gateway = await house.gateway()
    await until(lambda: gateway.runtime.clock == first.runtime.clock)
    assert gateway.runtime.clock.speed == 60
    await first.stop()
    second = house.signal(speed=60)
    await until(lambda: second.runtime.clock.speed == 60)
    assert await clock(house) == fields
    assert (await house.http("GET", "/carbon")).body["clock"]["speed"] == 60


async def test_several_signals_publish_each_point_once(deploy: Deploy) -> None:
    house = deploy()
    # Half an hour of the grid in 50 ms.
    parts = [house.signal(speed=36_000) for _ in range(3)]

    async def some() -> bool:
        return len(await house.events(house.topology.intensity)) >= 110

    await until(some)
    for part in parts:
        await part.stop()
    times = [each.time for each in await house.events(house.topology.intensity)]
    assert times == sorted(set(times))
    steps = {after - before for before, after in pairwise(times)}
    assert steps == {1_800_000}
    assert len({each.source for each in await house.events(house.topology.intensity)}) == 1


async def test_another_clock_is_refused_while_jobs_wait_by_this_one(
    deploy: Deploy, tmp_path: Any
) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    spec = f"csv:{tmp_path / 'trace.csv'}"
    house = deploy()
    first = house.signal(speed=60)
    await until(lambda: house.redis.exists(house.topology.clock))
    await house.gateway()
    job_id = await house.post("quick")
    await first.stop()
    before = await clock(house)
    runtime = Runtime(house.url, house.config)
    other = SignalRole(runtime, spec, speed=3600)
    with pytest.raises(SignalError, match="1 jobs wait by the clock of 'simulated x60'"):
        await other.establish_clock()
    assert await clock(house) == before
    await house.http("DELETE", f"/jobs/{job_id}")
    house.router()
    await house.reach(job_id, "cancelled")
    established = await other.establish_clock()
    assert established == from_fields(await clock(house))
    assert established.speed == 3600
    await runtime.aclose()


async def test_a_recorded_day_is_replayed_and_lived_through(deploy: Deploy, tmp_path: Any) -> None:
    """Deferral and release by the clock of 2020, an hour of it in 20 ms."""
    (tmp_path / "trace.csv").write_text(TRACE)
    house = deploy(margin=0.3)
    house.signal(f"csv:{tmp_path / 'trace.csv'}", speed=180_000)
    await until(lambda: house.redis.exists(house.topology.clock))
    await house.all()
    await until(lambda: all(part.runtime.clock.speed > 1 for part in house.parts))
    jobs = [
        await house.post("burn", urgency=each, deadline="60h", payload={"ms": 1})
        for each in ("urgent", "normal", "flexible") * 3
    ]
    for job_id in jobs:
        await house.reach(job_id, "completed")
        job = await house.job(job_id)
        assert job["submitted_at"].startswith("2020-06-")
        assert job["timeline"][-1]["at"] <= job["deadline"]
    days = await house.redis.zrange(house.topology.days, 0, -1)
    assert all(day.startswith(b"2020-06-") for day in days)


async def keeper(house: Deployment) -> tuple[Runtime, Housekeeping]:
    runtime = Runtime(house.url, house.config)
    return runtime, Housekeeping(runtime)


async def test_expired_jobs_leave_the_lists(deploy: Deploy) -> None:
    house = deploy(retention=Retention(jobs=1))
    await house.all()
    await house.intensity(HIGH)
    await house.routing()
    kept = await house.post("quick", deadline=3600)
    fields = {"urgency": "urgent", "max_attempts": 1}
    ended = [await house.post(kind, **fields) for kind in ("quick", "broken")]
    await house.publish({"type": "nonsense"})
    await house.reach(kept, "deferred")
    for job_id in ended:
        await until(lambda job_id=job_id: gone(house, job_id))
    runtime, housekeeping = await keeper(house)

    async def forgotten() -> bool:
        await housekeeping.tidy()
        return [state for state in STATES if await house.ids(state)] == ["deferred"]

    await until(forgotten)
    assert await house.ids("deferred") == [kept]
    assert (await house.http("GET", f"/jobs/{ended[0]}")).status == 404
    await house.intensity(LOW)
    await runtime.aclose()


async def gone(house: Deployment, job_id: str) -> bool:
    return await house.state(job_id) is None


async def test_consumers_that_went_without_a_word_are_removed(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    stream = house.topology.jobs
    await until(lambda: house.redis.exists(stream))
    await house.settled_router()
    await house.redis.execute_command("XGROUP", "CREATECONSUMER", stream, "router", "ghost")
    runtime, housekeeping = await keeper(house)
    await housekeeping.tidy()
    names = {each["name"] for each in await house.redis.xinfo_consumers(stream, "router")}
    assert b"ghost" in names, "it was heard of just now"
    await runtime.aclose()
