"""What an autoscaler is told of a pool, and that our scaler goes by the same."""

from __future__ import annotations

from typing import Any

from deployment import HIGH, LOW, Deploy, Deployment
from test_scaler import QUICK, InMemory, nothing, scaler
from test_views import exactly

from carbon_orchestrator.config import ZoneConfig
from carbon_orchestrator.contract import house_views
from streams.testing import until


async def demand(house: Deployment, site: str) -> dict[str, Any]:
    answer = await house.http("GET", f"/pools/{site}/demand")
    assert answer.status == 200, answer.body
    exactly(answer.body, house_views.Demand)
    return dict(answer.body)


async def needs(house: Deployment, site: str, workers: int) -> dict[str, Any]:
    async def so_many() -> dict[str, Any] | None:
        found = await demand(house, site)
        return found if found["workers"] == workers else None

    return await until(so_many) or {}


async def test_whoever_scales_a_pool_is_told_what_our_scaler_does(deploy: Deploy) -> None:
    house = deploy(scaler=QUICK)
    await house.gateway()
    house.router()
    await house.intensity(LOW)
    await house.routing()
    assert (await demand(house, "fast"))["workers"] == 0
    for _ in range(9):
        await house.post("quick", urgency="normal", deadline="1d")
    await house.counted("dispatched", 9)
    found = await needs(house, "fast", 3)
    assert (found["running"], found["waiting"], found["pressing"]) == (0, 9, 0)
    pools = (await house.http("GET", "/pools")).body["pools"]
    assert [each["waiting"] for each in pools] == [9, 0]
    sizes = InMemory(nothing())
    part = scaler(house, sizes)
    await until(lambda: sizes.sizes["fast"] == 3)
    (event,) = await house.events(house.topology.scaling)
    assert event.reason == f"from 0 to 3: {found['reason']}"

    async def told() -> dict[str, Any] | None:
        listed = (await house.http("GET", "/pools")).body["pools"]
        return dict(listed[0]["sized"]) if listed[0]["sized"] else None

    sized = await until(told)
    assert sized is not None
    assert (sized["workers"], sized["reason"]) == (3, event.reason)
    # The carbon limits both alike, and nobody who has jobs is to go.
    await house.intensity(HIGH)
    found = await needs(house, "fast", 1)
    assert "carbon is high" in found["reason"]
    await until(lambda: sizes.sizes["fast"] == 1)
    await part.stop()


async def test_workers_that_have_jobs_are_needed(deploy: Deploy) -> None:
    house = deploy(scaler=QUICK, zones={"XX": ZoneConfig(signal=["simulated"], pools=("fast",))})
    await house.gateway()
    house.router()
    house.worker("fast")
    await house.intensity(LOW)
    await house.routing()
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    assert (await needs(house, "fast", 1))["running"] == 1
    assert (await demand(house, "fast@XX"))["workers"] == 0
    unknown = await house.http("GET", "/pools/slow/demand")
    assert (unknown.status, unknown.body["detail"]) == (
        404,
        "no such pool; known: fast, eco, fast@XX",
    )
    house.release()
    await house.reach(held, "completed")
    await needs(house, "fast", 0)
