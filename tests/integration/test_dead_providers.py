"""No provider answers: every job is still done by its deadline, and all is told as it was."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from deployment import Deploy, Deployment
from scripted_source import DAY, DEAD, HALF, HOUR, Scripted, course, heard, hurry, listening, said

from carbon_orchestrator.clock import GridClock, parse_time, wall_ms
from carbon_orchestrator.config import GreenestConfig
from carbon_orchestrator.signal.published import OWN
from carbon_orchestrator.signal.publishing import SignalRole
from streams.embedded import free_port
from streams.testing import until

POLICIES = ["threshold", "greenest_window", "greenest_slots"]
QUARTER = HALF // 2
SPEED = 1800.0  # half an hour of the grid in a second


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def submitted(house: Deployment, *deadlines: str) -> list[str]:
    """A job of every urgency and deadline, some of which may be suspended."""
    return [
        await house.post("quick", urgency=urgency, deadline=deadline, interruptible=number == 0)
        for number, deadline in enumerate(deadlines)
        for urgency in ("urgent", "normal", "flexible")
    ]


async def completed(house: Deployment, ids: list[str]) -> list[dict[str, Any]]:
    """Wait for all; each was in time, and ran once."""
    await asyncio.gather(*(house.reach(each, "completed", timeout=30) for each in ids))
    jobs = [await house.job(each) for each in ids]
    for job in jobs:
        end = job["timeline"][-1]
        assert end["event"] == "completed"
        assert parse_time(end["at"]) <= parse_time(job["deadline"]), job
        assert await house.ends(job["id"]) == {"job.started": 1, "job.completed": 1}
    return jobs


def dispatch(job: dict[str, Any]) -> str:
    """Why it was dispatched."""
    (step,) = [each for each in job["timeline"] if each["event"] == "dispatched"]
    return str(step["reason"])


@pytest.mark.parametrize("policy", POLICIES)
async def test_every_provider_is_dead_from_the_start(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("CARBON_NESO_URL", nowhere)
    monkeypatch.setenv("CARBON_ENERGY_CHARTS_URL", nowhere)
    house = deploy(policy=policy)
    part = house._part(lambda runtime: SignalRole(runtime, "neso", "energy-charts:de"))
    await house.all()
    ids = await submitted(house, "20s", "1h", "20h")
    for job in await completed(house, ids):
        assert "no usable carbon signal" in dispatch(job)
    assert await said(house) == [], "nothing is made up"
    body: dict[str, Any] = {}

    async def explained() -> bool:
        body.update((await house.http("GET", "/carbon")).body)
        return ":" in body["unusable"]

    await until(explained)
    assert body["signal"] == "none"
    assert body["unusable"].startswith("no usable carbon signal: NESO failing since")
    assert "Energy-Charts de failing since" in body["unusable"]
    health = (await house.http("GET", "/health")).body
    assert health["carbon"]["signal"] == "none"
    problems = [each.problem for each in part.role.zones[0].sources.all]
    assert all("cannot be reached" in (problem or "") for problem in problems)
    # Energy without a known intensity is counted as such, not as free of emissions.
    await house.settled()
    sums = await house.sums()
    assert sums["deadlines_met"] == len(ids)
    assert sums["emissions_ug"] == 0
    assert sums["unpriced_mj"] == sums["energy_mj"]


@pytest.mark.parametrize("policy", ["threshold", "greenest_slots"])
async def test_the_signal_dies_in_the_middle(deploy: Deploy, policy: str) -> None:
    """What is expected from then on is our own forecast, and deadlines are kept by it."""
    house = deploy(policy=policy, margin=2.0, greenest=GreenestConfig(min_saving=0))
    start = wall_ms() // DAY * DAY
    clock = GridClock(wall_ms(), start, SPEED, "scripted")
    await house.redis.hset(house.topology.clock, mapping=clock.fields())
    # Every coming hour is a little better than the one before: it pays to wait.
    source = Scripted("A", course(start - 3 * DAY, start + DAY, QUARTER, 300))
    source.resolution_ms = QUARTER
    source.points = [
        point._replace(value=point.value - max(point.time - start, 0) / HOUR)
        for point in source.points
    ]
    listening(house, source)
    await heard(house, "A", start)
    await house.all()
    await house.routing()
    ids = await submitted(house, "100m", "2h")
    waiting = [each for number, each in enumerate(ids) if number % 3]
    for each in waiting:
        await house.reach(each, "deferred", "running", "completed")
    source.error = DEAD
    event = await heard(house, OWN)
    assert event.estimated
    assert "A failing since" in (event.degraded or "")
    await completed(house, ids)
    decided = {
        dispatched.spec.job_id: dispatched.decision
        for pool in ("fast", "eco")
        for lane in ("", "due", "urgent")
        for dispatched in await house.events(house.topology.dispatch(pool, lane))
    }
    sources = {each: await spoken(house, decided[each].intensity_id) for each in ids}
    assert OWN in sources.values(), "decided by our own forecast"
    body = (await house.http("GET", "/carbon")).body
    assert body["signal"] == "degraded"
    assert (body["source"], body["estimated"]) == (OWN, True)
    assert body["degraded"].startswith("all sources failed: A failing since")


async def spoken(house: Deployment, intensity_id: str | None) -> str:
    """The source of the event that was decided by."""
    entry, _, index = (intensity_id or "").partition("/")
    rows = await house.redis.xrange(house.topology.intensity, entry, entry)
    batch: Any = msgspec.json.decode(rows[0][1][b"batch"])
    return str(batch[int(index)]["data"]["source"])
