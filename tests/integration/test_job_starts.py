"""`GET /carbon/starts`: what started and what is to start, by pool, zone and project."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from deployment import HIGH, LOW, Deploy, Deployment
from test_api_keys import Keys

from carbon_orchestrator.clock import parse_time, rfc3339, wall_ms
from carbon_orchestrator.config import ZoneConfig
from carbon_orchestrator.contract import live_views
from carbon_orchestrator.events import EmissionsRecorded
from carbon_orchestrator.gateway.grid import past_starts, planned_starts
from streams.codec import envelope

HOUR = 3_600_000


async def starts(house: Deployment, query: str = "", key: str | None = None) -> dict[str, Any]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = await house.http("GET", f"/carbon/starts{query}", headers=headers)
    assert answer.status == 200, answer.body
    view = msgspec.convert(answer.body, live_views.JobStarts)
    assert msgspec.to_builtins(view) == answer.body
    return dict(answer.body)


def counted(buckets: list[dict[str, Any]]) -> Counter[str | None]:
    found: Counter[str | None] = Counter()
    for each in buckets:
        assert 1 <= len(each["ids"]) <= 3
        assert len(each["ids"]) == min(3, each["jobs"])
        found[each["pool"]] += each["jobs"]
    return found


def ended(number: int, at: int, **more: Any) -> EmissionsRecorded:
    fields: dict[str, Any] = {
        "job_id": f"job-{number}",
        "attempt": 1,
        "at": at + 1000,
        "started_at": at,
        "pool": "eco",
        "type": "quick",
        "energy_mj": 1,
        "energy_method": "test",
        "energy_uncertainty": 0.1,
        "emissions_ug": 1,
        "baseline_ug": 1,
        **more,
    }
    return EmissionsRecorded(**fields)


async def record(house: Deployment, *events: EmissionsRecorded) -> None:
    batch = b"[" + b",".join(envelope(each, "test") for each in events) + b"]"
    await house.redis.xadd(house.topology.emissions, {"batch": batch})


async def test_what_ran_runs_and_waits_is_there_once(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    await house.intensity(LOW)
    await house.routing()
    assert await starts(house) == {
        "zone": house.config.zone,
        "bucket_ms": 15 * 60_000,
        "starts": [],
        "planned": [],
        "complete": True,
    }
    done = [await house.post("quick", urgency="urgent") for _ in range(5)]
    for each in done:
        await house.reach(each, "completed")
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    shown = await starts(house)
    assert counted(shown["starts"]) == {"fast": 6}
    await house.intensity(HIGH)
    await house.routing()
    waiting = [await house.post("quick", urgency="flexible", deadline="6h") for _ in range(4)]
    for each in waiting:
        await house.reach(each, "deferred")
    shown = await starts(house)
    assert counted(shown["starts"]) == {"fast": 6}
    assert counted(shown["planned"]) == {"eco": 4}
    assert shown["complete"] is True
    plan = await house.job(waiting[0])
    length = shown["bucket_ms"]
    at = parse_time(plan["planned_start"]) // length * length
    assert rfc3339(at) in [each["time"] for each in shown["planned"]]
    begun = parse_time(shown["starts"][-1]["time"])
    assert begun % length == 0
    assert begun <= wall_ms() < begun + length + 60_000
    house.release()
    await house.reach(held, "completed")
    await house.settled()
    assert counted((await starts(house))["starts"]) == {"fast": 6}, "it was counted already"


async def test_only_the_time_that_is_asked_for_is_shown(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    noon = parse_time("2026-03-01T12:00:00Z")
    await record(house, *(ended(number, noon + number * 60_000) for number in range(60)))
    shown = await starts(house, "?from=2026-03-01T12:00:00Z&to=2026-03-01T12:30:00Z")
    assert shown["bucket_ms"] == 10_000
    assert counted(shown["starts"]) == {"eco": 30}
    assert [each["time"] for each in shown["starts"]] == [
        rfc3339(noon + number * 60_000) for number in range(30)
    ]
    assert shown["planned"] == []
    wide = await starts(house, "?from=2026-03-01T00:00:00Z&to=2026-03-03T00:00:00Z")
    assert [(each["time"], each["jobs"]) for each in wide["starts"]] == [
        (rfc3339(noon + number * 15 * 60_000), 15) for number in range(4)
    ]


async def test_what_is_new_is_added_and_the_oldest_forgotten(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_starts, "_PAGE", 4)
    monkeypatch.setattr(past_starts, "MOST_ENDED", 50)
    house = deploy()
    await house.gateway()
    noon = parse_time("2026-03-01T12:00:00Z")
    query = "?from=2026-03-01T12:00:00Z&to=2026-03-01T15:00:00Z"
    for number in range(50):
        await record(house, ended(number, noon + number * 60_000))
        if number % 7 == 0:
            assert counted((await starts(house, query))["starts"])["eco"] == number + 1
    shown = await starts(house, query)
    assert (counted(shown["starts"])["eco"], shown["complete"]) == (50, True)
    await record(house, ended(50, noon + 50 * 60_000), ended(51, noon + 51 * 60_000))
    shown = await starts(house, query)
    assert (counted(shown["starts"])["eco"], shown["complete"]) == (50, False)
    later = "?from=2026-03-01T12:10:00Z&to=2026-03-01T15:00:00Z"
    shown = await starts(house, later)
    assert (counted(shown["starts"])["eco"], shown["complete"]) == (42, True)
    # So much that the way back to what is known is too long.
    for number in range(52, 152):
        await record(house, ended(number, noon + number * 60_000))
    shown = await starts(house, query)
    assert 50 <= counted(shown["starts"])["eco"] <= 52
    assert shown["complete"] is False
    await house.redis.delete(house.topology.emissions)
    await house.redis.xadd(
        house.topology.emissions,
        {"batch": b"[" + envelope(ended(1, noon), "test") + b"]"},
        id="1-1",
    )
    shown = await starts(house, query)
    assert (counted(shown["starts"]), shown["complete"]) == ({"eco": 1}, True)


async def test_many_that_wait_are_counted_without_reading_each(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_starts, "MOST_READ", 10)
    house = deploy()
    await house.gateway()
    now = wall_ms()
    ids = {f"job-{number}": now + number * 60_000 - HOUR for number in range(200)}
    await house.redis.zadd(house.topology.wake, ids)
    shown = await starts(house)
    assert counted(shown["planned"]) == {None: 200}
    assert shown["complete"] is True
    first = shown["planned"][0]
    assert first["jobs"] >= 60, "those that were due are about to start"
    assert first["ids"] == ["job-0", "job-1", "job-2"]
    ahead = await starts(house, f"?from={rfc3339(now + HOUR)}&to={rfc3339(now + 2 * HOUR)}")
    assert counted(ahead["planned"]) == {None: 60}
    assert ahead["starts"] == []
    await house.redis.delete(house.topology.wake)


async def test_zones_are_kept_apart(deploy: Deploy) -> None:
    house = deploy(zones={"FR": ZoneConfig(signal=["simulated"], pools=("eco",))})
    await house.gateway()
    noon = parse_time("2026-03-01T12:00:00Z")
    query = "?from=2026-03-01T12:00:00Z&to=2026-03-01T13:00:00Z"
    home = house.config.zone
    await record(house, ended(1, noon), ended(2, noon, zone=home), ended(3, noon, zone="FR"))
    assert counted((await starts(house, query))["starts"]) == {"eco": 2}
    shown = await starts(house, f"{query}&zone=FR")
    assert shown["zone"] == "FR"
    assert shown["starts"][0]["ids"] == ["job-3"]


async def test_a_bound_key_sees_its_project(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    bound = await keys.make("read", project="mine")
    await house.all()
    await house.intensity(LOW)
    await house.routing()
    mine = [await house.post("quick", urgency="urgent", project="mine") for _ in range(2)]
    theirs = [await house.post("quick", urgency="urgent") for _ in range(3)]
    for each in (*mine, *theirs):
        await house.reach(each, "completed")
    mine.append(await house.post("hold", urgency="urgent", project="mine"))
    theirs.append(await house.post("hold", urgency="urgent"))
    for each in (mine[-1], theirs[-1]):
        await house.reach(each, "running")
    await house.intensity(HIGH)
    await house.routing()
    waiting = await house.post("quick", urgency="flexible", deadline="6h", project="mine")
    other = await house.post("quick", urgency="flexible", deadline="6h")
    for each in (waiting, other):
        await house.reach(each, "deferred")
    every, own = await starts(house), await starts(house, key=bound)
    assert (counted(every["starts"]), counted(every["planned"])) == ({"fast": 7}, {"eco": 2})
    assert (counted(own["starts"]), counted(own["planned"])) == ({"fast": 3}, {"eco": 1})
    assert {each for bucket in own["starts"] for each in bucket["ids"]} == set(mine)
    assert own["planned"][0]["ids"] == [waiting]
    house.release()


async def test_what_is_asked_wrongly_is_refused(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for query, status, field in (
        ("zone=XX", 404, None),
        ("from=yesterday", 422, "from"),
        ("to=x", 422, "to"),
        ("from=2026-03-01T12:00:00Z&to=2026-03-01T12:00:00Z", 422, "to"),
        ("from=2020-03-01T12:00:00Z&to=2026-03-01T12:00:00Z", 422, "to"),
    ):
        answer = await house.http("GET", f"/carbon/starts?{query}")
        assert (answer.status, answer.body.get("field")) == (status, field)
