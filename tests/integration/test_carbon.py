"""The grid over HTTP: its past, and when a job would best be run."""

from __future__ import annotations

from typing import Any

import pytest
from deployment import Deploy, Deployment, python_type
from test_views import exactly

from carbon_orchestrator.clock import parse_time, rfc3339, wall_ms
from carbon_orchestrator.config import GreenestConfig, PoolConfig, ThresholdConfig, ZoneConfig
from carbon_orchestrator.contract import house_views, views
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.gateway.grid.grids import MOST_POINTS
from streams.codec import envelope
from streams.testing import until

MINUTE, HOUR = 60_000, 3_600_000


async def seen(house: Deployment, path: str, points: int) -> dict[str, Any]:
    """Wait until the gateway knows so many points of the past."""

    async def so_many() -> dict[str, Any] | None:
        answer = await house.http("GET", path)
        assert answer.status == 200, answer.body
        exactly(answer.body, house_views.CarbonHistory)
        return dict(answer.body) if len(answer.body["points"]) == points else None

    return await until(so_many) or {}


async def test_the_past_of_a_zone(deploy: Deploy) -> None:
    house = deploy(zones={"XX": ZoneConfig(signal=["simulated"], pools=("fast",))})
    await house.gateway()
    assert (await seen(house, "/carbon/history", 0))["kind"] is None
    now = wall_ms()
    for ago, value, estimated in ((30, 300, False), (20, 200, False), (2, 100, True)):
        await house.intensity(value, now - ago * HOUR, estimated=estimated)
    found = await seen(house, "/carbon/history", 2)
    assert (found["zone"], found["kind"], found["step_ms"]) == ("local", "average", None)
    assert (found["low"], found["high"]) == (100, 200)
    assert found["points"] == [
        {
            "time": rfc3339(now - ago * HOUR),
            "intensity": value,
            "estimated": estimated,
            "simulated": False,
        }
        for ago, value, estimated in ((20, 200, False), (2, 100, True))
    ]
    # A point that is measured at last is an estimate no longer.
    await house.intensity(110, now - 2 * HOUR)

    async def revised() -> bool:
        last = (await house.http("GET", "/carbon/history")).body["points"][-1]
        return last["intensity"] == 110 and not last["estimated"]

    await until(revised)
    start, end = rfc3339(now - 29 * HOUR), rfc3339(now - 19 * HOUR)
    found = await seen(house, f"/carbon/history?from={start}&to={end}", 2)
    assert [each["intensity"] for each in found["points"]] == [300, 200]  # the one that holds, too
    await seen(house, "/carbon/history?zone=XX", 0)


async def test_a_long_past_comes_as_means(deploy: Deploy) -> None:
    # A band goes by all values of its window, each time one more is there.
    house = deploy(threshold=ThresholdConfig(mode="absolute", low=100, high=200, window="1h"))
    await house.gateway()
    now = wall_ms() // HOUR * HOUR
    number = 2 * MOST_POINTS
    events = [
        IntensityObserved(
            zone="local",
            time=now - (number - n) * MINUTE,
            intensity=100 + n % 2 * 50,
            source="script",
            resolution_ms=MINUTE,
            estimated=n == 5,
        )
        for n in range(number)
    ]
    batch = b"[" + b",".join(envelope(event, "test") for event in events) + b"]"
    await house.redis.xadd(house.topology.intensity, {"batch": batch})
    span = f"from={rfc3339(now - number * MINUTE)}&to={rfc3339(now)}"
    found = await seen(house, f"/carbon/history?{span}", MOST_POINTS)
    assert {each["intensity"] for each in found["points"]} == {125}
    assert found["step_ms"] == 2 * MINUTE
    marked = [each["time"] for each in found["points"] if each["estimated"]]
    assert marked == [rfc3339(now - number * MINUTE + 4 * MINUTE)]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/carbon/history?zone=YY", 404, None),
        ("/carbon/history?from=yesterday", 422, "from"),
        ("/carbon/history?to=2026-13-01", 422, "to"),
        ("/carbon/history?from=2026-02-01&to=2026-01-01", 422, "from"),
        ("/carbon/best-window", 422, "duration"),
        ("/carbon/best-window?duration=long", 422, "duration"),
        ("/carbon/best-window?duration=0", 422, "duration"),
        ("/carbon/best-window?duration=1h&deadline=soon", 422, "deadline"),
        ("/carbon/best-window?duration=1h&deadline=2001-01-01", 422, "deadline"),
        ("/carbon/best-window?duration=1h&zone=YY", 404, None),
        ("/carbon/best-window?duration=1h", 409, None),
    ],
)
async def test_what_cannot_be_answered_is_told(
    deploy: Deploy, path: str, status: int, field: str | None
) -> None:
    house = deploy()
    await house.gateway()
    answer = await house.http("GET", path)
    exactly(answer.body, views.Problem)
    assert (answer.status, answer.body.get("field")) == (status, field)


async def test_the_best_window_is_where_the_router_plans_the_job(deploy: Deploy) -> None:
    house = deploy(
        policy="greenest_window",
        greenest=GreenestConfig(min_saving=0.01),
        pools={"fast": PoolConfig(slots=4), "eco": PoolConfig(slots=4, energy=50)},
        types={"quick": python_type("quick", expected_duration=1)},
    )
    await house.gateway()
    assert (await house.http("GET", "/carbon/best-window?duration=1h")).status == 409
    house.router()
    now = wall_ms()
    hours = [250, 240, 180, 90, 60, 130, 300, 40]
    await house.intensity(
        300,
        now,
        forecast=[(now + n * HOUR, value) for n, value in enumerate(hours, 1)],
        forecast_low=[value * 0.5 for value in hours],
        forecast_high=[value * 1.5 for value in hours],
        forecast_source="test",
    )
    await house.routing()

    async def known() -> bool:
        return (await house.http("GET", "/carbon/best-window?duration=1h")).status == 200

    await until(known)
    for duration, deadline in (("90m", "7h"), ("PT1H", "20h"), ("2h", "3h")):
        asked = f"/carbon/best-window?duration={duration}&deadline={deadline}"
        found = (await house.http("GET", asked)).body
        exactly(found, house_views.BestWindow)
        job_id = await house.post(
            "quick", urgency="flexible", expected_duration=duration, deadline=deadline
        )
        await house.reach(job_id, "deferred")
        job = await house.job(job_id)
        assert job["planned_pool"] == "fast"
        # Both start from the moment at which each was asked for.
        apart = parse_time(job["submitted_at"]) - (parse_time(found["now"]["start"]))
        assert parse_time(job["latest_start"]) - parse_time(found["latest_start"]) == apart
        later = parse_time(job["planned_start"]) - parse_time(found["best"]["start"])
        assert later in (0, apart)
        assert 0 < found["saving"] < 1
        assert found["best"]["low"] < found["best"]["intensity"] < found["best"]["high"]
    refused = await house.http("GET", "/carbon/best-window?duration=2h&deadline=1h")
    assert (refused.status, refused.body["field"]) == (422, "deadline")
    assert refused.body["type"].endswith("does-not-fit")
