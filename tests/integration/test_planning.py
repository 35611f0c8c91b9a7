"""The planning policies in the running system: plans, room in the pools, zones, suspension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from deployment import Deploy, Deployment

from carbon_orchestrator.clock import parse_time, wall_ms
from carbon_orchestrator.config import GreenestConfig, PoolConfig, ZoneConfig
from carbon_orchestrator.events import JobDeferred, SuspendRequested
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.router.routing import Known
from carbon_orchestrator.router.waiting import Running, Waiting
from carbon_orchestrator.runtime import Runtime
from streams.testing import until

HOUR = 3_600_000
STEP = 1_800_000


def planning(**changes: Any) -> dict[str, Any]:
    """FAST is the greener pool here, unless it is full."""
    return {
        "policy": "greenest_slots",
        "greenest": GreenestConfig(min_saving=0, resume_cost="1s"),
        "pools": {
            "fast": PoolConfig(slots=4, capacity=1),
            "eco": PoolConfig(slots=4, capacity=1, energy=3),
        },
        **changes,
    }


async def observed(house: Deployment, *hours: float, zone: str | None = None) -> int:
    """Intensities of the coming hours from now on; when the first began."""
    now = wall_ms()
    ahead = [(now + n * HOUR, value) for n, value in enumerate(hours) if n]
    await house.intensity(hours[0], now, zone, forecast=ahead)
    return now


async def routed(house: Deployment) -> None:
    await house.gateway()
    house.router()
    await house.routing()


async def planned(house: Deployment, job_id: str) -> int:
    await house.reach(job_id, "deferred")
    return parse_time((await house.job(job_id))["planned_start"])


async def test_a_job_waits_for_its_greenest_hour_and_says_why(deploy: Deploy) -> None:
    house = deploy(**planning())
    now = await observed(house, 300, 200, 100, 250, 250)
    await routed(house)
    job_id = await house.post("quick", deadline="5h", expected_duration="1h")
    assert await planned(house, job_id) == now + 2 * HOUR
    job = await house.job(job_id)
    assert job["planned_pool"] == "fast"
    assert "expected if run now" in job["reason"]
    assert "on FAST at 100" in job["reason"]
    (event,) = await house.events(house.topology.deferrals)
    assert isinstance(event, JobDeferred)
    assert event.decision.policy == "greenest_slots"
    assert event.decision.end == event.decision.start + HOUR
    assert msgspec.json.decode(event.decision.params)["min_saving"] == 0
    # The forecast is revised: so is the plan; and then now is the best time.
    later = await observed(house, 300, 50, 100, 250, 250)
    await until(lambda: house.field(job_id, "replans"))
    assert await planned(house, job_id) == later + HOUR
    await observed(house, 20, 50, 100, 250, 250)
    await house.reach(job_id, "dispatched")
    assert (await house.job(job_id))["pool"] == "fast"


async def test_the_greenest_hour_is_given_to_no_more_than_fit(deploy: Deploy) -> None:
    house = deploy(**planning())
    now = await observed(house, 300, 200, 100, 120, 250, 250, 250)
    await routed(house)
    starts = []
    for _ in range(3):
        job_id = await house.post("quick", deadline="6h", expected_duration="1h")
        starts.append(((await planned(house, job_id) - now) // HOUR, job_id))
    # Hours are not quarters of an hour: what is booked reaches into the next quarter.
    assert [hours for hours, _ in starts[:2]] == [2, 3]
    assert starts[2][0] not in (2, 3)
    # The first is cancelled, and its place is free again.
    assert (await house.http("DELETE", f"/jobs/{starts[0][1]}")).status == 202
    await house.reach(starts[0][1], "cancelled")
    again = await house.post("quick", deadline="6h", expected_duration="1h")
    assert (await planned(house, again) - now) // HOUR == 2


async def test_who_came_first_gets_the_greenest_room(deploy: Deploy) -> None:
    """Not who happens to be planned for an earlier time."""
    house = deploy(**planning())
    await observed(house, 300, 250, 200, 100, 300, 300, 300)
    await routed(house)
    first = await house.post("quick", deadline="6h", expected_duration="40m")
    later = await planned(house, first)
    second = await house.post("quick", deadline="6h", expected_duration="1h")
    assert await planned(house, second) < later
    await observed(house, 300, 250, 200, 150, 10, 300, 300)
    await until(lambda: house.field(first, "replans"))
    await until(lambda: house.field(second, "replans"))
    pools = [(await house.job(job_id))["planned_pool"] for job_id in (first, second)]
    assert pools == ["fast", "eco"]


@pytest.mark.parametrize("within_a_tick", [False, True])
async def test_an_event_asks_nothing_about_plans_that_were_made_with_it(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, within_a_tick: bool
) -> None:
    if within_a_tick:
        standing = wall_ms()
        monkeypatch.setattr(Runtime, "now", lambda _: standing)
    house = deploy(**planning())
    await observed(house, 300, 200, 100, 250, 250)
    await routed(house)
    (router,) = [part.role for part in house.parts if isinstance(part.role, Router)]
    asked: list[str] = []
    reconsidered = router.routing.reconsidered

    def noted(waiting: Waiting, known: Known) -> Any:
        asked.append(waiting.spec.job_id)
        return reconsidered(waiting, known)

    router.routing.reconsidered = noted
    job_id = await house.post("quick", deadline="5h", expected_duration="1h")
    await planned(house, job_id)
    look = await router._replan([job_id])
    assert look is not None
    assert look.moved == 0
    assert asked == []
    await observed(house, 300, 200, 99, 250, 250)
    await until(lambda: asked)
    assert asked == [job_id]


async def test_two_routers_share_the_books(deploy: Deploy) -> None:
    house = deploy(**planning())
    now = await observed(house, 300, 300, 100, 250, 250, 250, 250)
    await routed(house)
    first = await house.post("quick", deadline="6h", expected_duration="1h")
    await planned(house, first)
    await house.parts[-1].stop()
    house.parts.pop()
    house.router()
    await house.routing()
    second = await house.post("quick", deadline="6h", expected_duration="1h")
    assert await planned(house, second) >= now + 3 * HOUR


async def test_a_job_may_go_to_a_greener_zone(deploy: Deploy) -> None:
    zones = {"FR": ZoneConfig(signal=["simulated"], pools=("eco",))}
    house = deploy(**planning(zones=zones))
    await observed(house, 300, 290, 290)
    await observed(house, 40, 40, 40, zone="FR")
    await routed(house)
    await until(lambda: all(grid.latest for grid in house.parts[-1].role.grids))
    stays = await house.post("quick", deadline="2h", expected_duration="1h")
    goes = await house.post("quick", deadline="2h", expected_duration="1h", zones=["local", "FR"])
    await planned(house, stays)
    await house.reach(goes, "dispatched")
    (event,) = await house.events(house.topology.dispatch("eco", zone="FR"))
    assert event.spec.job_id == goes
    assert event.decision.zone == "FR"
    assert [each.zone for each in event.decision.considered] == ["local", "FR"]
    assert event.decision.considered[1].fast_full is None
    assert "ECO in FR" in event.decision.reason
    refused = await house.http("POST", "/jobs", json={"type": "quick", "zones": ["FR", "XX"]})
    assert refused.status == 422
    assert "zones.1" in str(refused.body)


async def test_who_ends_while_it_is_looked_at_takes_no_room(deploy: Deploy) -> None:
    """Not even in mind: the next one's plan is made as if it were gone."""
    house = deploy(**planning(pools={"fast": PoolConfig(slots=4, capacity=2)}))
    await observed(house, 100, 300, 300, 300)
    await house.all()
    await house.routing()
    (router,) = [part.role for part in house.parts if isinstance(part.role, Router)]
    job_ids = [
        await house.post("hold", deadline="5h", expected_duration="2h", interruptible=True)
        for _ in range(2)
    ]
    for job_id in job_ids:
        await house.reach(job_id, "running")
    read, ended = router.books.read, []

    async def ended_before(client: Any, index: str = "", members: Sequence[str] = ()) -> list[bool]:
        if members and await house.redis.zrem(index, members[0]):
            ended.append(members[0])
        return list(await read(client, index, members))

    router.books.read = ended_before
    suspended = router.routing.suspended

    def noted(running: Running, known: Known) -> Any:
        looked.append(running.spec.job_id)
        return suspended(running, known)

    looked: list[str] = []
    router.routing.suspended = noted
    await observed(house, 300, 300, 50, 50, 50)
    await until(lambda: looked)
    assert (ended, looked) == ([job_ids[0]], [job_ids[1]])
    house.release()
    await house.counted("completed", 2)


async def test_a_running_job_is_asked_to_pause_once(deploy: Deploy) -> None:
    house = deploy(**planning())
    await observed(house, 100, 300, 300, 300)
    await house.all()
    await house.routing()
    job_id = await house.post("hold", deadline="5h", expected_duration="2h", interruptible=True)
    await house.reach(job_id, "running")
    now = await observed(house, 300, 300, 50, 50, 50)

    async def asked() -> list[SuspendRequested]:
        events = await house.events(house.topology.deferrals)
        return [event for event in events if isinstance(event, SuspendRequested)]

    (request,) = await until(asked) or []
    assert request.job_id == job_id
    assert abs(request.decision.start - now - 2 * HOUR) < 60_000
    assert request.decision.running == "fast"
    assert "suspended: the rest would run at" in request.decision.reason
    await observed(house, 301, 300, 50, 50, 50)
    await house.settled_router()
    assert len(await asked()) == 1
    house.release()
