"""Use cases 1-3: when a job starts and where, by urgency, intensity and deadline."""

from __future__ import annotations

import pytest
from deployment import HIGH, LOW, MEDIUM, TYPES, Deploy, Deployment

from carbon_orchestrator.clock import parse_time, wall_ms
from carbon_orchestrator.events import EmissionsRecorded
from streams.testing import until

BANDS = {"low": LOW, "medium": MEDIUM, "high": HIGH}


async def routed(house: Deployment, intensity: float | None) -> None:
    """A gateway and a router that have heard of this intensity."""
    if intensity is not None:
        await house.intensity(intensity)
    await house.gateway()
    house.router()
    await house.routing()


@pytest.mark.parametrize(
    ("urgency", "band", "outcome"),
    [
        ("urgent", "low", "fast"),
        ("urgent", "medium", "fast"),
        ("urgent", "high", "eco"),
        ("normal", "low", "fast"),
        ("normal", "medium", "eco"),
        ("normal", "high", "deferred"),
        ("flexible", "low", "fast"),
        ("flexible", "medium", "deferred"),
        ("flexible", "high", "deferred"),
        ("urgent", None, "fast"),
        ("normal", None, "eco"),
        ("flexible", None, "eco"),
    ],
)
async def test_the_table(deploy: Deploy, urgency: str, band: str | None, outcome: str) -> None:
    house = deploy()
    await routed(house, BANDS[band] if band else None)
    job_id = await house.post("quick", urgency=urgency)
    state = await house.reach(job_id, "dispatched", "deferred")
    job = await house.job(job_id)
    assert (job["pool"] if state == "dispatched" else "deferred") == outcome
    assert job["timeline"][-1].get("band") == band
    reason = job["timeline"][-1]["reason"]
    if band is not None:
        assert f"is {band} (limits 100-200)" in reason
    else:
        assert "no usable carbon signal" in reason
    if state == "dispatched":
        lane = "urgent" if urgency == "urgent" else ""
        assert await house.redis.xlen(house.topology.dispatch(outcome, lane)) == 1


async def test_a_deferral_says_when_and_until_when(deploy: Deploy) -> None:
    house = deploy()
    better = wall_ms() + 1_800_000
    await house.intensity(HIGH, forecast=[(better, MEDIUM), (better + 1_800_000, LOW)])
    await routed(house, None)
    job_id = await house.post("quick", deadline="6h", expected_duration="10m")
    await house.reach(job_id, "deferred")
    job = await house.job(job_id)
    assert parse_time(job["planned_start"]) == better
    margin, length = 50, 600_000
    assert parse_time(job["latest_start"]) == parse_time(job["deadline"]) - margin - length
    assert job["planned_pool"] == "eco"
    assert "300 g/kWh is high" in job["reason"]
    assert "when 150 is forecast" in job["reason"]
    (event,) = await house.events(house.topology.deferrals)
    assert event.decision.start == better
    assert event.decision.intensity == HIGH
    assert event.decision.intensity_id


async def test_each_intensity_event_plans_anew(deploy: Deploy) -> None:
    house = deploy()
    now = wall_ms()
    await house.intensity(HIGH, now - 2000, forecast=[(now + 3_600_000, LOW)])
    await routed(house, None)
    ids = [await house.post("quick", urgency=each) for each in ("normal", "flexible")]
    for job_id in ids:
        await house.reach(job_id, "deferred")
        assert parse_time((await house.job(job_id))["planned_start"]) == now + 3_600_000
    await house.intensity(HIGH, now - 1000, forecast=[(now + 1_800_000, LOW)])
    for job_id in ids:
        await until(lambda job_id=job_id: house.field(job_id, "replans"))
        assert parse_time((await house.job(job_id))["planned_start"]) == now + 1_800_000
    # Medium is good enough for normal work, on ECO; flexible work still waits.
    await house.intensity(MEDIUM, now, forecast=[(now + 1_800_000, LOW)])
    await house.reach(ids[0], "dispatched")
    assert (await house.job(ids[0]))["pool"] == "eco"
    assert await house.state(ids[1]) == "deferred"
    await house.intensity(LOW, now + 1)
    await house.reach(ids[1], "dispatched")
    assert (await house.job(ids[1]))["pool"] == "fast"
    steps = [each["event"] for each in (await house.job(ids[1]))["timeline"]]
    assert steps == ["submitted", "deferred", "dispatched"]


async def test_a_job_starts_on_eco_at_its_latest_start_and_meets_its_deadline(
    deploy: Deploy,
) -> None:
    house = deploy(margin=0.5)
    await house.all()
    await house.intensity(HIGH)
    await house.routing()
    ids = [
        await house.post("quick", urgency=urgency, deadline=1.7, expected_duration=0.2)
        for urgency in ("normal", "flexible")
    ]
    for job_id in ids:
        await house.reach(job_id, "deferred")
    latest_starts = [parse_time((await house.job(job_id))["latest_start"]) for job_id in ids]
    for job_id, latest in zip(ids, latest_starts, strict=True):
        await house.reach(job_id, "completed")
        job = await house.job(job_id)
        dispatched, completed = job["timeline"][-3], job["timeline"][-1]
        assert dispatched["event"] == "dispatched"
        assert latest <= parse_time(dispatched["at"]) < latest + 400
        assert "latest start" in dispatched["reason"]
        assert job["pool"] == "eco", dispatched["reason"]
        assert parse_time(completed["at"]) <= parse_time(job["deadline"])
    assert await house.redis.xlen(house.topology.dispatch("eco", "due")) == 2
    await house.settled()
    assert (await house.sums())["deadlines_met"] == 2


async def test_a_signal_that_falls_silent_holds_nothing_up(deploy: Deploy) -> None:
    """An intensity that is too old is none."""
    from carbon_orchestrator.config import ThresholdConfig

    threshold = ThresholdConfig(mode="absolute", low=100, high=200, hysteresis=0, max_age="10m")
    house = deploy(threshold=threshold)
    await house.all()
    await house.intensity(HIGH, wall_ms() - 601_000)
    await house.routing()
    job_id = await house.post("quick", deadline=60)
    await house.reach(job_id, "completed")
    assert "no usable carbon signal since" in (await house.job(job_id))["timeline"][1]["reason"]


async def test_the_intensity_of_another_zone_says_nothing(deploy: Deploy) -> None:
    house = deploy(zone="DE")
    foreign = deploy(namespace=house.config.namespace, zone="FR")
    await house.gateway()
    router = house.router()
    await foreign.intensity(HIGH)
    await house.settled_router()
    await until(lambda: router.role.table._last != "0-0")
    job_id = await house.post("quick")
    await house.reach(job_id, "dispatched")


async def test_emissions_are_integrated_over_the_intensities_during_the_run(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    now = wall_ms()
    await house.intensity(HIGH, now - 10_000)
    await house.routing()
    job_id = await house.post("hold", urgency="urgent")
    await house.reach(job_id, "running")
    changed = wall_ms() + 100
    await house.intensity(LOW, changed)
    await until(lambda: wall_ms() > changed + 200)
    house.release()
    await house.reach(job_id, "completed")
    events = await house.events(house.topology.emissions)
    (event,) = [each for each in events if isinstance(each, EmissionsRecorded)]
    share = (changed - event.started_at) / (event.at - event.started_at)
    mean = HIGH * share + LOW * (1 - share)
    assert event.energy_mj > 0
    assert abs(event.emissions_ug - event.energy_mj * mean / 3600) <= 1
    assert LOW < mean < HIGH


async def test_a_job_whose_type_is_gone_fails_and_holds_up_nobody(deploy: Deploy) -> None:
    before = deploy()
    await routed(before, HIGH)
    orphan = await before.post("quick", urgency="flexible")
    other = await before.post("burn", urgency="flexible")
    await before.reach(orphan, "deferred")
    await before.reach(other, "deferred")
    await before.stop()
    kept = {name: each for name, each in TYPES.items() if name != "quick"}
    after = deploy(namespace=before.config.namespace, types=kept)
    await after.gateway()
    after.router()
    after.worker("fast")
    await after.intensity(LOW)
    await after.reach(other, "completed")
    await after.reach(orphan, "failed")
    assert "no job type 'quick'" in (await after.job(orphan))["reason"]


async def test_a_damaged_record_holds_up_nobody(deploy: Deploy) -> None:
    house = deploy()
    await routed(house, HIGH)
    damaged, other = [await house.post("quick", urgency="flexible") for _ in range(2)]
    for each in (damaged, other):
        await house.reach(each, "deferred")
    record = house.topology.record(damaged)
    plan = await house.redis.hget(record, "plan")
    assert plan is not None
    await house.redis.hset(record, "plan", "{")
    house.worker("fast")
    await house.intensity(LOW)
    await house.reach(other, "completed")
    await house.redis.hset(record, "plan", plan)
    await house.intensity(LOW)
    await house.reach(damaged, "completed")
