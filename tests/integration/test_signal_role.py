"""The signal of a zone: which of its sources speaks, and what is said where none does."""

from __future__ import annotations

import anyio
import pytest
from deployment import Deploy
from scripted_source import (
    DAY,
    DEAD,
    HALF,
    HOUR,
    Scripted,
    course,
    grid,
    heard,
    hurry,
    listening,
    load,
    said,
)
from structlog.testing import capture_logs

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import ThresholdConfig
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.signal import zone
from carbon_orchestrator.signal.intensity_stream import silence
from carbon_orchestrator.signal.provider import Expected, Point, SignalError
from carbon_orchestrator.signal.published import OWN
from streams.testing import until


class Unlearned(Scripted):
    """Fails to say what came before the window of the bands, while `forgetful`."""

    forgetful = True

    async def history(self, t0: int, t1: int) -> list[Point]:
        if self.forgetful and t0 < wall_ms() - 5 * DAY:
            raise DEAD
        return await super().history(t0, t1)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def now() -> int:
    """The present half hour's begin: no test depends on what the time is."""
    return wall_ms() // HALF * HALF


async def test_the_past_is_published_in_order_and_the_newest_says_what_follows(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    source = Scripted("A", course(now - 5 * DAY, now, HALF, 200))
    source.ahead = [Expected(now + n * HALF, 150.0) for n in range(1, 9)]
    listening(house, source)
    newest = await heard(house, "A", now)
    events = await said(house)
    times = [event.time for event in events]
    assert times == list(range(times[0], now + 1, HALF))
    assert abs(times[0] - (now - 2 * DAY)) <= HOUR, "the window of the bands"
    assert [event.time for event in events if event.forecast] == [now]
    assert newest.forecast[0][0] == now + HALF
    assert newest.forecast_source == "A, corrected"
    assert len(newest.forecast) == len(newest.forecast_low) == len(newest.forecast_high)
    assert newest.degraded is None
    assert (newest.kind, newest.estimated, newest.simulated) == ("average", False, False)
    assert 0 <= newest.age_ms < HOUR
    assert events[0].age_ms >= 2 * DAY - HALF
    await source.asked_again()
    assert len(await said(house)) == len(events), "nothing comes twice"


async def test_the_next_source_speaks_for_one_that_fails_until_that_one_is_back(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    first = Scripted("A", course(now - 3 * DAY, now - 2 * HALF, HALF, 200))
    second = Scripted("B", course(now - 3 * DAY, now, HALF // 2, 500), resolution_ms=HALF // 2)
    listening(house, first, second)
    await heard(house, "A", now - 2 * HALF)
    assert second.asked == 0
    count = len(await said(house))

    first.error = DEAD
    event = await heard(house, "B", now)
    assert event.degraded is not None
    assert event.degraded.startswith("A failing since 20")
    assert "no route to it" in event.degraded
    assert event.forecast_source == OWN, "from the past of the grid"
    since = [each.time - now for each in (await said(house))[count:]]
    assert since == [-HALF * 3 // 2, -HALF, -HALF // 2, 0], "only what A has not told of"

    first.error = None
    first.points += [Point(now - HALF, 222.0)]
    event = await heard(house, "A", now - HALF, more=count)
    assert event.degraded is None
    assert event.forecast, "it speaks: what it expects counts now"
    first.points += [Point(now, 333.0)]
    await heard(house, "A", now)
    series = (await grid(house)).series
    told = [series.at(now + quarter * HALF // 2) for quarter in (-4, -3, -2, -1, 0)]
    last = first.points[-3].value
    assert told == [last, last, 222.0, 222.0, 333.0], "and overrules what B said of those times"
    events = await said(house)
    await first.asked_again()
    assert await said(house) == events


async def test_a_better_source_s_word_holds_until_there_is_something_newer(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    first = Scripted("A", course(now - 2 * DAY, now - HALF, HALF, 200))
    second = Scripted("B", course(now - 2 * DAY, now - HALF, HALF, 500))
    listening(house, first, second)
    await heard(house, "A", now - HALF)
    first.error = DEAD
    await until(lambda: second.asked)
    await second.asked_again()
    assert {event.source for event in await said(house)} == {"A"}
    second.points.append(Point(now, 555.0))
    event = await heard(house, "B")
    assert event.time == now
    assert event.degraded is not None
    assert event.forecast


async def test_who_comes_back_with_nothing_new_says_that_it_speaks(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    first = Scripted("A", course(now - DAY, now - HALF, HALF, 200))
    second = Scripted("B", course(now - DAY, now, HALF, 500))
    listening(house, first, second)
    await heard(house, "A", now - HALF)
    first.error = DEAD
    await heard(house, "B", now)
    count = len(await said(house))
    first.error = None
    event = await heard(house, "A", more=count)
    assert (event.time, event.degraded) == (now - HALF, None)
    assert event.forecast
    outlook = (await grid(house)).outlook()
    assert outlook.source == "A"
    await first.asked_again()
    assert len(await said(house)) == count + 1


async def test_where_all_sources_are_dead_our_own_forecast_stands_in(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    first = Scripted("A", course(now - 9 * DAY, now - 2 * HOUR, HALF, 200))
    second = Scripted("B")
    second.error = SignalError("B: answered 401; check its key", permanent=True)
    with capture_logs() as logs:
        listening(house, first, second)
        await heard(house, "A", now - 2 * HOUR)
        count = len(await said(house))
        first.error = DEAD
        event = await heard(house, OWN, now)
    own = (await said(house))[count:]
    assert [each.time - now for each in own][:4] == [-3 * HALF, -2 * HALF, -HALF, 0]
    assert all(each.source == OWN and each.estimated for each in own)
    assert all(195 < each.intensity < 215 for each in own)
    assert event.degraded is not None
    assert event.degraded.startswith("all sources failed: A failing since")
    assert "B failing since" in event.degraded
    assert event.degraded.endswith("; own forecast")
    assert event.forecast_source == OWN
    assert event.forecast[0][0] == now + HALF
    speakers = [log["source"] for log in logs if log["event"] == "another source speaks"]
    assert speakers == [OWN]
    # It comes back, and knows better.
    first.error = None
    first.points += course(now - 3 * HALF, now, HALF, 400)
    event = await heard(house, "A", now)
    assert event.degraded is None
    series = (await grid(house)).series
    assert series.values_between(now - 3 * HALF, now) == [400, 410, 400, 410]


async def test_our_own_forecast_does_not_stand_in_for_ever(deploy: Deploy, now: int) -> None:
    house = deploy()
    end = now - 5 * DAY
    source = Scripted("A", course(end - DAY, end, HALF, 200))
    await load(house, source)
    source.error = DEAD
    listening(house, source)
    await heard(house, OWN, end + zone.OWN_REACH_MS)
    await source.asked_again()
    own = await said(house, OWN)
    assert max(event.time for event in own) == end + zone.OWN_REACH_MS
    assert len(own) == zone.OWN_REACH_MS // HALF
    outlook = (await grid(house)).outlook()
    assert outlook.band_at(wall_ms()) is None
    assert "no usable carbon signal since" in outlook.unusable


async def test_without_any_past_nothing_is_made_up(deploy: Deploy) -> None:
    house = deploy()
    source = Scripted("A")
    source.error = DEAD
    with capture_logs() as logs:
        listening(house, source)
        await source.asked_again(6)
    assert await said(house) == []
    told = [log for log in logs if log["event"].startswith("no source speaks")]
    assert len(told) == 1
    assert "no route to it" in told[0]["because"]


async def test_why_nobody_speaks_is_on_record_until_somebody_does(deploy: Deploy, now: int) -> None:
    house = deploy()
    source = Scripted("A", course(now - DAY, now, HALF, 200))
    source.error = DEAD
    listening(house, source)
    why = await until(lambda: house.redis.hget(house.topology.signal, silence("local")))
    assert why is not None
    assert why.startswith(b"A failing since")
    assert b"no route to it" in why
    source.error = None
    await heard(house, "A", now)
    assert await house.redis.hget(house.topology.signal, silence("local")) is None


async def test_history_that_could_not_be_had_is_asked_for_again(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, now: int
) -> None:
    monkeypatch.setattr(zone, "LEARN_AGAIN_SECONDS", 0)
    house = deploy()
    source = Unlearned("A", course(now - 10 * DAY, now - 2 * HALF, HALF, 200))
    listening(house, source)
    first = await heard(house, "A", now - 2 * HALF)
    source.forgetful = False
    source.points.append(Point(now - HALF, 200.0))
    second = await heard(house, "A", now - HALF)

    def width(event: IntensityObserved) -> float:
        return event.forecast_high[-1] - event.forecast_low[-1]

    assert width(second) < 0.6 * width(first), "ten days teach more than the two of the bands"


async def test_a_marginal_source_in_place_of_an_average_one_says_so(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    first = Scripted("A", course(now - 2 * DAY, now, HALF, 200))
    second = Scripted("M", course(now - 2 * DAY, now, HALF, 700), kind="marginal")
    listening(house, first, second)
    await heard(house, "A", now)
    first.error = DEAD
    event = await heard(house, "M", now)
    assert event.degraded is not None
    kinds = {each.source: each.kind for each in await said(house)}
    assert kinds == {"A": "average", "M": "marginal"}
    known = await grid(house)
    assert known.outlook().kind == "marginal"
    past = known.series.values_between(0, now)
    assert set(past) == {700, 710}, "its own past, not A's"
    assert len(past) >= 2 * DAY // HALF - 1
    assert all(600 < value < 800 for _, value in event.forecast)
    # Where that one dies too, its own forecast is of its kind.
    second.points = second.points[:-4]
    second.error = DEAD
    first.error = None
    first.points.append(Point(now + 1, 205.0))
    await heard(house, "A", now + 1)
    known = await grid(house)
    assert known.outlook().kind == "average"
    assert max(known.series.values_between(0, now + 1)) < 300


async def test_our_own_forecast_is_of_the_kind_that_spoke_last(deploy: Deploy, now: int) -> None:
    house = deploy()
    first = Scripted("A", course(now - 4 * DAY, now - 3 * DAY, HALF, 200))
    second = Scripted("M", course(now - 4 * DAY, now - HALF, HALF, 700), kind="marginal")
    listening(house, first, second)
    event = await heard(house, "M", now - HALF)
    assert event.degraded is not None
    assert event.degraded.startswith("A has nothing")
    second.error = DEAD
    event = await heard(house, OWN, now)
    assert event.kind == "marginal"
    assert 690 < event.intensity < 720


async def test_a_simulated_grid_in_place_of_a_real_one_is_no_part_of_its_series(
    deploy: Deploy, now: int
) -> None:
    house = deploy()
    first = Scripted("A", course(now - DAY, now, HALF, 200))
    second = Scripted("S", course(now - 2 * DAY, now, HALF, 900), simulated=True)
    listening(house, first, second)
    await heard(house, "A", now)
    first.error = DEAD
    event = await heard(house, "S", now)
    assert event.simulated
    past = (await grid(house)).series.values_between(0, now)
    assert set(past) == {900, 910}
    assert len(past) >= 2 * DAY // HALF - 1, "its bands have a past"


async def test_a_source_that_is_slow_holds_up_no_stop(deploy: Deploy, now: int) -> None:
    house = deploy()
    source = Scripted("A", course(now - DAY, now, HALF, 200))
    source.slow = anyio.Event()
    part = listening(house, source)
    await until(lambda: source.asked)
    await part.stop(5)
    assert source.closed
    assert await said(house) == []


async def test_an_old_value_counts_as_long_as_the_configuration_says(
    deploy: Deploy, now: int
) -> None:
    """Also at the next start, when it is published already."""
    house = deploy(threshold=ThresholdConfig(max_age="3d"))
    first = Scripted("A", course(now - 4 * DAY, now - 30 * HOUR, HALF, 200))
    part = listening(house, first)
    await heard(house, "A", now - 30 * HOUR)
    await part.stop()
    again = Scripted("A", first.points)
    listening(house, again)
    await until(lambda: again.asked)
    await again.asked_again()
    assert {event.source for event in await said(house)} == {"A"}
