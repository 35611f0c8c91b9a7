"""What would be decided is what is decided, and asking for it leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from deployment import HIGH, LOW, MEDIUM, Answer, Deploy, Deployment
from test_views import exactly

from carbon_orchestrator.clock import parse_time, wall_ms
from carbon_orchestrator.config import GreenestConfig, PoolConfig, ZoneConfig
from carbon_orchestrator.contract.submission_views import Preview
from carbon_orchestrator.events import Decision, JobDeferred, JobDispatched
from streams.testing import until

HOUR = 3_600_000
NDJSON = {"Content-Type": "application/x-ndjson"}


async def dry(house: Deployment, **fields: Any) -> Answer:
    return await house.http("POST", "/jobs?dry_run=true", json={"type": "quick", **fields})


async def everything(house: Deployment) -> dict[bytes, bytes]:
    """All keys but those of a role that only looks on."""
    found = [each async for each in house.redis.scan_iter(f"{house.config.namespace}:*")]
    names = sorted(each for each in found if b":receipt:" not in each)
    return {each: await house.redis.dump(each) for each in names}


async def decided(house: Deployment, job_id: str) -> tuple[str, Decision]:
    """The first decision about a job."""
    await house.reach(job_id, "deferred", "dispatched")
    topology = house.topology
    streams = [
        topology.deferrals,
        *(lane for p, z in topology.sites for lane in topology.dispatch_lanes(p, z)),
    ]
    for stream in streams:
        for event in await house.events(stream):
            if isinstance(event, JobDeferred) and event.job_id == job_id:
                return "defer", event.decision
            if isinstance(event, JobDispatched) and event.spec.job_id == job_id:
                return "dispatch", event.decision
    raise AssertionError("no decision is on record")


@pytest.mark.parametrize("policy", ["threshold", "greenest_window", "greenest_slots", "run_now"])
async def test_it_says_what_the_router_then_decides(deploy: Deploy, policy: str) -> None:
    house = deploy(
        policy=policy,
        greenest=GreenestConfig(min_saving=0, resume_cost="1s"),
        pools={
            "fast": PoolConfig(slots=4, capacity=1),
            "eco": PoolConfig(slots=4, capacity=1, energy=3),
        },
        zones={"FR": ZoneConfig(signal=["simulated"])},
    )
    await house.gateway()
    house.router()
    now = wall_ms()
    for zone, low in (("local", 3), ("FR", 2)):
        forecast = [(now + HOUR * n, LOW if n == low else MEDIUM + n) for n in range(1, 8)]
        await house.intensity(HIGH, now, zone, forecast=forecast, forecast_source="test")

    async def known() -> bool:
        asked = [await house.http("GET", f"/carbon?zone={zone}") for zone in ("local", "FR")]
        return all(each.body["signal"] == "ok" for each in asked)

    await until(known)
    await house.routing()
    for fields in (
        {"urgency": "flexible", "deadline": "6h", "expected_duration": "1h"},
        {"urgency": "flexible", "deadline": "6h", "expected_duration": "1h"},  # beside the first
        {"urgency": "normal", "deadline": "2h"},
        {"urgency": "urgent"},
        {"urgency": "flexible", "expected_duration": "1h", "deadline": "61m"},
        {"urgency": "flexible", "deadline": "6h", "zones": ["FR", "local"]},
        {"urgency": "flexible", "deadline": "6h", "interruptible": True, "timeout": "1h"},
    ):
        seen = await dry(house, **fields)
        assert seen.status == 200, seen.body
        exactly(seen.body, Preview)
        would, decision = await decided(house, await house.post("quick", **fields))
        body = seen.body
        assert (body["would"], body["pool"]) == (would, decision.pool), (fields, decision)
        assert body["zone"] == (decision.zone or "local")
        assert (body["intensity"], body["band"]) == (decision.intensity, decision.band)
        assert body["policy"] == policy
        assert body["longest_ms"] in (decision.fast_ms, decision.eco_ms)
        assert body["expected_intensity"] > 0
        if policy.startswith("greenest") and would == "defer":
            # Its latest start is by its own submission, a little later.
            assert abs(parse_time(body["start"]) - decision.start) < 2000, (fields, decision)


async def test_nothing_is_stored_and_no_key_is_used_up(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    await house.intensity(LOW)
    before = await everything(house)
    for _ in range(3):
        answer = await dry(house, urgency="flexible")
        assert answer.status == 200, answer.body
    keyed = await house.http(
        "POST", "/jobs?dry_run=1", json={"type": "quick"}, headers={"Idempotency-Key": "k"}
    )
    assert keyed.status == 200
    assert await everything(house) == before
    real = await house.http(
        "POST", "/jobs?dry_run=false", json={"type": "quick"}, headers={"Idempotency-Key": "k"}
    )
    assert real.status == 202


async def test_nothing_is_known_of_the_grid(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    body = (await dry(house, urgency="flexible")).body
    exactly(body, Preview)
    assert (body["intensity"], body["band"], body["simulated"]) == (None, None, None)
    assert "expected_intensity" not in body


async def test_it_is_as_strict_as_a_submission(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for fields, kind in (
        ({"type": "nonsense"}, "unknown-type"),
        ({"dedline": "6h"}, "invalid-job"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "invalid-job"),
    ):
        answer = await dry(house, **fields)
        assert (answer.status, answer.body["type"].rpartition(":")[2]) == (422, kind)
    for query, field in (
        ("dry_run=perhaps", "dry_run"),
        ("dry_run=", "dry_run"),
        ("dry_run=false&dry_run=true", "dry_run"),
        ("dryrun=true", "dryrun"),
    ):
        answer = await house.http("POST", f"/jobs?{query}", json={"type": "quick"})
        assert (answer.status, answer.body["field"]) == (422, field)
    bulk = await house.http("POST", "/jobs?dry_run=true", data=b'{"type":"quick"}', headers=NDJSON)
    assert (bulk.status, bulk.body["field"]) == (422, "dry_run")
    assert await house.ids("submitted") == []
