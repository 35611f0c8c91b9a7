"""Sources with a key: plans, tokens, logins, units."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import BasicAuth, web
from sources import (
    BEARER,
    DAY,
    HOUR,
    SECRETS,
    Clock,
    Source,
    T,
    behave,
    electricity_maps,
    watttime,
)
from structlog.testing import capture_logs

from carbon_orchestrator.signal.electricity_maps import REFUSED_FOR, ElectricityMaps
from carbon_orchestrator.signal.provider import Point, SignalError
from carbon_orchestrator.signal.watttime import LOGIN_REFUSED_FOR, WattTime

Opened = Callable[[Any], Any]


# --- Electricity Maps -----------------------------------------------------------------------


async def test_electricity_maps_estimates_and_the_current_hour(
    behaving: Source, opened: Opened
) -> None:
    provider: ElectricityMaps = opened(ElectricityMaps("DE", zone="DE", base=behaving.url))
    hour = T - T % HOUR
    assert await provider.now(T) == Point(hour, 312.0, True)
    history = await provider.history(T - 5 * HOUR, T)
    assert [(p.time, p.estimated) for p in history] == [
        (hour - back * HOUR, back < 3) for back in range(4, -1, -1)
    ]
    assert {each.query["emissionFactorType"] for each in behaving.asked} == {"lifecycle"}
    assert len(behaving.asked) == 2


async def test_electricity_maps_older_values_by_range(behaving: Source, opened: Opened) -> None:
    provider: ElectricityMaps = opened(ElectricityMaps("DE", zone="DE", base=behaving.url))
    history = await provider.history(T - 20 * DAY, T)
    hour = T - T % HOUR
    assert [point.time for point in history] == list(range(hour - 20 * DAY + HOUR, T, HOUR))
    assert len(behaving.paths("/v3/carbon-intensity/past-range")) == 3


@pytest.mark.parametrize("status", [401, 403])
async def test_electricity_maps_free_plan(behaving: Source, opened: Opened, status: int) -> None:
    for endpoint in ("past-range", "forecast"):
        behaving.says(f"/v3/carbon-intensity/{endpoint}", lambda _: web.Response(status=status))
    provider: ElectricityMaps = opened(ElectricityMaps("DE", zone="DE", base=behaving.url))
    clock = provider.web.clock = Clock()
    with capture_logs() as logs:
        for _ in range(3):
            assert await provider.forecast(T) == []
            assert len(await provider.history(T - 20 * DAY, T)) == 25
            assert await provider.now(T)
    assert [(each["endpoint"], each["effect"]) for each in logs] == [
        ("forecast", "there is no forecast of its own"),
        ("past-range", "history begins at 2026-07-11T12:00Z"),
    ]
    assert len(behaving.paths("/v3/carbon-intensity/forecast")) == 1
    behave(behaving)
    for endpoint in ("past-range", "forecast"):
        behaving.says(f"/v3/carbon-intensity/{endpoint}", electricity_maps)
    clock.seconds += REFUSED_FOR
    assert len(await provider.forecast(T)) == 24


async def test_electricity_maps_a_null_or_a_later_latest_is_no_value(
    behaving: Source, opened: Opened
) -> None:
    provider: ElectricityMaps = opened(ElectricityMaps("DE", zone="DE", base=behaving.url))
    clock = provider.web.clock = Clock()
    for change in ({"carbonIntensity": None}, {"datetime": "2026-07-12T13:00:00.000Z"}):
        behaving.says(
            "/v3/carbon-intensity/latest",
            lambda request, change=change: electricity_maps(request) | change,
        )
        clock.seconds += 10_000
        point = await provider.now(T)
        assert point is not None
        assert point.time == T - T % HOUR - HOUR


async def test_electricity_maps_a_rotated_token_is_read_anew(
    source: Source, opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    monkeypatch.delenv("ELECTRICITYMAPS_TOKEN")
    monkeypatch.setenv("ELECTRICITYMAPS_TOKEN_FILE", str(file))

    def answer(request: web.Request) -> Any:
        if request.headers["auth-token"] == "old":
            return web.json_response({"message": "no"}, status=401)
        return electricity_maps(request)

    source.says("/v3", answer)
    provider: ElectricityMaps = opened(ElectricityMaps("DE", zone="DE", base=source.url))
    assert await provider.forecast(T) == []
    with pytest.raises(SignalError, match="check ELECTRICITYMAPS_TOKEN"):
        await provider.now(T)
    assert len(source.asked) == 2
    file.write_text(SECRETS["ELECTRICITYMAPS_TOKEN"])
    assert await provider.now(T)
    assert len(source.asked) == 4
    assert await provider.forecast(T)


def test_keys_are_asked_for_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name)
    with pytest.raises(SignalError, match="set ELECTRICITYMAPS_TOKEN, or"):
        ElectricityMaps("DE", zone="DE")
    with pytest.raises(SignalError, match="set WATTTIME_USERNAME, or"):
        WattTime("CAISO_NORTH", zone="CA")


@pytest.mark.parametrize("text", ["", "de", "DE FR", "DE&zone=FR"])
def test_electricity_maps_has_no_such_zone(text: str) -> None:
    with pytest.raises(SignalError, match="write electricitymaps:DE"):
        ElectricityMaps(text, zone="DE")


# --- WattTime -------------------------------------------------------------------------------


async def test_watttime_is_marginal_in_grams_per_kilowatt_hour(
    behaving: Source, opened: Opened
) -> None:
    provider: WattTime = opened(WattTime("CAISO_NORTH", zone="CA", base=behaving.url))
    assert (provider.source, provider.kind) == ("WattTime co2_moer CAISO_NORTH", "marginal")
    assert await provider.now(T) == Point(T - 5 * 60_000, 453.59237)
    assert len(await provider.forecast(T)) == 72 * 12
    history = await provider.history(T - 100 * DAY, T)
    assert len(history) == 100 * 288
    assert provider.resolution_ms == 300_000
    login = behaving.asked[0]
    assert BasicAuth.decode(login.headers["Authorization"]) == (
        "ada",
        "wt-secret-password",
        "latin1",
    )
    assert len(behaving.paths("/login")) == 1


async def test_watttime_average_by_name(behaving: Source, opened: Opened) -> None:
    provider: WattTime = opened(WattTime("CAISO_NORTH:co2_aoer", zone="CA", base=behaving.url))
    assert provider.kind == "average"
    assert await provider.now(T)
    assert behaving.asked[-1].query["signal_type"] == "co2_aoer"
    for text in ("", "CAISO_NORTH:health_damage", "A B", ":co2_moer"):
        with pytest.raises(SignalError, match="write watttime:CAISO_NORTH"):
            WattTime(text, zone="CA")


class Account:
    """Tokens that run out after 30 minutes of `clock`, or when revoked."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self.logins = 0
        self.clock = clock
        self.issued: dict[str, float] = {}
        source.says("/login", self.login)
        source.says("/v3", self.data)

    async def login(self, request: web.Request) -> Any:
        self.logins += 1
        await asyncio.sleep(0)  # others get their turn
        token = f"token-{self.logins}"
        self.issued[token] = self.clock() + 1800
        return {"token": token}

    def data(self, request: web.Request) -> Any:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if self.issued.get(token, 0) <= self.clock():
            return web.json_response({"error": "expired"}, status=401)
        headers = dict(request.headers) | {"Authorization": f"Bearer {BEARER}"}
        return watttime(request.clone(headers=headers))


async def test_watttime_many_callers_one_login_renewed_in_time(
    source: Source, opened: Opened
) -> None:
    provider: WattTime = opened(WattTime("CAISO_NORTH", zone="CA", base=source.url))
    clock = provider.web.clock = Clock()
    account = Account(source, clock)
    times = [T - day * DAY for day in range(20)]
    assert all(await asyncio.gather(*(provider.now(t) for t in times)))
    assert account.logins == 1
    clock.seconds += 1790  # of 1800 that a token is valid for
    asked = len(source.asked)
    assert all(await asyncio.gather(*(provider.now(t) for t in times)))
    assert account.logins == 2
    assert len(source.asked) == asked + 21  # nobody was refused


async def test_watttime_a_revoked_token_is_renewed_once_for_all(
    source: Source, opened: Opened
) -> None:
    provider: WattTime = opened(WattTime("CAISO_NORTH", zone="CA", base=source.url))
    clock = provider.web.clock = Clock()
    account = Account(source, clock)
    assert await provider.now(T)
    account.issued.clear()
    times = [T - day * DAY for day in range(1, 11)]
    assert all(await asyncio.gather(*(provider.now(t) for t in times)))
    assert account.logins == 2
    source.says("/v3", lambda _: web.Response(status=401))
    with pytest.raises(SignalError, match="check that your account has co2_moer"):
        await provider.now(T - 20 * DAY)
    assert account.logins == 3


async def test_watttime_a_refused_login_is_not_repeated_until_the_password_changes(
    behaving: Source, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaving.says("/login", lambda _: web.json_response({"error": "bad"}, status=403))
    provider: WattTime = opened(WattTime("CAISO_NORTH", zone="CA", base=behaving.url))
    clock = provider.web.clock = Clock()
    for _ in range(3):
        with pytest.raises(SignalError, match="check WATTTIME_USERNAME and WATTTIME_P") as error:
            await provider.forecast(T)
        assert error.value.permanent
    assert len(behaving.asked) == 1
    clock.seconds += LOGIN_REFUSED_FOR
    with pytest.raises(SignalError):
        await provider.now(T)
    assert len(behaving.asked) == 2
    monkeypatch.setenv("WATTTIME_PASSWORD", "new")
    behaving.says("/login", {"token": BEARER})
    assert await provider.now(T)


async def test_watttime_a_plan_without_forecast_or_region(behaving: Source, opened: Opened) -> None:
    provider: WattTime = opened(WattTime("CAISO_NORTH", zone="CA", base=behaving.url))
    behaving.says("/v3/forecast", lambda _: web.Response(status=403))
    with capture_logs() as logs:
        assert [await provider.forecast(T) for _ in range(3)] == [[], [], []]
    assert [each["event"] for each in logs] == ["not in the plan"]
    assert len(behaving.paths("/v3/forecast")) == 1
    behaving.says("/v3/historical", lambda _: web.Response(status=403))
    with pytest.raises(SignalError, match="a free one has CAISO_NORTH"):
        await provider.now(T)
    assert len(behaving.paths("/login")) == 1


async def test_watttime_warnings_and_skipped_values_are_logged(
    source: Source, opened: Opened
) -> None:
    def answer(request: web.Request) -> Any:
        answer = watttime(request)
        answer["meta"]["warnings"] = [{"type": "X", "message": "the model is old"}]
        answer["data"][0]["value"] = -1
        return answer

    source.says("/v3", answer)
    provider: WattTime = opened(WattTime("CAISO_NORTH", zone="CA", base=source.url))
    with capture_logs() as logs:
        assert await provider.now(T)
        assert await provider.now(T)
    assert [each["event"] for each in logs] == ["the source warns", "impossible values skipped"]
    assert logs[0]["warning"] == "the model is old"
    assert (logs[1]["skipped"], logs[1]["kept"]) == (1, 287)
