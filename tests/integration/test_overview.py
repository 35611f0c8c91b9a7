"""The deployment at a glance, and its pools, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from deployment import HIGH, Deploy, Deployment, python_type
from test_views import exactly

from carbon_orchestrator.config import PoolConfig
from carbon_orchestrator.contract import house_views
from carbon_orchestrator.gateway.deployment import deadlines
from streams.testing import until


async def overview(house: Deployment) -> dict[str, Any]:
    answer = await house.http("GET", "/overview")
    assert answer.status == 200, answer.body
    exactly(answer.body, house_views.Overview)
    return dict(answer.body)


async def test_an_empty_deployment_is_all_zeros(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    seen = await overview(house)
    assert seen["emissions"]["since"] is seen["oldest_wait"] is None
    assert seen["emissions"]["emitted_ug"] == seen["waiting"] == seen["dead_letters"] == 0
    assert not seen["emissions"]["simulated"]
    assert seen["running"] == {"fast": 0, "eco": 0}
    assert seen["rates"] == {"submitted_per_min": 0.0, "completed_per_min": 0.0}


async def test_it_tells_what_runs_waits_and_was_emitted(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.intensity(HIGH, simulated=True)
    await house.routing()
    done = await house.post("burn", urgency="urgent")
    await house.reach(done, "completed")
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    waits = await house.post("quick", urgency="flexible", deadline="6h")
    await house.reach(waits, "deferred")

    async def counted() -> dict[str, Any] | None:
        seen = await overview(house)
        return seen if seen["emissions"]["energy_mj"] and seen["waiting"] else None

    seen = await until(counted, 10)
    assert seen is not None
    assert seen["emissions"]["since"] == seen["now"][:10]
    assert seen["jobs"]["completed"] == seen["jobs"]["running"] == seen["jobs"]["deferred"] == 1
    assert seen["waiting"] == 1
    assert sum(seen["running"].values()) == 1
    assert (seen["oldest_wait"]["id"], seen["oldest_wait"]["state"]) == (waits, "deferred")
    assert seen["rates"] == {"submitted_per_min": 3.0, "completed_per_min": 1.0}
    emissions = seen["emissions"]
    assert emissions["avoided_ug"] == emissions["baseline_ug"] - emissions["emitted_ug"]
    assert emissions["simulated"]
    answer = await house.http("GET", "/pools")
    exactly(answer.body, house_views.Pools)
    pools = {each["site"]: each for each in answer.body["pools"]}
    assert set(pools) == {"fast", "eco"}
    assert pools["fast"]["zone"] is pools["fast"]["sized"] is None
    assert [(each["workers"], each["slots"]) for each in pools.values()] == [(1, 4), (1, 4)]
    assert sum(each["running"] for each in pools.values()) == 1
    house.release()
    await house.reach(held, "completed")


async def risk(house: Deployment, jobs: int) -> dict[str, Any]:
    """Wait until so many jobs are at risk; what is said of it."""

    async def so_many() -> dict[str, Any] | None:
        found = (await overview(house))["deadline_risk"]
        return dict(found) if found["jobs"] == jobs else None

    return await until(so_many, 15) or {}


async def test_jobs_likely_to_miss_their_deadlines_are_found_wherever_they_stand(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "_KEPT_SECONDS", 0.1)
    types = {
        "hold": python_type("hold", expected_duration=3600),
        "quick": python_type("quick", expected_duration=3600),
    }
    house = deploy(types=types, pools={"fast": PoolConfig(slots=1), "eco": PoolConfig(slots=1)})
    await house.gateway()
    unseen = await house.post("quick", deadline="59m")
    found = await risk(house, 1)
    assert found["complete"]
    assert [each["id"] for each in found["examples"]] == [unseen]
    assert "no router" in found["examples"][0]["why"]
    house.router()
    house.accounting()
    await house.reach(unseen, "dispatched")
    worker = house.worker("fast", slots=1)
    await house.reach(unseen, "completed")
    held = await house.post("hold", urgency="urgent", deadline="59m")
    await house.reach(held, "running")
    behind = await house.post("quick", urgency="urgent", deadline="90m")
    fine = await house.post("quick", urgency="urgent", deadline="4h")
    await house.reach(fine, "dispatched")
    found = await risk(house, 2)
    assert (found["examined"], found["complete"]) == (3, True)
    why = {each["id"]: each["why"] for each in found["examples"]}
    assert set(why) == {held, behind}
    assert "has run for" in why[held]
    assert "fast has 1 slot" in why[behind]
    house.release()
    await house.reach(fine, "completed")
    await worker.stop()


async def test_a_deferred_job_that_nobody_starts_is_at_risk(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "_KEPT_SECONDS", 0.1)
    house = deploy()
    await house.gateway()
    router = house.router()
    await house.intensity(HIGH)
    await house.routing()
    late = await house.post("quick", urgency="flexible", deadline="2s", expected_duration="1s")
    fine = await house.post("quick", urgency="flexible", deadline="6h", expected_duration="1s")
    await house.counted("deferred", 2)
    await router.stop()
    house.parts.remove(router)
    found = await risk(house, 1)
    assert found["complete"]
    assert [each["id"] for each in found["examples"]] == [late]
    assert "is a router at work?" in found["examples"][0]["why"]
    assert await house.state(fine) == "deferred"
