"""The default policy's table, its deferrals, and the promise that deadlines win."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carbon_orchestrator.events import URGENCIES, Band, Pool, Urgency
from carbon_orchestrator.router.deadline import latest_start
from carbon_orchestrator.router.outlook import Bands, Outlook, band_of
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Policy, Site
from carbon_orchestrator.router.run_now import RunNow
from carbon_orchestrator.router.threshold import Threshold, Threshold1
from carbon_orchestrator.router.words import utc

HOUR = 3_600_000
NOW = 1_577_880_000_000  # 2020-01-01 12:00 UTC
LEVEL = {"low": 100.0, "medium": 300.0, "high": 412.0}
POLICY: Policy = Threshold()
BANDS = Bands(mode="absolute", low=210, high=390)


def grid(level: Band | None, forecast: list[tuple[int, float]] | None = None) -> Outlook:
    """The grid at NOW with limits 210 and 390, valid for three hours."""
    if level is None:
        return Outlook(zone="DE")
    points = tuple(sorted(forecast or []))
    bands = BANDS.bands(level, [value for _, value in points], 210, 390)
    ahead = list(zip(points, bands, strict=True))
    return Outlook(
        zone="DE",
        time=NOW,
        intensity=LEVEL[level],
        band=level,
        low=210.0,
        high=390.0,
        forecast=points,
        valid_until=NOW + 3 * HOUR,
        summary=f"{LEVEL[level]:.0f} g/kWh is {level} (limits 210-390)",
        low_ahead=tuple(point for point in points if point[1] <= 210),
        medium_ahead=tuple(point for point in points if point[1] <= 390),
        low_reached=tuple(point for point, band in ahead if band == "low"),
        medium_reached=tuple(point for point, band in ahead if band != "high"),
    )


def job(
    urgency: Urgency,
    deadline: int | None = 10 * HOUR,
    *,
    submitted: int = 0,
    fast: int = HOUR,
    eco: int = 2 * HOUR,
    margin: int = 60_000,
) -> JobView:
    """A job whose `submitted` and `deadline` are given from NOW."""
    return JobView(
        urgency=urgency,
        submitted_at=NOW + submitted,
        deadline=None if deadline is None else NOW + deadline,
        fast_ms=fast,
        eco_ms=eco,
        margin_ms=margin,
    )


@pytest.mark.parametrize("deadline", [None, 10 * HOUR])
@pytest.mark.parametrize(
    ("urgency", "level", "pool"),
    [
        ("urgent", "low", "fast"),
        ("urgent", "medium", "fast"),
        ("urgent", "high", "eco"),
        ("urgent", None, "fast"),
        ("normal", "low", "fast"),
        ("normal", "medium", "eco"),
        ("normal", "high", None),
        ("normal", None, "eco"),
        ("flexible", "low", "fast"),
        ("flexible", "medium", None),
        ("flexible", "high", None),
        ("flexible", None, "eco"),
    ],
)
def test_the_table(
    urgency: Urgency, level: Band | None, pool: Pool | None, deadline: int | None
) -> None:
    answer = POLICY.decide(job(urgency, deadline), [Site(grid(level))], NOW)
    assert answer.band == level
    if pool is None:
        assert isinstance(answer, Defer)
    else:
        assert isinstance(answer, Dispatch)
        assert (answer.pool, answer.due) == (pool, False)


def test_without_a_signal_the_reason_says_so() -> None:
    assert (
        "no usable carbon signal" in POLICY.decide(job("flexible"), [Site(grid(None))], NOW).reason
    )
    stale = POLICY.decide(job("normal", 20 * HOUR), [Site(grid("high"))], NOW + 3 * HOUR + 1)
    assert isinstance(stale, Dispatch)
    assert stale.band is None
    assert stale.reason == ("dispatched on ECO: no usable carbon signal since 2020-01-01 12:00 UTC")


def test_normal_waits_for_the_first_medium_hour_flexible_for_the_first_low_one() -> None:
    forecast = [(NOW + HOUR, 350.0), (NOW + 2 * HOUR, 200.0)]
    normal = POLICY.decide(job("normal"), [Site(grid("high", forecast))], NOW)
    flexible = POLICY.decide(job("flexible"), [Site(grid("high", forecast))], NOW)
    assert isinstance(normal, Defer)
    assert isinstance(flexible, Defer)
    assert (normal.planned_start, normal.pool) == (NOW + HOUR, "eco")
    assert (flexible.planned_start, flexible.pool) == (NOW + 2 * HOUR, "fast")
    assert normal.reason == (
        "deferred: 412 g/kWh is high (limits 210-390); planned for 2020-01-01 13:00 UTC when 350"
        " is forecast, latest start 2020-01-01 19:59, on ECO"
    )


def test_with_nothing_better_ahead_a_job_waits_for_its_latest_start() -> None:
    too_late = [(NOW + 9 * HOUR, 100.0)]
    for forecast in ([], too_late):
        answer = POLICY.decide(job("normal"), [Site(grid("high", forecast))], NOW)
        assert isinstance(answer, Defer)
        assert answer.planned_start == answer.latest_start == NOW + 8 * HOUR - 60_000
        assert answer.pool == "eco"
        assert "2020-01-01 19:59" in answer.reason


@pytest.mark.parametrize("late", [0, 1, 60_000])
def test_a_better_hour_at_or_after_the_latest_start_is_of_no_use(late: int) -> None:
    latest = NOW + 8 * HOUR - 60_000
    answer = POLICY.decide(job("flexible"), [Site(grid("high", [(latest + late, 100.0)]))], NOW)
    assert isinstance(answer, Defer)
    assert (answer.planned_start, answer.pool) == (latest, "eco")


def test_a_better_hour_too_late_for_its_own_pool_is_of_no_use() -> None:
    slow_fast = job("flexible", fast=5 * HOUR, eco=HOUR)
    answer = POLICY.decide(slow_fast, [Site(grid("high", [(NOW + 6 * HOUR, 100.0)]))], NOW)
    assert isinstance(answer, Defer)
    assert (answer.planned_start, answer.pool) == (NOW + 9 * HOUR - 60_000, "eco")


def test_a_job_without_a_deadline_waits_for_a_day_at_most() -> None:
    waiting = job("flexible", None, submitted=-23 * HOUR)
    answer = POLICY.decide(waiting, [Site(grid("high"))], NOW)
    assert isinstance(answer, Defer)
    assert answer.latest_start == NOW + HOUR
    due = POLICY.decide(waiting, [Site(grid("high"))], NOW + HOUR)
    assert isinstance(due, Dispatch)
    assert (due.pool, due.due) == ("eco", True)


def test_at_its_latest_start_a_job_runs_on_eco() -> None:
    outlook = grid("high")
    before = POLICY.decide(job("normal", 4 * HOUR), [Site(outlook)], NOW + 2 * HOUR - 60_001)
    at = POLICY.decide(job("normal", 4 * HOUR), [Site(outlook)], NOW + 2 * HOUR - 60_000)
    assert isinstance(before, Defer)
    assert isinstance(at, Dispatch)
    assert (at.pool, at.due) == ("eco", True)


@pytest.mark.parametrize("urgency", URGENCIES)
def test_too_late_for_eco_a_job_runs_on_fast(urgency: Urgency) -> None:
    answer = POLICY.decide(job(urgency, 2 * HOUR), [Site(grid("high"))], NOW)
    assert isinstance(answer, Dispatch)
    assert (answer.pool, answer.due) == ("fast", True)
    assert "ECO is too slow" in answer.reason


@pytest.mark.parametrize("urgency", URGENCIES)
def test_too_late_for_either_a_job_runs_on_fast(urgency: Urgency) -> None:
    answer = POLICY.decide(job(urgency, HOUR), [Site(grid("high"))], NOW)
    assert isinstance(answer, Dispatch)
    assert (answer.pool, answer.due) == ("fast", True)
    assert "no pool meets the deadline" in answer.reason


def test_where_eco_is_the_quicker_pool_it_saves_the_deadline() -> None:
    answer = POLICY.decide(
        job("urgent", 2 * HOUR, fast=3 * HOUR, eco=HOUR), [Site(grid("low"))], NOW
    )
    assert isinstance(answer, Dispatch)
    assert (answer.pool, answer.due) == ("eco", True)


lengths = st.integers(0, 12 * HOUR)
jobs = st.builds(
    job,
    st.sampled_from(URGENCIES),
    st.none() | st.integers(-HOUR, 30 * HOUR),
    submitted=st.integers(-30 * HOUR, 0),
    fast=lengths,
    eco=lengths,
    margin=st.integers(0, 600_000),
)
grids = st.builds(
    grid,
    st.sampled_from(["low", "medium", "high", None]),
    st.lists(st.tuples(st.integers(NOW - HOUR, NOW + 30 * HOUR), st.floats(50, 600)), max_size=20),
)
times = st.integers(NOW, NOW + 4 * HOUR)


@given(jobs, grids, times)
@example(job("flexible", 2 * HOUR + 60_000), grid("high"), NOW)
def test_deadlines_always_win(view: JobView, outlook: Outlook, now: int) -> None:
    answer = POLICY.decide(view, [Site(outlook)], now)
    fast, eco = latest_start(view, "fast"), latest_start(view, "eco")
    if isinstance(answer, Dispatch):
        if fast is not None and eco is not None and now <= max(fast, eco):
            chosen = latest_start(view, answer.pool)
            assert chosen is not None
            assert now <= chosen, "late although a start in time was possible"
            assert answer.latest_start == chosen
        return
    assert view.urgency != "urgent"
    limit = eco if eco is not None else view.submitted_at + 24 * HOUR
    assert answer.latest_start == limit
    assert now < answer.planned_start <= limit
    planned = latest_start(view, answer.pool)
    assert planned is None or answer.planned_start <= planned


@given(jobs, grids, times)
def test_a_planned_start_is_a_forecast_time_fit_for_its_pool(
    view: JobView, outlook: Outlook, now: int
) -> None:
    answer = POLICY.decide(view, [Site(outlook)], now)
    if isinstance(answer, Defer) and answer.planned_start < answer.latest_start:
        bands = {
            band_of(value, 210, 390)
            for time, value in outlook.forecast
            if time == answer.planned_start
        }
        assert ("low" in bands) if answer.pool == "fast" else ("medium" in bands)
        assert view.urgency == "normal" or answer.pool == "fast"


@given(jobs, grids, times)
def test_the_same_question_has_the_same_answer(view: JobView, outlook: Outlook, now: int) -> None:
    assert POLICY.decide(view, [Site(outlook)], now) == Threshold().decide(
        view, [Site(outlook)], now
    )


@given(jobs, grids)
def test_the_baseline_runs_everything_on_fast_at_once(view: JobView, outlook: Outlook) -> None:
    policy: Policy = RunNow()
    answer = policy.decide(view, [Site(outlook)], NOW)
    assert isinstance(answer, Dispatch)
    assert (answer.pool, answer.due, answer.band) == ("fast", False, outlook.band)


def test_policies_are_named_for_the_record() -> None:
    assert (POLICY.name, POLICY.version) == ("threshold", 2)
    assert (RunNow().name, RunNow().version) == ("run_now", 2)


def test_times_are_written_to_the_minute() -> None:
    assert utc(NOW) == "2020-01-01 12:00"
    assert utc(NOW + 119_999) == "2020-01-01 12:01"


def test_a_start_is_planned_for_when_the_band_is_left() -> None:
    at = [NOW + hour * HOUR for hour in range(5)]
    # 390 is the limit, which is left below 378.3 only; 210 the other, left below 203.7.
    outlook = grid("high", [(at[1], 385.0), (at[2], 370.0), (at[3], 205.0), (at[4], 200.0)])
    normal, flexible = job("normal", 20 * HOUR), job("flexible", 20 * HOUR)
    planned = {}
    for policy in (Threshold(), Threshold1()):
        for view in (normal, flexible):
            answer = policy.decide(view, [Site(outlook)], NOW)
            assert isinstance(answer, Defer)
            planned[policy.version, view.urgency] = (answer.planned_start, answer.pool)
    assert planned == {
        (1, "normal"): (at[1], "eco"),
        (2, "normal"): (at[2], "eco"),
        (1, "flexible"): (at[3], "fast"),
        (2, "flexible"): (at[4], "fast"),
    }


@given(
    st.lists(st.floats(50, 600), min_size=1, max_size=30),
    st.sampled_from(["normal", "flexible"]),
)
def test_a_forecast_that_comes_true_keeps_its_promise(
    values: list[float], urgency: Urgency
) -> None:
    points = [(NOW + (n + 1) * HOUR, value) for n, value in enumerate(values)]
    view = job(urgency, 1000 * HOUR)
    answer = POLICY.decide(view, [Site(grid("high", points))], NOW)
    assert isinstance(answer, Defer)
    if answer.planned_start == answer.latest_start:
        return
    at = [time for time, _ in points].index(answer.planned_start)
    passed = values[: at + 1]
    band = BANDS.bands("high", passed, 210, 390)[-1]
    then = msgspec.structs.replace(
        grid(band), time=answer.planned_start, valid_until=answer.planned_start + HOUR
    )
    kept = POLICY.decide(view, [Site(then)], answer.planned_start)
    assert isinstance(kept, Dispatch)
    assert kept.pool == answer.pool
