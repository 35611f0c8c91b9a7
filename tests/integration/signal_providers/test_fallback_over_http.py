"""The signal role with sources that misbehave over HTTP: who speaks then, and who is told why."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from deployment import Deploy, Deployment, Part
from scripted_source import heard, hurry, said
from sources import Broken, Source, neso

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import ZoneConfig
from carbon_orchestrator.doctor import Check, examine, gather
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.live import Live
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.signal.publishing import SignalRole
from streams.connection import connect
from streams.testing import until

SIMULATED = "simulated daily profile"
Breaking = Callable[[bytes, str], Awaitable[Broken]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def grid(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """NESO, as the role finds it."""
    monkeypatch.setenv("CARBON_NESO_URL", source.url)
    return source


def playing(house: Deployment, *specs: str, speed: float | None = None) -> Part:
    """The signal role; its web sources lose patience soon."""

    def make(runtime: Runtime) -> SignalRole:
        role = SignalRole(runtime, *specs, speed=speed)
        for provider in (each.provider for part in role.zones for each in part.sources.all):
            if isinstance(provider, Live):
                provider.web.timeout = 2.0
        return role

    return house._part(make)


async def carbon(house: Deployment, signal: str, zone: str = "local") -> dict[str, Any]:
    """What GET /carbon says once the signal is as given."""

    async def so() -> dict[str, Any] | None:
        body: dict[str, Any] = (await house.http("GET", f"/carbon?zone={zone}")).body
        return body if body["signal"] == signal else None

    return await until(so, 10) or {}


async def examined(house: Deployment) -> Check:
    async with connect(house.url) as client:
        facts = await gather(client, house.topology, house.config)
    return next(check for check in examine(facts) if check.name == "carbon signal")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: web.Response(text="<html>Sign in", content_type="text/html"), "is not JSON"),
        (lambda _: web.Response(status=503), "answered 503"),
        (lambda _: web.Response(status=429, headers={"Retry-After": "60"}), "answered 429"),
        (lambda _: web.Response(status=401), "answered 401"),
        (lambda _: web.Response(status=404), "answered 404"),
        (lambda _: web.json_response({"data": []}), "NESO has nothing"),
        (lambda _: web.json_response({"data": [{"from": "x", "intensity": {}}]}), "NESO"),
    ],
    ids=["html", "503", "429", "401", "404", "nothing", "nonsense"],
)
async def test_the_next_source_speaks_and_says_why(
    deploy: Deploy, grid: Source, answer: Any, words: str
) -> None:
    grid.says("/intensity", answer)
    house = deploy()
    playing(house, "neso", "simulated")
    event = await heard(house, SIMULATED)
    assert event.degraded is not None
    assert words in event.degraded
    assert event.simulated
    assert {each.source for each in await said(house)} == {SIMULATED}


@pytest.mark.parametrize("then", ["half-close", "reset", "drip"])
async def test_it_does_so_where_a_connection_is_half_closed_reset_or_slow(
    deploy: Deploy, broken: Breaking, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    server = await broken(b'HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"data": [', then)
    monkeypatch.setenv("CARBON_NESO_URL", server.url)
    house = deploy()
    part = playing(house, "neso", "simulated")
    for each in part.role.zones[0].sources.all[:1]:
        each.provider.web.timeout = 0.2
    event = await heard(house, SIMULATED)
    assert event.degraded is not None
    assert event.degraded.startswith("NESO failing since")
    assert server.met >= 3


async def test_http_and_doctor_show_who_speaks_and_that_it_is_not_the_first(
    deploy: Deploy, grid: Source
) -> None:
    grid.says("/intensity", lambda _: web.Response(status=503))
    house = deploy()
    await house.gateway()
    body = (await house.http("GET", "/carbon")).body
    assert (body["signal"], body["unusable"]) == ("none", "no usable carbon signal")
    playing(house, "neso", "simulated")
    body = await carbon(house, "degraded")
    assert body["unusable"] is None
    assert body["source"] == SIMULATED
    assert (body["kind"], body["simulated"], body["estimated"]) == ("average", True, False)
    assert body["age_ms"] < 3_600_000
    assert "NESO failing since" in body["degraded"]
    assert "answered 503" in body["degraded"]
    assert body["forecast_source"] == "own forecast"
    assert body["forecast"]
    check = await examined(house)
    assert check.status == "warn"
    assert f"from {SIMULATED}" in check.detail
    assert "answered 503" in check.detail

    grid.says("/intensity", lambda request: neso(request, wall_ms()))
    body = await carbon(house, "ok")
    assert (body["source"], body["degraded"], body["simulated"]) == ("NESO", None, False)
    assert body["forecast_source"] == "NESO, corrected"
    check = await examined(house)
    assert check.status == "ok"
    assert "from NESO" in check.detail


async def test_every_zone_has_its_signal_and_one_that_is_dead_takes_none_with_it(
    deploy: Deploy, grid: Source
) -> None:
    grid.says("/regional", lambda _: web.Response(status=500))
    grid.says("/intensity", lambda request: neso(request, wall_ms()))
    zones = {
        "GB": ZoneConfig(signal=["neso"]),
        "London": ZoneConfig(signal=["neso:13"]),
        "Leeds": ZoneConfig(signal=["neso:3", "simulated"]),
    }
    house = deploy(zones=zones)
    await house.gateway()
    playing(house, "simulated", speed=1)
    home, gb = await carbon(house, "ok"), await carbon(house, "ok", "GB")
    leeds = await carbon(house, "degraded", "Leeds")
    london = await carbon(house, "none", "London")
    assert [each.get("source") for each in (home, gb, leeds, london)] == [
        SIMULATED,
        "NESO",
        SIMULATED,
        None,
    ]
    assert london["unusable"].startswith("no usable carbon signal")
    assert {event.zone for event in await said(house)} == {"local", "GB", "Leeds"}


async def test_a_live_source_beside_a_played_one_is_refused(deploy: Deploy, grid: Source) -> None:
    """It would be asked about times that have not been, or of another grid's past."""
    home = deploy()
    elsewhere = deploy(zones={"GB": ZoneConfig(signal=["neso"])})
    for house, specs in ((home, ("simulated", "neso")), (elsewhere, ("simulated",))):
        runtime = Runtime(house.url, house.config)
        role = SignalRole(runtime, *specs, speed=600)
        with pytest.raises(SignalError, match=r"NESO .* is live, but 'simulated x600'"):
            await role.establish_clock()
        await SignalRole(runtime, *specs, speed=1).establish_clock()
        await runtime.aclose()
    assert grid.asked == []


@pytest.mark.parametrize("speed", [0.0, -1.0, 2e6, float("nan")])
async def test_an_impossible_speed_is_refused(deploy: Deploy, speed: float) -> None:
    house = deploy()
    runtime = Runtime(house.url, house.config)
    with pytest.raises(SignalError, match="--speed must be above 0"):
        await SignalRole(runtime, "simulated", speed=speed).establish_clock()
    await runtime.aclose()
