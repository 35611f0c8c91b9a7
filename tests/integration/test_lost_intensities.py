"""What was made from an intensity that then went with a lost primary is made anew."""

from __future__ import annotations

from deployment import HIGH, LOW, Deploy, Deployment

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import EmissionsRecorded
from carbon_orchestrator.signal.intensities import young
from streams.testing import until


def test_only_what_is_new_may_be_lost() -> None:
    now = wall_ms()
    places = [None, f"{now - 1000}-3/0", f"{now - 120_000}-0/1"]
    assert young(places, now) == {f"{now - 1000}-3/0"}


async def lose_the_last(house: Deployment) -> None:
    ((entry_id, _),) = await house.redis.xrevrange(house.topology.intensity, count=1)
    await house.redis.xdel(house.topology.intensity, entry_id)


async def reconnect(house: Deployment) -> None:
    """As clients do when their server is another one."""
    await house.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_a_decision_is_not_made_from_what_is_gone(deploy: Deploy) -> None:
    house = deploy(lease=1)
    await house.intensity(LOW)
    await house.gateway()
    house.router()
    await house.routing()
    await house.intensity(HIGH)
    await house.routing()
    await lose_the_last(house)
    job_id = await house.post("quick")

    async def delivered() -> bool:
        return bool((await house.redis.xpending(house.topology.jobs, "router"))["pending"])

    await until(delivered)
    assert await house.state(job_id) == "submitted"
    await reconnect(house)
    await house.reach(job_id, "dispatched", timeout=10)
    assert (await house.job(job_id))["pool"] == "fast"
    assert not await house.events(house.topology.deferrals)


async def test_an_attempt_is_not_priced_by_what_is_gone(deploy: Deploy) -> None:
    house = deploy()
    await house.intensity(LOW)
    ((first, _),) = await house.redis.xrevrange(house.topology.intensity, count=1)
    await house.gateway()
    house.router()
    worker = house.worker("fast").role
    job_id = await house.post("hold", urgency="urgent")
    await house.reach(job_id, "running")
    await house.intensity(HIGH)
    await until(lambda: worker.grid.home.latest and worker.grid.home.latest.intensity == HIGH)
    await lose_the_last(house)
    await reconnect(house)
    house.release()
    await house.reach(job_id, "completed", timeout=10)
    (event,) = await house.events(house.topology.emissions)
    assert isinstance(event, EmissionsRecorded)
    assert event.priced_by == f"{first.decode()}/0"
