"""Three weeks of a grid in virtual time: what each way of sizing pools costs whom."""

from __future__ import annotations

from functools import cache

import numpy as np

from benchmarks.scaling.jobs import WEEK_MS, Recorded, jobs_of
from benchmarks.scaling.pool import HOUR, Sums
from benchmarks.scaling.year import MINUTE, RULES, Year, prepared, run
from carbon_orchestrator.simulation.traces import Trace

WEEKS = 3
DAYS = 7 * WEEKS
#: Office hours of five days, and runs from minutes to half a day.
WORK = Recorded(
    times=[[(24 * day + hour) * HOUR for day in range(5) for hour in range(9, 17)]],
    runs=[(round(minutes * MINUTE), 1.0) for minutes in np.geomspace(5, 720, 40)],
)


@cache
def weeks() -> Year:
    """A day's wave of solar power over a slower one of wind."""
    hours = np.arange(WEEKS * 7 * 48) / 2
    day, wind = np.cos(hours * 2 * np.pi / 24), np.sin(hours * 2 * np.pi / 90)
    noise = np.random.default_rng(0).normal(0, 10, len(hours))
    trace = Trace(2600 * WEEK_MS, HOUR // 2, 300 + 80 * day + 100 * wind + noise)
    return prepared(trace, jobs_of(WORK, trace.start, trace.end, 30, 0), "threshold")


@cache
def sums(way: str) -> Sums:
    return run(weeks(), way)


def hasty_wait(way: str) -> float:
    """Of urgent and due jobs, from hand-over to start: the 99th percentile, minutes."""
    waits = sums(way).waits
    return float(np.quantile([*waits["urgent"], *waits["due"]], 0.99)) / MINUTE


def test_every_job_starts_once_in_every_way() -> None:
    assert weeks().jobs > 500
    assert all(len(coming.handed) > 100 for coming in weeks().coming.values())
    for way in ("fixed, 12", "intensity ceiling", "ours"):
        assert sum(map(len, sums(way).waits.values())) == weeks().jobs, way


def test_ours_misses_no_deadline_and_interrupts_nobody() -> None:
    assert sums("fixed, 12").late == 0  # so none needs to be
    assert (sums("ours").late, sums("ours").interrupted) == (0, 0)


def test_a_ceiling_by_intensity_alone_makes_due_jobs_wait_and_late() -> None:
    """Hours where ours takes no longer than a worker to come and two looks."""
    assert sums("intensity ceiling").late > 10
    assert hasty_wait("intensity ceiling") > 60
    assert hasty_wait("ours") <= (RULES.start_up + 2 * RULES.step) / MINUTE


def test_ours_flaps_less_than_what_follows_the_backlog() -> None:
    assert 0 < sums("ours").flaps < 0.6 * sums("backlog").flaps
    assert sums("ours").flaps / DAYS / 2 < 2.5  # a pool


def test_ours_works_above_the_cap_for_deadlines_and_for_what_runs_only() -> None:
    above = sums("ours").above
    assert above["deadlines"] > 0
    assert above["idle"] < 0.01 * DAYS * 24 * HOUR


def test_ours_needs_a_fraction_of_the_workers_of_a_pool_that_could_always_serve() -> None:
    assert sums("ours").worker_ms < 0.15 * sums("fixed, 12").worker_ms
    assert sums("ours").emissions_ug < 0.25 * sums("fixed, 12").emissions_ug
