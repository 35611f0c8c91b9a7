"""Where intensities come from: their names, the built-in profile, recorded traces."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carbon_orchestrator.signal.naming import parse
from carbon_orchestrator.signal.provider import Point, Provider, SignalError
from carbon_orchestrator.signal.simulated import STEP_MS, intensity

HOUR = 3_600_000
DAY_MS = 24 * HOUR
DAY = 1_577_836_800_000  # 2020-01-01 00:00 UTC


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


async def everything(provider: Provider) -> list[Point]:
    assert provider.start is not None
    assert provider.end is not None
    return await provider.history(provider.start, provider.end)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(
        "Time,Carbon Intensity\n"
        "2020-01-01 00:00:00,100\n2020-01-01 00:30:00,110.5\n2020-01-01 01:00:00,90\n"
    )
    return path


async def test_a_trace_is_read_as_utc(trace: Path) -> None:
    provider = parse(f"csv:{trace}", "DE")
    points = [Point(DAY, 100.0), Point(DAY + HOUR // 2, 110.5), Point(DAY + HOUR, 90.0)]
    assert await everything(provider) == points
    assert (provider.start, provider.end) == (DAY, DAY + HOUR)
    assert (provider.zone, provider.kind, provider.resolution_ms) == ("DE", "average", HOUR // 2)
    assert provider.source == "trace.csv (Carbon Intensity)"
    assert not provider.simulated


async def test_now_is_the_latest_point_so_far(trace: Path) -> None:
    provider = parse(f"csv:{trace}")
    assert await provider.now(DAY - 1) is None
    assert await provider.now(DAY) == Point(DAY, 100.0)
    assert await provider.now(DAY + HOUR - 1) == Point(DAY + HOUR // 2, 110.5)
    assert await provider.now(DAY + 99 * HOUR) == Point(DAY + HOUR, 90.0)


async def test_history_takes_both_ends(trace: Path) -> None:
    provider = parse(f"csv:{trace}")
    assert [p.value for p in await provider.history(DAY, DAY + HOUR // 2)] == [100.0, 110.5]
    assert await provider.history(DAY + 1, DAY + 2) == []


async def test_rows_in_any_order_with_duplicates_gaps_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "rough.csv"
    path.write_text(
        "\ufefftime,zone,carbon_intensity_avg\n"
        "2020-01-01T03:00:00Z,DE,30\n"
        "\n"
        "2020-01-01T00:00:00.000Z,DE,1\n"
        "2020-01-01T02:00:00+01:00,DE,10\n"
        "2020-01-01T02:00:00Z,DE,\n"
        "2020-01-01T04:00:00Z,DE,NaN\n"
        "2020-01-01T05:00:00Z\n"
        "2020-01-01T00:00:00Z,DE,2\n",
        encoding="utf-8",
    )
    assert await everything(parse(f"csv:{path}")) == [
        Point(DAY, 2.0),
        Point(DAY + HOUR, 10.0),
        Point(DAY + 3 * HOUR, 30.0),
    ]


async def test_the_values_own_time_is_preferred_to_that_of_the_poll(tmp_path: Path) -> None:
    path = tmp_path / "polls.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("timestamp,zone_datetime,carbon_intensity_avg\n")
        file.write("1577840000,2020-01-01T01:00:00Z,5\n1577842000,2020-01-01T01:00:00Z,6\n")
    assert await everything(parse(f"csv:{path}")) == [Point(DAY + HOUR, 6.0)]


@pytest.mark.parametrize("unit", [1, 1000])
async def test_unix_times(tmp_path: Path, unit: int) -> None:
    path = tmp_path / "unix.csv"
    path.write_text(f"t,grams\n{DAY // 1000 * unit},7\n{(DAY + HOUR) // 1000 * unit},8\n")
    assert await everything(parse(f"csv:{path}")) == [Point(DAY, 7.0), Point(DAY + HOUR, 8.0)]


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [("", 1.0, "average"), (":marginal: LCA", 2.0, "marginal"), (":4", 3.0, "average")],
)
async def test_the_column_by_default_by_name_and_by_number(
    tmp_path: Path, column: str, value: float, kind: str
) -> None:
    path = tmp_path / "a:b.csv"
    path.write_text(
        "Datetime (UTC),Carbon Intensity gCO₂eq/kWh (direct),marginal: LCA,other,Data Estimated\n"
        "2020-01-01 00:00:00,1,2,3,true\n",
        encoding="utf-8",
    )
    provider = parse(f"csv:{path}{column}")
    assert await everything(provider) == [Point(DAY, value, estimated=True)]
    assert provider.kind == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("Time,Carbon Intensity\n", "no rows"),
        ("Time,Carbon Intensity\n2020-01-01 00:00,\n", "no value in column 'Carbon Intensity'"),
        ("Time,g\n2020-01-01 00:00,1\n2020-01-01 01:00,x1\n", "line 3: 'x1' in column 'g'"),
        ("Time,g\n2020-01-01 00:00,-5\n", "line 2: '-5'"),
        ("Time,g\n2020-01-01 00:00,inf\n", "line 2: 'inf'"),
        ("Time,g\n2020-01-01 00:00,1\nyesterday,2\n", "line 3: 'yesterday' is not a time"),
        ("zone,g\nDE,2\n", "no column holds times"),
        ("carbon_intensity_avg\n0.0\n", "no column holds times"),
        ("g\n0.0\n", "one column only"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(SignalError) as error:
        parse(f"csv:{path}")
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_an_unknown_column_lists_the_columns(trace: Path) -> None:
    for column in ("Price", "3", "0"):
        with pytest.raises(SignalError, match=f"'{column}'; it has 1 'Time', 2 'Carbon Inten"):
            parse(f"csv:{trace}:{column}")


@pytest.mark.parametrize(
    "spec", ["", "ned", "neso:", "csv", "csv:", "simulated:x", "electricitymaps"]
)
def test_an_unknown_name_lists_the_known_ones(spec: str) -> None:
    with pytest.raises(SignalError, match=r"use one of: neso.*csv:PATH\[:COLUMN\]"):
        parse(spec)


@pytest.mark.parametrize(
    ("spec", "source", "kind"),
    [
        ("neso", "NESO", "average"),
        ("neso:13", "NESO region 13", "average"),
        ("energy-charts:de", "Energy-Charts de", "average"),
        ("electricitymaps:US-CAL-CISO", "Electricity Maps US-CAL-CISO", "average"),
        ("watttime:CAISO_NORTH", "WattTime co2_moer CAISO_NORTH", "marginal"),
        ("watttime:CAISO_NORTH:co2_aoer", "WattTime co2_aoer CAISO_NORTH", "average"),
    ],
)
def test_live_sources_by_name(
    monkeypatch: pytest.MonkeyPatch, spec: str, source: str, kind: str
) -> None:
    for name in ("ELECTRICITYMAPS_TOKEN", "WATTTIME_USERNAME", "WATTTIME_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    provider = parse(spec, "HERE")
    assert (provider.zone, provider.source, provider.kind) == ("HERE", source, kind)


async def test_each_row_of_a_trace_says_whether_it_is_estimated(tmp_path: Path) -> None:
    path = tmp_path / "flags.csv"
    path.write_text(
        "time,carbon intensity,is_estimated\n2020-01-01T01:00Z,2,true\n2020-01-01T00:00Z,1,False\n"
    )
    assert await everything(parse(f"csv:{path}")) == [
        Point(DAY, 1.0, estimated=False),
        Point(DAY + HOUR, 2.0, estimated=True),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SignalError, match="no such file"):
        parse(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(SignalError, match="cannot be read"):
        parse(f"csv:{tmp_path}")
    for name, content in (("x.csv.gz", b"Time,g\n"), ("y.csv", b"\xff\xfe\x00,\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SignalError, match="cannot be read"):
            parse(f"csv:{tmp_path / name}")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"Time,g\n" + b"2020-01-01,1\n" * 50)[:-12])
    with pytest.raises(SignalError, match="cannot be read"):
        parse(f"csv:{tmp_path / 'cut.csv.gz'}")


async def test_the_profile_is_a_labelled_daily_curve() -> None:
    provider = parse("simulated", "home")
    assert (provider.zone, provider.simulated) == ("home", True)
    assert (provider.source, provider.start, provider.end) == (
        "simulated daily profile",
        None,
        None,
    )
    day = [point.value for point in await provider.history(DAY, DAY + DAY_MS - 1)]
    assert len(day) == 48
    assert max(day[14:20]) > max(day[24:28]) < max(day[36:42])  # two peaks, a dip between
    assert min(day[24:28]) < min(day[0:8])  # deeper than the night
    assert await provider.now(DAY + STEP_MS - 1) == Point(DAY, day[0])
    assert await provider.history(DAY + 1, DAY + STEP_MS) == [Point(DAY + STEP_MS, day[1])]


def test_the_profile_differs_by_day_and_stays_in_range() -> None:
    decade = [intensity(DAY + step * STEP_MS) for step in range(48 * 3653)]
    assert 120 <= min(decade) < 160
    assert 440 < max(decade) <= 480
    assert decade[:48] != decade[48:96]


async def test_traces_and_the_profile_forecast_nothing(trace: Path) -> None:
    for spec in ("simulated", f"csv:{trace}"):
        assert await parse(spec).forecast(DAY) == []


DATA = Path(os.environ.get("CARBON_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the research data is not at {DATA}; set CARBON_DATA to its folder"
)
@pytest.mark.parametrize(
    ("name", "points", "start", "resolution", "first"),
    [
        ("lwa_ger_ci.csv", 37147, "2019-12-20 00:00", HOUR // 4, 218.29003068829462),
        ("lwa_gb_ci.csv", 21980, "2019-12-20 00:00", HOUR // 2, 120.99546661944396),
        ("ES_2022_hourly.csv", 8760, "2022-01-01 00:00", HOUR, 133.64),
        ("ES_2023_hourly.csv:6", 8760, "2023-01-01 00:00", HOUR, 114.42),
        ("GB_live_scrapes_2021-22.csv.gz", 9224, "2021-10-08 04:00", HOUR, 231.0),
    ],
)
async def test_recorded_traces_of_real_grids(
    name: str, points: int, start: str, resolution: int, first: float
) -> None:
    provider = parse(f"csv:{DATA / name}")
    assert provider.start == ms(start)
    assert provider.resolution_ms == resolution
    assert await provider.now(provider.start) == Point(provider.start, first)
    assert len(await everything(provider)) == points
