"""What a zone's signal publishes is published once, whoever else does so and whatever is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from deployment import Deploy
from scripted_source import (
    DAY,
    HALF,
    HOUR,
    MINUTE,
    Scripted,
    course,
    grid,
    heard,
    hurry,
    listening,
    load,
    said,
)

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.signal import zone
from carbon_orchestrator.signal.provider import Point
from carbon_orchestrator.signal.published import Mark
from streams.testing import until


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def now() -> int:
    """The present half hour's begin: no test depends on what the time is."""
    return wall_ms() // HALF * HALF


async def test_a_value_that_overruled_is_revised_with_the_point_that_it_came_from(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    await load(house, Scripted("B", course(now - 2 * HOUR, now - HOUR, HALF, 500)))
    source = Scripted("A", [Point(now - n * HOUR, 100.0, True) for n in (2, 1, 0)])
    source.resolution_ms = HOUR
    listening(house, source)
    await heard(house, "A", now)
    assert (await grid(house)).series.at(now - 90 * MINUTE) == 100.0
    source.points[0] = Point(now - 2 * HOUR, 120.0)
    event = await heard(house, "A", now - 90 * MINUTE, more=len(await said(house)))
    assert (event.intensity, event.estimated) == (120.0, False)


async def test_a_revised_value_is_published_once(deploy: Deploy, now: int) -> None:
    house = deploy()
    source = Scripted("A", course(now - DAY, now, HALF, 200))
    source.points[-3:] = [each._replace(estimated=True) for each in source.points[-3:]]
    listening(house, source)
    await heard(house, "A", now)
    count = len(await said(house))
    source.points[-3] = Point(now - 2 * HALF, 123.0)  # other value, and measured
    source.points[-2] = source.points[-2]._replace(estimated=False)  # measured: the same
    source.points[3] = source.points[3]._replace(value=99.0, estimated=True)  # a guess is no news
    await heard(house, "A", now - HALF, more=count)
    await source.asked_again()
    revised = (await said(house))[count:]
    assert [(each.time - now, each.intensity, each.estimated) for each in revised] == [
        (-2 * HALF, 123.0, False),
        (-HALF, source.points[-2].value, False),
    ]
    assert not any(each.forecast for each in revised), "they say nothing of what follows"
    source.points[-1] = Point(now, 77.0)  # the newest
    event = await heard(house, "A", now, more=count + 2)
    assert event.forecast
    latest = (await grid(house)).latest
    assert latest is not None
    assert latest.intensity == 77.0


async def test_two_roles_publish_each_point_once(deploy: Deploy, now: int) -> None:
    house = deploy()
    pair = [Scripted("A", course(now - DAY, now - 20 * MINUTE, MINUTE, 200)) for _ in range(2)]
    for source in pair:
        source.resolution_ms = MINUTE
        listening(house, source)
    await until(lambda: all(source.asked for source in pair))
    for minute in range(-19, 1):
        for source in pair:
            source.points.append(Point(now + minute * MINUTE, 300.0 + minute))
        await heard(house, "A", now + minute * MINUTE)
    for source in pair:
        await source.asked_again()
    times = Counter(event.time for event in await said(house))
    assert set(times.values()) == {1}
    assert len(times) == 24 * 60 + 1


async def test_a_start_anew_goes_on_where_the_last_one_ended(deploy: Deploy, now: int) -> None:
    house = deploy()
    source = Scripted("A", course(now - 2 * DAY, now - HALF, HALF, 200))
    part = listening(house, source)
    await heard(house, "A", now - HALF)
    await part.stop()
    assert source.closed
    before = await said(house)
    again = Scripted("A", [*source.points, Point(now, 321.0)])
    listening(house, again)
    await heard(house, "A", now)
    await again.asked_again()
    events = await said(house)
    assert events[: len(before)] == before
    assert [event.time for event in events[len(before) :]] == [now]


async def test_a_single_point_is_not_said_again_and_again(deploy: Deploy, now: int) -> None:
    """Of less than a quarter of an hour nothing is learned that could be forecast from."""
    house = deploy()
    source = Scripted("A", [Point(now, 200.0)], resolution_ms=5 * MINUTE)
    listening(house, source)
    await heard(house, "A", now)
    await source.asked_again()
    assert len(await said(house)) == 1


async def test_a_mark_of_an_earlier_version_stops_nobody(deploy: Deploy, now: int) -> None:
    house = deploy()
    await house.redis.hset(house.topology.signal, "local", f"{now - HOUR}:123.5")
    listening(house, Scripted("A", course(now - DAY, now, HALF, 200)))
    await heard(house, "A", now)


async def test_a_long_past_is_published_in_parts(
    deploy: Deploy, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone, "MOST_AT_ONCE", 7)
    house = deploy()
    source = Scripted("A", course(now - DAY, now, HALF, 200))
    listening(house, source)
    await heard(house, "A", now)
    events = await said(house)
    assert [event.time for event in events] == [point.time for point in source.points]
    assert [event.time for event in events if event.forecast] == [now]


async def test_points_that_were_trimmed_are_not_published_again(
    deploy: Deploy, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zone, "MOST_AT_ONCE", 10)
    house = deploy()
    source = Scripted("A", course(now - DAY, now, HALF, 200))
    part = listening(house, source)
    await heard(house, "A", now)
    await part.stop()
    await house.redis.xtrim(house.topology.intensity, maxlen=2, approximate=False)
    left = await said(house)
    assert 10 <= len(left) < 30
    again = Scripted("A", source.points)
    listening(house, again)
    await until(lambda: again.asked)
    await again.asked_again()
    assert await said(house) == left


async def test_points_that_the_server_lost_are_published_again(deploy: Deploy, now: int) -> None:
    """A server that came back after a power cut may lack the last second."""
    house = deploy()
    source = Scripted("A", course(now - DAY, now - HALF, HALF, 200))
    listening(house, source)
    await heard(house, "A", now - HALF)
    before = await house.redis.hget(house.topology.signal, "local")
    source.points.append(Point(now, 321.0))
    await heard(house, "A", now)
    last = (await house.redis.xrevrange(house.topology.intensity, count=1))[0][0]
    await source.asked_again()
    async with house.redis.pipeline(transaction=True) as lost:
        lost.hset(house.topology.signal, "local", before)
        lost.xdel(house.topology.intensity, last)
        await lost.execute()
    event = await heard(house, "A", now)
    assert event.intensity == 321.0
    mark = Mark.parse((await house.redis.hget(house.topology.signal, "local")).decode())
    assert (mark.time, mark.value, mark.count) == (now, 321.0, 2)
