"""What sources send, read into points: formats, gaps, duplicates and nonsense. No I/O."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.signal.electricity_maps import LISTS, parse_electricity_maps
from carbon_orchestrator.signal.energy_charts import parse_energy_charts
from carbon_orchestrator.signal.neso import (
    HALF_HOUR_MS,
    asked,
    by_year,
    parse_neso,
)
from carbon_orchestrator.signal.points import (
    GREATEST,
    LAST_MS,
    Reading,
    Span,
    in_order,
    intensity,
    iso,
    iso_ms,
    spans,
    unix_ms,
    usual_step,
)
from carbon_orchestrator.signal.provider import Expected, Point, SignalError
from carbon_orchestrator.signal.watttime import (
    checked_meta,
    parse_login,
    parse_warnings,
    parse_watttime,
)

MINUTE, DAY = 60_000, 86_400_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


T = ms("2018-01-20T12:00")


def half_hour(start: str, forecast: Any, actual: Any = None, **more: Any) -> dict[str, Any]:
    values = {"forecast": forecast, "actual": actual, "index": "moderate"} | more
    return {"from": start, "to": "2018-01-20T12:30Z", "intensity": values}


def test_neso_measured_where_there_is_an_actual_else_estimated() -> None:
    answer = {
        "data": [
            half_hour("2018-01-20T12:30Z", 268),
            half_hour("2018-01-20T12:00Z", 266, 263),
            half_hour("2018-01-20T13:00Z", None),
        ]
    }
    assert parse_neso(answer) == Reading(
        [Point(T, 263.0), Point(T + HALF_HOUR_MS, 268.0, True)],
        [Expected(T, 266.0), Expected(T + HALF_HOUR_MS, 268.0)],
        skipped=0,
    )


def test_neso_nought_is_a_value_and_null_is_not() -> None:
    answer = {"data": [half_hour("2018-01-20T12:00Z", 5, 0)]}
    assert parse_neso(answer).points == [Point(T, 0.0)]


def test_neso_one_half_hour_twice_counts_once_and_the_last_value() -> None:
    rows = [half_hour("2021-04-19T19:00Z", 9, value) for value in (150, 151)]
    rows.append(half_hour("2021-04-19T19:00Z", 7))
    assert parse_neso({"data": rows}).points == [Point(ms("2021-04-19T19:00"), 151.0)]


@pytest.mark.parametrize("in_list", [True, False])
def test_neso_regions_are_estimates_in_either_form(in_list: bool) -> None:
    region = {
        "regionid": 3,
        "dnoregion": "Electricity North West",
        "shortname": "North West England",
        "postcode": "RG10",
        "data": [
            {
                "from": "2018-01-20T12:00Z",
                "to": "2018-01-20T12:30Z",
                "intensity": {"forecast": 266, "index": "moderate"},
                "generationmix": [{"fuel": "gas", "perc": 43.6}],
            }
        ],
    }
    answer = {"data": [region] if in_list else region}
    assert parse_neso(answer, region=3).points == [Point(T, 266.0, True)]
    with pytest.raises(SignalError, match="another region"):
        parse_neso(answer, region=4)


def test_energy_charts_parallel_arrays_with_complementary_nulls() -> None:
    start = 1_783_893_600
    answer = {
        "unix_seconds": [start + 900 * step for step in (0, 1, 2, 4, 5)],  # 3 is missing
        "co2eq": [491.5, None, 502.6, None, None],
        "co2eq_forecast": [None, None, None, 505.0, None],
        "deprecated": False,
    }
    at = [time * 1000 for time in answer["unix_seconds"]]
    assert parse_energy_charts(answer) == Reading(
        [Point(at[0], 491.5), Point(at[2], 502.6), Point(at[3], 505.0, True)],
        [Expected(at[3], 505.0)],
        skipped=0,
    )


def test_energy_charts_without_forecast_and_with_arrays_that_do_not_match() -> None:
    answer: dict[str, Any] = {"unix_seconds": [1_783_893_600], "co2eq": [1]}
    for none in ({}, {"co2eq_forecast": None}, {"co2eq_forecast": []}):
        assert parse_energy_charts(answer | none).expected == []
    for bad in ({"co2eq": []}, {"co2eq_forecast": [1, 2]}, {"co2eq_forecast": "505"}):
        with pytest.raises(SignalError, match="differ in number"):
            parse_energy_charts(answer | bad)


def emaps(time: str, value: Any, **more: Any) -> dict[str, Any]:
    row = {"zone": "DE", "carbonIntensity": value, "datetime": time, "isEstimated": False}
    return row | {"emissionFactorType": "lifecycle", "estimationMethod": None} | more


def test_electricity_maps_marks_estimates_and_prefers_what_was_measured() -> None:
    rows = [
        emaps("2018-01-20T13:00:00.000Z", 216, isEstimated=True),
        emaps("2018-01-20T12:00:00.000Z", 210),
        emaps("2018-01-20T12:00:00.000Z", 209, isEstimated=True),
        emaps("2018-01-20T14:00:00.000Z", None, isEstimated=True),
        emaps("2018-01-20T15:00:00.000Z", 99, emissionFactorType="direct"),
    ]
    reading = parse_electricity_maps({"zone": "DE", "history": rows}, "history", "DE")
    assert reading.points == [Point(T, 210.0), Point(T + 3_600_000, 216.0, True)]
    assert reading.skipped == 1
    assert parse_electricity_maps(rows[1], None, "DE").points == [Point(T, 210.0)]


def test_electricity_maps_answering_for_another_zone_is_refused() -> None:
    with pytest.raises(SignalError, match="is of zone FR") as error:
        parse_electricity_maps(emaps("2018-01-20T12:00Z", 30, zone="FR"), None, "DE")
    assert error.value.permanent


def test_watttime_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour() -> None:
    answer = {
        "data": [
            {"point_time": "2018-01-20T12:05:00+00:00", "value": 1000},
            {
                "point_time": "2018-01-20T13:00:00+01:00",
                "value": 870.5,
                "imputed_data_used": True,
            },
        ]
    }
    assert parse_watttime(answer).points == [
        Point(T, pytest.approx(394.852158), True),
        Point(T + 5 * MINUTE, 453.59237),
    ]
    assert parse_watttime(answer, forecast=True).expected[1].value == 453.59237


@pytest.mark.parametrize(
    "wrong",
    [
        {"units": "g_co2_per_kwh"},
        {"region": "PJM_DC"},
        {"signal_type": "health_damage"},
        {"units": None},
    ],
)
def test_watttime_units_and_subject_are_checked(wrong: dict[str, Any]) -> None:
    meta: dict[str, Any] = {
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "units": "lbs_co2_per_mwh",
        "warnings": [{"type": "EXAMPLE", "message": "old\nmodel"}, None, {"message": 1}],
    }
    assert checked_meta({"meta": meta}, "CAISO_NORTH", "co2_moer", "WattTime") == meta
    assert parse_warnings(meta) == ["old model"]
    with pytest.raises(SignalError, match=f"has {next(iter(wrong))} ") as error:
        checked_meta({"meta": meta | wrong}, "CAISO_NORTH", "co2_moer", "WattTime")
    assert error.value.permanent


@pytest.mark.parametrize("token", ["", None, 5, "a\r\nX-Evil: 1", "tokén"])
def test_a_login_without_a_usable_token(token: object) -> None:
    assert parse_login({"token": token}) is None


IMPOSSIBLE: list[Any] = [
    -0.1, math.nan, math.inf, -math.inf, 4 * GREATEST, 10**400, -(10**400), True, "266", [], {},
]  # fmt: skip


@pytest.mark.parametrize("value", IMPOSSIBLE)
def test_impossible_values_are_skipped_and_counted(value: Any) -> None:
    good, bad = half_hour("2018-01-20T12:00Z", 2, 1), half_hour("2018-01-20T12:30Z", None, value)
    assert parse_neso({"data": [bad, good]}) == Reading([Point(T, 1.0)], [Expected(T, 2.0)], 1)
    assert intensity(value) is None
    assert intensity(value, 0.45359237) is None


@pytest.mark.parametrize(
    "time", [None, "", "yesterday", 5, "12:00", "0001-01-01T00:00Z", "9999-12-31T00:00Z", []]
)
def test_impossible_times_are_skipped_and_an_answer_of_them_alone_is_an_error(time: Any) -> None:
    good, bad = half_hour("2018-01-20T12:00Z", 2, 1), half_hour("x", 3) | {"from": time}
    assert parse_neso({"data": [bad, good]}).skipped == 1
    with pytest.raises(SignalError, match="none of 1 values is a time and an intensity"):
        parse_neso({"data": [bad]})


@pytest.mark.parametrize(
    "text",
    ["2018-01-20T12:00Z", "2018-01-20T12:00:00.000Z", "2018-01-20T12:00", "2018-01-20T13:00+01:00"],
)
def test_times_of_all_spellings(text: str) -> None:
    assert iso_ms(text) == T
    assert iso(T) == "2018-01-20T12:00Z"


# --- any JSON at all ------------------------------------------------------------------------

KNOWN = """data from intensity forecast actual unix_seconds co2eq co2eq_forecast zone history
    datetime carbonIntensity isEstimated point_time value meta units regionid token warnings"""
NAMES = st.sampled_from(KNOWN.split())
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["DE", "2018-01-20T12:00Z", "lbs_co2_per_mwh", 10**400])
    | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=25,
)
PARSERS: list[Callable[[Any], Reading]] = [
    parse_neso,
    lambda answer: parse_neso(answer, region=3),
    parse_energy_charts,
    *(lambda answer, r=rows: parse_electricity_maps(answer, r, "DE") for rows in LISTS.values()),
    parse_watttime,
    lambda answer: parse_watttime(answer, forecast=True),
]  # fmt: skip


def check(reading: Reading) -> None:
    times = [point.time for point in reading.points]
    assert times == sorted(set(times))
    assert [e.time for e in reading.expected] == sorted({e.time for e in reading.expected})
    for point in (*reading.points, *reading.expected):
        assert 0 <= point.time <= LAST_MS
        assert 0 <= point.value <= GREATEST


@pytest.mark.parametrize("parse", PARSERS)
@given(answer=JSON | st.fixed_dictionaries({"data": st.lists(JSON), "zone": st.just("DE")}))
def test_any_json_is_read_or_refused(parse: Callable[[Any], Reading], answer: Any) -> None:
    with contextlib.suppress(SignalError):
        check(parse(answer))
    with contextlib.suppress(SignalError):
        parse_warnings(checked_meta(answer, "DE", "co2_moer", "x"))
    parse_login(answer)


VALUES = st.none() | st.floats() | st.integers(-10, 6000) | st.just("x")
ROWS = st.lists(st.tuples(st.integers(0, 96), VALUES, VALUES), max_size=30)


@given(ROWS)
def test_rows_of_the_right_shape_in_any_order_with_duplicates(
    rows: list[tuple[int, Any, Any]],
) -> None:
    times = [1_516_449_600 + 900 * step for step, _, _ in rows]
    measured, expected = [row[1] for row in rows], [row[2] for row in rows]
    answers: list[tuple[Callable[[Any], Reading], Any]] = [
        (
            parse_energy_charts,
            {"unix_seconds": times, "co2eq": measured, "co2eq_forecast": expected},
        ),
        (
            parse_neso,
            {
                "data": [
                    half_hour(iso(time * 1000), forecast, actual)
                    for time, actual, forecast in zip(times, measured, expected, strict=True)
                ]
            },
        ),
    ]
    known = {
        time * 1000
        for time, value in zip(times, measured, strict=True)
        if intensity(value) is not None
    }
    for parse, answer in answers:
        try:
            reading = parse(json.loads(json.dumps(answer)))
        except SignalError:
            assert not known
            continue
        check(reading)
        assert {point.time for point in reading.points if not point.estimated} == known


@given(st.lists(st.builds(Point, st.integers(0, 5), st.floats(0, 9), st.booleans())))
def test_measured_before_estimated_then_the_last_counts(points: list[Point]) -> None:
    ordered = in_order(points)
    assert [point.time for point in ordered] == sorted({point.time for point in points})
    for point in ordered:
        same = [other for other in points if other.time == point.time]
        measured = [other for other in same if not other.estimated]
        assert point == (measured or same)[-1]


def test_the_usual_step_does_not_mind_gaps() -> None:
    points = [Point(time * 900_000, 1.0) for time in (0, 1, 2, 5, 6, 7, 96)]
    assert usual_step(points) == 900_000
    assert usual_step(points[:1]) is None


# --- what is asked for ----------------------------------------------------------------------


@given(st.integers(0, LAST_MS), st.integers(0, 400 * DAY))
def test_spans_cover_without_gaps(t0: int, length: int) -> None:
    found = spans(t0, t0 + length, 13 * DAY, 40, "x")
    assert (found[0].start, found[-1].end) == (t0, t0 + length)
    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(0 <= span.end - span.start <= 13 * DAY for span in found)
    if length > 26 * DAY:
        with pytest.raises(SignalError, match="ask for 26 days at most") as error:
            spans(t0, t0 + length, 13 * DAY, 2, "x")
        assert error.value.permanent


@given(st.integers(DAY, LAST_MS - 400 * DAY), st.integers(0, 400 * DAY))
def test_years_are_asked_one_by_one(start: int, length: int) -> None:
    parts = by_year(Span(start, start + length))
    assert (parts[0].start, parts[-1].end) == (start, start + length)
    for part in parts:
        wanted = asked(part, within_year=True)
        years = {iso(wanted.start)[:4], iso(wanted.end - 1)[:4]}
        assert len(years) == 1
        assert wanted.start <= part.start - part.start % HALF_HOUR_MS + MINUTE
        assert wanted.end >= part.end
    assert sum(part.end - part.start for part in parts) == length - (len(parts) - 1)


def test_a_neso_request_of_13_days_stays_within_the_allowed_14() -> None:
    wanted = asked(Span(T + 1, T + 1 + 13 * DAY), within_year=False)
    assert wanted.end - wanted.start < 14 * DAY
    assert (wanted.start - T, iso(wanted.start)[-3:-1]) == (-29 * MINUTE, "31")


@given(st.floats() | st.integers() | st.none() | st.booleans())
def test_unix_times_are_within_reason(seconds: Any) -> None:
    time = unix_ms(seconds)
    assert time is None or 0 <= time <= LAST_MS
