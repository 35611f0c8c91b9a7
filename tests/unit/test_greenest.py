"""The planning policies: the greenest run that the deadline, the pools and patience allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.events import Band, Pool, Urgency
from carbon_orchestrator.router.curve import Curve
from carbon_orchestrator.router.greenest import GreenestSlots, GreenestWindow
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Policy, Site

HOUR = 3_600_000
NOW = 1_577_880_000_000
WINDOW, SLOTS = GreenestWindow(), GreenestSlots()


def grid(hours: Sequence[float], zone: str = "local", band: Band = "medium") -> Outlook:
    """Intensities of the hours from NOW on."""
    edges = np.array([NOW + n * HOUR for n in range(len(hours) + 1)], dtype=np.int64)
    return Outlook(
        zone=zone,
        time=NOW,
        intensity=hours[0],
        band=band,
        low=100,
        high=300,
        resolution_ms=HOUR,
        valid_until=NOW + 3 * HOUR,
        summary=f"{hours[0]} g/kWh is {band}",
        curve=Curve(edges, np.array(hours, dtype=np.float64)),
    )


def job(hours: float = 1, within: float | None = 10, **fields: Any) -> JobView:
    """A job of so many hours, to be done within so many; on ECO the same."""
    length = round(hours * HOUR)
    return JobView(
        **{
            "urgency": "flexible",
            "submitted_at": NOW,
            "deadline": None if within is None else NOW + round(within * HOUR),
            "fast_ms": length,
            "eco_ms": length,
            "margin_ms": 0,
            "eco_energy": 1.5,  # so that FAST is the choice where a test is not about pools
            **fields,
        }
    )


def start(answer: Dispatch | Defer) -> float:
    """Hours from now."""
    return (answer.planned_start - NOW) / HOUR if isinstance(answer, Defer) else 0.0


levels = st.lists(st.integers(1, 900), min_size=2, max_size=40)


@given(levels, st.integers(1, 8), st.integers(0, 30))
def test_a_window_is_the_greenest_of_all(hours: list[int], length: int, slack: int) -> None:
    slack = min(slack, max(0, len(hours) - length))
    length = min(length, len(hours))
    answer = WINDOW.decide(job(length, length + slack), [Site(grid(hours))], NOW)
    means = [sum(hours[s : s + length]) / length for s in range(slack + 1)]
    assert means[round(start(answer))] == pytest.approx(min(means))
    assert start(answer) <= slack


@given(levels, st.integers(1, 8), st.integers(0, 30))
def test_slots_run_now_where_now_is_among_the_greenest(
    hours: list[int], length: int, slack: int
) -> None:
    length = min(length, len(hours))
    slack = min(slack, len(hours) - length)
    view = job(length, length + slack, interruptible=True)
    answer = SLOTS.decide(view, [Site(grid(hours))], NOW)
    in_reach = hours[: length + slack]
    chosen = sorted(range(len(in_reach)), key=lambda hour: (in_reach[hour], hour))[:length]
    assert start(answer) == min(chosen)


@given(
    levels,
    st.integers(1, 8),
    st.floats(0, 30),
    st.sampled_from([WINDOW, SLOTS, GreenestSlots(0.01)]),
    st.booleans(),
    st.sampled_from(["urgent", "normal", "flexible"]),
    st.integers(0, HOUR),
    st.integers(0, 10 * HOUR),
)
def test_no_feasible_deadline_is_given_away(
    hours: list[int],
    length: int,
    slack: float,
    policy: Policy,
    interruptible: bool,
    urgency: Urgency,
    margin: int,
    late: int,
) -> None:
    """Whatever the grid: a plan starts by the latest start of its pool, or at once."""
    view = job(
        length,
        length + slack,
        urgency=urgency,
        interruptible=interruptible,
        margin_ms=margin,
        eco_ms=2 * length * HOUR,
        eco_energy=0.5,
    )
    now = NOW + min(late, 3 * HOUR)
    answer = policy.decide(view, [Site(grid(hours))], now)
    limits = {pool: view.deadline - margin - view.longest(pool) for pool in ("fast", "eco")}  # type: ignore[operator,arg-type]
    if isinstance(answer, Defer):
        assert urgency != "urgent"
        assert now < answer.planned_start <= answer.latest_start == limits[answer.pool]
    elif limits["fast"] >= now:
        assert limits[answer.pool] >= now - margin // 2


def test_urgent_jobs_never_wait_and_get_fast_unless_the_grid_is_at_its_worst() -> None:
    hours = [400.0, 1.0, 1.0]
    urgent = job(1, 9, urgency="urgent", eco_energy=0.5)
    assert WINDOW.decide(urgent, [Site(grid(hours))], NOW).pool == "fast"
    answer = WINDOW.decide(urgent, [Site(grid(hours, band="high"))], NOW)
    assert isinstance(answer, Dispatch)
    assert answer.pool == "eco"
    assert "do not wait" in answer.reason


@pytest.mark.parametrize(("urgency", "pool"), [("urgent", "fast"), ("flexible", "eco")])
def test_without_a_signal_nobody_waits(urgency: Urgency, pool: Pool) -> None:
    answer = SLOTS.decide(job(urgency=urgency), [Site(Outlook(zone="local"))], NOW)
    assert isinstance(answer, Dispatch)
    assert answer.pool == pool
    assert "no usable carbon signal" in answer.reason
    stale = WINDOW.decide(job(), [Site(grid([9, 1]))], NOW + 4 * HOUR)
    assert isinstance(stale, Dispatch)


def test_ten_hours_are_not_waited_for_one_percent() -> None:
    hours = [100.0] * 10 + [99.0] * 3
    view = job(1, 14)
    assert start(WINDOW.decide(view, [Site(grid(hours))], NOW)) == 10
    patient = GreenestWindow(min_saving=0.002)
    assert start(patient.decide(view, [Site(grid(hours))], NOW)) == 0
    # Five hours for a fifth are a bargain.
    hours[5] = 80.0
    assert start(patient.decide(view, [Site(grid(hours))], NOW)) == 5


def test_a_full_pool_gives_the_next_best_hour() -> None:
    hours = [50.0, 20.0, 10.0, 30.0, 50.0]
    full = [(NOW + 2 * HOUR, NOW + 3 * HOUR)]
    assert start(WINDOW.decide(job(1, 5), [Site(grid(hours))], NOW)) == 2
    assert start(WINDOW.decide(job(1, 5), [Site(grid(hours), full, None)], NOW)) == 1
    parts = job(2, 5, interruptible=True)
    assert start(SLOTS.decide(parts, [Site(grid(hours), full, None)], NOW)) == 1


@pytest.mark.parametrize("policy", [WINDOW, SLOTS])
def test_where_a_pool_is_booked_out_the_job_joins_the_queue(policy: Policy) -> None:
    full = [(NOW, NOW + 9 * HOUR)]
    view = job(2, 5, interruptible=True)
    answer = policy.decide(view, [Site(grid([50, 10, 10, 50, 50]), full, None)], NOW)
    assert isinstance(answer, Dispatch)
    assert "booked out" in answer.reason
    # The other pool has room: it is taken, though it burns more.
    answer = policy.decide(view, [Site(grid([50, 10, 10, 50, 50]), full, ())], NOW)
    assert answer.pool == "eco"
    assert start(answer) == 1


def test_the_pool_is_chosen_by_expected_emissions() -> None:
    hours = [100.0, 100.0, 300.0, 300.0]
    slow = job(1, 10, eco_ms=2 * HOUR, eco_energy=0.8)
    assert WINDOW.decide(slow, [Site(grid(hours))], NOW).pool == "eco"
    slower = job(1, 4, eco_ms=4 * HOUR, eco_energy=0.8)  # runs into the bad hours
    assert WINDOW.decide(slower, [Site(grid(hours))], NOW).pool == "fast"
    too_slow = job(1, 4, eco_ms=5 * HOUR, eco_energy=0.1)
    assert WINDOW.decide(too_slow, [Site(grid(hours))], NOW).pool == "fast"


def test_the_expected_length_weighs_and_the_longest_keeps_the_deadline() -> None:
    hours = [100.0, 10.0, 100.0, 5.0, 100.0, 100.0]
    view = job(1, 5, fast_ms=3 * HOUR, fast_mean_ms=HOUR, eco_ms=30 * HOUR)
    answer = WINDOW.decide(view, [Site(grid(hours))], NOW)
    assert start(answer) == 1
    assert isinstance(answer, Defer)
    assert answer.latest_start == NOW + 2 * HOUR


def test_zone_pool_and_time_are_chosen_together() -> None:
    sites = [Site(grid([100, 90, 80], "DE")), Site(grid([200, 200, 40], "FR"))]
    answer = WINDOW.decide(job(1, 3), sites, NOW)
    assert (answer.zone, start(answer)) == ("FR", 2)
    assert "in FR" in answer.reason
    answer = WINDOW.decide(job(1, 2), sites, NOW)
    assert (answer.zone, start(answer)) == ("DE", 1)
    silent = [Site(Outlook(zone="DE")), Site(grid([200, 200, 40], "FR"))]
    assert WINDOW.decide(job(1, 3), silent, NOW).zone == "FR"
    closed = [Site(grid([100, 90, 80], "DE")), Site(grid([1, 1, 1], "FR"), None, None)]
    assert WINDOW.decide(job(1, 3), closed, NOW).zone == "DE"


def test_a_job_without_a_deadline_waits_a_day_at_most() -> None:
    hours = [100.0] * 30 + [1.0] * 10
    answer = WINDOW.decide(job(1, None), [Site(grid(hours))], NOW)
    assert start(answer) == 0
    hours[20] = 50.0
    assert start(WINDOW.decide(job(1, None), [Site(grid(hours))], NOW)) == 20


def running(hours_left: float, within: float, resume: int = 0) -> JobView:
    return job(hours_left, within, interruptible=True, running="fast", resume_ms=resume)


def test_a_running_job_pauses_for_greener_hours() -> None:
    hours = [90.0, 80.0, 10.0, 10.0, 90.0, 90.0]
    answer = SLOTS.decide(running(2, 6), [Site(grid(hours))], NOW)
    assert isinstance(answer, Defer)
    assert (answer.pool, start(answer)) == ("fast", 2)
    assert "suspended" in answer.reason
    assert "goes on at" in answer.reason
    assert isinstance(SLOTS.decide(running(2, 2), [Site(grid(hours))], NOW), Dispatch)
    assert isinstance(WINDOW.decide(running(2, 6), [Site(grid(hours))], NOW), Dispatch)


def test_a_pause_must_save_more_than_it_costs() -> None:
    hours = [100.0, 95.0, 95.0, 95.0]
    assert isinstance(SLOTS.decide(running(2, 4), [Site(grid(hours))], NOW), Defer)
    costly = running(2, 4, resume=HOUR // 5)
    answer = SLOTS.decide(costly, [Site(grid(hours))], NOW)
    assert isinstance(answer, Dispatch)
    assert "would not save" in answer.reason


def test_a_running_job_goes_on_without_a_signal() -> None:
    answer = SLOTS.decide(running(2, 9), [Site(Outlook(zone="local"))], NOW)
    assert isinstance(answer, Dispatch)


def test_a_break_is_taken_only_where_it_pays() -> None:
    """Two greenest hours with one of nearly the same between them: one run."""
    hours = [100.0, 50.0, 52.0, 50.0, 100.0]
    view = job(2, 5, interruptible=True, resume_ms=HOUR // 4)
    answer = SLOTS.decide(view, [Site(grid(hours))], NOW)
    assert start(answer) == 1
    assert "at 51.0" in answer.reason
    free = job(2, 5, interruptible=True)
    assert "at 50.0" in SLOTS.decide(free, [Site(grid(hours))], NOW).reason


def test_a_reason_tells_the_numbers() -> None:
    answer = WINDOW.decide(job(1, 10), [Site(grid([300, 300, 150, 300]))], NOW)
    assert answer.reason == (
        "deferred: 300 g/kWh expected if run now; planned for 2020-01-01 14:00 UTC on FAST at"
        " 150 (50 % less emitted for 2.0 h of waiting), latest start 2020-01-01 21:00"
    )
