"""What the gateway remembers of a zone's past."""

from __future__ import annotations

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.gateway.grid.grids import MOST_POINTS, Zone
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.signal.intensities import KEPT_MS
from streams.event import Message

HOUR = 3_600_000
START = 400_000 * HOUR
BANDS = Bands(mode="absolute", low=100, high=200)


def observe(zone: Zone, number: int, value: float, entry: int = 0, **more: bool | str) -> None:
    """The intensity of an hour, in an entry of its own."""
    event = IntensityObserved(
        zone="local",
        time=START + number * HOUR,
        intensity=value,
        source="script",
        resolution_ms=HOUR,
        **more,  # type: ignore[arg-type]
    )
    zone.apply(Message(f"{entry or number + 1}-0", 0, event))


def estimates(zone: Zone, first: int, last: int) -> list[bool]:
    points = zone.history(START + first * HOUR, START + last * HOUR)["points"]
    return [each["estimated"] for each in points]


def test_estimates_are_marked_until_they_are_measured() -> None:
    zone = Zone("local", BANDS)
    observe(zone, 0, 100, estimated=True)
    observe(zone, 1, 100, estimated=True)
    assert estimates(zone, 0, 1) == [True, True]
    observe(zone, 0, 120, entry=3)
    assert estimates(zone, 0, 1) == [False, True]


def test_a_stream_that_was_lost_is_forgotten() -> None:
    zone = Zone("local", BANDS)
    observe(zone, 5, 100, estimated=True)
    observe(zone, 0, 100)
    assert zone.history(START, START + 9 * HOUR)["points"] == [
        {"time": rfc3339(START), "intensity": 100, "estimated": False, "simulated": False}
    ]
    observe(zone, 5, 100)
    assert estimates(zone, 5, 5) == [False]


def test_the_kind_that_was_heard_last_is_shown() -> None:
    zone = Zone("local", BANDS)
    observe(zone, 0, 100, estimated=True)
    observe(zone, 0, 300, entry=2, kind="marginal", simulated=True)
    view = zone.history(START, START)
    assert view["kind"] == "marginal"
    assert view["points"][0] | {"time": ""} == {
        "time": "",
        "intensity": 300,
        "estimated": False,
        "simulated": True,
    }


def test_no_more_is_remembered_than_there_is() -> None:
    zone = Zone("local", BANDS)
    number = 3 * MOST_POINTS
    for hour in range(number):
        observe(zone, hour, 100, estimated=True)
    marked = zone._estimated["average", False]
    kept = KEPT_MS // HOUR
    assert kept <= len(marked) <= 2 * kept + MOST_POINTS + 3
    assert all(estimates(zone, number - kept, number - 1))


def test_a_long_past_comes_in_steps_of_what_is_known() -> None:
    zone = Zone("local", Bands(mode="absolute", low=100, high=200, max_age_ms=HOUR))
    minute = HOUR // 60
    for number in range(2 * MOST_POINTS):
        event = IntensityObserved(
            zone="local",
            time=START + number * minute,
            intensity=100 + number % 2 * 50,
            source="script",
            resolution_ms=minute,
        )
        zone.apply(Message(f"{number + 1}-0", 0, event))
    view = zone.history(0, 2 * START)
    assert view["step_ms"] == 2 * minute
    assert len(view["points"]) == MOST_POINTS
    assert view["points"][0]["time"] == rfc3339(START)
    assert {each["intensity"] for each in view["points"]} == {125}
