"""Sources without a key: places, windows, estimates, and where any source is asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from sources import (
    DAY,
    HOUR,
    PROVIDERS,
    Clock,
    Source,
    T,
    energy_charts,
    neso,
    stamp,
)
from structlog.testing import capture_logs

from carbon_orchestrator.signal.energy_charts import EnergyCharts
from carbon_orchestrator.signal.neso import Neso
from carbon_orchestrator.signal.provider import Expected, Point, SignalError

Opened = Callable[[Any], Any]
HALF = HOUR // 2


# --- NESO -----------------------------------------------------------------------------------


async def test_neso_measured_values_then_estimates_of_the_open_half_hours(
    behaving: Source, opened: Opened
) -> None:
    provider: Neso = opened(Neso(zone="GB", base=behaving.url))
    assert (provider.source, provider.kind, provider.resolution_ms) == ("NESO", "average", HALF)
    assert await provider.now(T) == Point(T - 10 * 60_000, 212.0, True)
    history = await provider.history(T - 3 * HOUR, T)
    assert [point.estimated for point in history] == [False, False, *[True] * 4]
    forecast = await provider.forecast(T)
    assert forecast[0] == Expected(T + 20 * 60_000, 212.0)
    assert behaving.paths() == [
        "/intensity/2026-07-11T11:31Z/2026-07-12T12:31Z",
        "/intensity/2026-07-12T12:01Z/fw48h",
    ]


async def test_neso_a_long_history_takes_windows_of_less_than_14_days(
    behaving: Source, opened: Opened
) -> None:
    provider: Neso = opened(Neso(zone="GB", base=behaving.url))
    history = await provider.history(T - 40 * DAY, T)
    first = T - 40 * DAY + 20 * 60_000
    assert [point.time for point in history] == list(range(first, T, HALF))
    assert len(behaving.asked) == 4
    with pytest.raises(SignalError, match="ask for 390 days at most"):
        await provider.history(T - 391 * DAY, T)
    assert len(behaving.asked) == 4


async def test_neso_regions_are_asked_year_by_year(source: Source, opened: Opened) -> None:
    new_year = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)

    def within_its_year(request: web.Request) -> Any:
        answer = neso(request, T, regional=True)
        year = request.path.split("/")[3][:4]
        rows = [row for row in answer["data"]["data"] if row["from"][:4] <= year]
        answer["data"]["data"] = rows
        return answer

    source.says("/regional", within_its_year)
    provider: Neso = opened(Neso("13", zone="GB", base=source.url))
    history = await provider.history(new_year - DAY, new_year + DAY)
    assert [point.time for point in history] == list(
        range(new_year - DAY, new_year + DAY + 1, HALF)
    )
    assert all(point.estimated for point in history)
    assert provider.source == "NESO region 13"
    assert source.paths() == [
        "/regional/intensity/2025-12-30T23:31Z/2026-01-01T00:00Z/regionid/13",
        "/regional/intensity/2026-01-01T00:00Z/2026-01-02T00:31Z/regionid/13",
    ]


async def test_neso_by_postcode_which_may_be_unknown(source: Source, opened: Opened) -> None:
    provider: Neso = opened(Neso("rg10", zone="GB", base=source.url))
    source.says("/regional", lambda _: web.Response(text=""))
    with pytest.raises(SignalError, match="NESO postcode RG10: the answer is empty; check that"):
        await provider.now(T)
    source.says("/regional", lambda request: neso(request, T, regional=True))
    assert await provider.forecast(T)
    assert source.paths()[-1].endswith("/fw48h/postcode/RG10")


@pytest.mark.parametrize("text", ["0", "18", "013", "-1", "RG10 9YL", "../x", "GB", "1/2", "RG٣"])
def test_neso_has_no_such_place(text: str) -> None:
    with pytest.raises(SignalError, match="has no region") as error:
        Neso(text, zone="GB")
    assert error.value.permanent


async def test_the_latest_point_is_given_however_old(source: Source, opened: Opened) -> None:
    old = T - 5 * DAY - T % HALF
    row = {"from": "2026-07-07T12:00Z", "to": "", "intensity": {"forecast": 1, "actual": 90}}
    source.says(
        "/intensity", lambda r: {"data": [row] if stamp(r.path.split("/")[2]) < old else []}
    )
    provider: Neso = opened(Neso(zone="GB", base=source.url))
    assert await provider.now(T) == Point(stamp("2026-07-07T12:00Z"), 90.0)
    source.says("/intensity", {"data": []})
    provider.web.clock = lambda: 1e9
    assert await provider.now(T) is None


async def test_a_value_that_is_not_finite_is_skipped(source: Source, opened: Opened) -> None:
    def answer(request: web.Request) -> Any:
        answer = neso(request)
        answer["data"][-2]["intensity"] = {"forecast": math.nan, "actual": math.inf}
        return answer  # as NaN and Infinity, which is no JSON, but is sent

    source.says("/intensity", answer)
    provider: Neso = opened(Neso(zone="GB", base=source.url))
    with capture_logs() as logs:
        assert await provider.now(T) == Point(T - 40 * 60_000, 211.0, True)
    assert [(each["event"], each["skipped"]) for each in logs] == [("impossible values skipped", 2)]


# --- Energy-Charts --------------------------------------------------------------------------


async def test_energy_charts_one_request_a_quarter_of_an_hour_for_everything(
    behaving: Source, opened: Opened
) -> None:
    provider: EnergyCharts = opened(EnergyCharts("DE", zone="DE", base=behaving.url))
    clock = provider.web.clock = Clock()
    for minute in range(14):
        t = T + minute * 60_000
        clock.seconds = 1000 + minute * 60
        assert await provider.now(t)
        assert await provider.history(t - DAY, t)
        assert await provider.forecast(t)
    assert [dict(each.query) for each in behaving.asked] == [
        {"country": "de", "start": "2026-07-11T00:00Z", "end": "2026-07-15T00:00Z"}
    ]


async def test_energy_charts_measured_forecast_and_missing_times(
    behaving: Source, opened: Opened
) -> None:
    provider: EnergyCharts = opened(EnergyCharts("de", zone="DE", base=behaving.url))
    history = await provider.history(T - 12 * HOUR, T)
    assert [p.estimated for p in history[-3:]] == [False, True, True]  # 11:30, 11:45, 12:00
    assert T - T % DAY + 3 * HOUR not in {point.time for point in history}
    assert (await provider.forecast(T))[0] == Expected(T + 5 * 60_000, 412.5)
    assert provider.source == "Energy-Charts de"
    long = await provider.history(T - 60 * DAY, T)
    assert long[0].time == T - 60 * DAY + 5 * 60_000
    assert len(behaving.asked) <= 1 + 3


async def test_energy_charts_by_the_hour(source: Source, opened: Opened) -> None:
    def hourly(request: web.Request) -> Any:
        answer = energy_charts(request)
        del answer["deprecated"]
        return {name: values[::4] for name, values in answer.items()}

    source.says("/co2eq", hourly)
    provider: EnergyCharts = opened(EnergyCharts("de", zone="DE", base=source.url))
    assert provider.resolution_ms == HOUR // 4
    assert await provider.now(T)
    assert provider.resolution_ms == HOUR


@pytest.mark.parametrize("text", ["", "d", "germany", "de&x", "../"])
def test_energy_charts_has_no_such_country(text: str) -> None:
    with pytest.raises(SignalError, match="write energy-charts:de"):
        EnergyCharts(text, zone="DE")


# --- where it is asked ----------------------------------------------------------------------

VARIABLES = {
    "neso": "CARBON_NESO_URL",
    "energy-charts": "CARBON_ENERGY_CHARTS_URL",
    "electricitymaps": "CARBON_ELECTRICITYMAPS_URL",
    "watttime": "CARBON_WATTTIME_URL",
}


@pytest.mark.parametrize("name", VARIABLES)
async def test_another_url_by_the_environment(
    behaving: Source, opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(VARIABLES[name], behaving.url)
    assert await opened(PROVIDERS[name]("")).now(T)
    for wrong in ("ftp://x", "localhost:80", "http://", "http://[::1", "http://me:hush@x"):
        monkeypatch.setenv(VARIABLES[name], wrong)
        with pytest.raises(SignalError, match=VARIABLES[name]) as error:
            PROVIDERS[name]("")
        assert "hush" not in str(error.value)


@pytest.mark.parametrize("name", VARIABLES)
def test_the_public_url_by_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(VARIABLES[name], raising=False)
    assert PROVIDERS[name]("").web.base.scheme == "https"


def test_fixtures_have_the_documented_shapes() -> None:
    """The local answers are as in the providers' documents, so that the tests mean something."""
    from aiohttp.test_utils import make_mocked_request

    def asked(path: str, headers: dict[str, str] | None = None) -> web.Request:
        return make_mocked_request("GET", path, headers=headers or {})

    national = neso(asked("/intensity/2026-07-12T12:00Z/2026-07-12T13:00Z"))
    assert [row["from"] for row in national["data"]] == [
        "2026-07-12T11:30Z", "2026-07-12T12:00Z", "2026-07-12T12:30Z",
    ]  # fmt: skip
    charts = energy_charts(asked("/co2eq?country=de&start=2026-07-12T11:00Z&end=2026-07-12T13:00Z"))
    both = zip(charts["co2eq"], charts["co2eq_forecast"], strict=True)
    assert all((measured is None) != (forecast is None) for measured, forecast in both)
