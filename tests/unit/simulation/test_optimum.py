"""The clairvoyant optimum: no policy beats it, and the planner reaches it where it can."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_grids import HOUR, config, job, run, trace

from carbon_orchestrator.config import Config, PolicyName
from carbon_orchestrator.events import POOLS, Pool
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.optimum import optimum_ug
from carbon_orchestrator.simulation.results import emitted_ug
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Job

IDEAL = config("greenest_slots")
HOURS = 48
values = st.lists(
    st.floats(min_value=0, max_value=900, allow_nan=False), min_size=HOURS, max_size=HOURS
).map(trace)
POLICIES: tuple[PolicyName, ...] = ("run_now", "threshold", "greenest_window", "greenest_slots")
#: On the raster, up to 20 h: nothing is then lost to when the router is asked.
whole = st.builds(
    lambda at, hours, slack, broken: job(at, hours, hours + slack, interruptible=broken),
    st.integers(0, 10),
    st.integers(1, 12),
    st.integers(0, 12),
    st.booleans(),
)
ragged = st.builds(
    lambda at, hours, slack, broken: job(
        at / 7, hours / 7, hours / 7 + slack, interruptible=broken
    ),
    st.integers(0, 70),
    st.integers(1, 80),
    st.integers(0, 10),
    st.booleans(),
)


def emitted(fate: Fate, real: Trace) -> int:
    return emitted_ug(fate, {"local": real.series})


def best(
    each: Job, real: Trace, settings: Config = IDEAL, pools: tuple[Pool, ...] = POOLS
) -> float:
    return optimum_ug(each, real, settings, pools)


def test_by_hand() -> None:
    real = trace([300, 300, 200, 100, 100, 300, 50, 300])
    unbroken = job(0, 2, within=8)
    # 2 kWh at 100 g/kWh, in µg.
    assert best(unbroken, real) == pytest.approx(200e6)
    assert best(job(0, 2, within=8, interruptible=True), real) == pytest.approx(150e6)
    assert best(job(0, 2, within=3), real) == pytest.approx(500e6)
    assert best(job(0, 2, urgency="urgent"), real) == pytest.approx(600e6)
    assert best(job(0, 2, max_wait=1), real) == pytest.approx(500e6)
    assert best(job(0, 1.5, within=4), real) == pytest.approx(200e6)


def test_of_two_pools_the_one_that_emits_less_in_time() -> None:
    real = trace([100] * 12)
    chosen = config("greenest_slots", slowdown=2.0, energy=0.6)
    assert best(job(0, 2, within=6), real, chosen) == pytest.approx(120e6)
    assert best(job(0, 2, within=3), real, chosen) == pytest.approx(200e6)


def test_a_deadline_that_cannot_be_met_leaves_running_at_once() -> None:
    assert best(job(0, 3, within=2), trace([100] * 12)) == pytest.approx(300e6)


@given(
    hours=st.lists(st.integers(0, 9).map(lambda level: level * 50.0), min_size=5, max_size=5),
    length=st.integers(1, 2),
)
def test_pieces_on_two_pools_against_all_of_them(hours: list[float], length: int) -> None:
    """Every assignment of five hours to FAST (a whole share of work), ECO (half of one) or none
    that does the work; the programme's optimum may be finer, but never above."""
    real = trace(hours)
    settings = config("greenest_slots", slowdown=2.0, energy=0.7)
    each = job(0, length, within=5, interruptible=True)
    costs = []
    for choice in product(("none", "fast", "eco"), repeat=5):
        done = sum({"none": 0, "fast": 2, "eco": 1}[where] for where in choice)
        if done != 2 * length:
            continue
        energies = {"none": 0.0, "fast": 1.0, "eco": 0.35}
        costs.append(sum(energies[at] * v for at, v in zip(choice, hours, strict=True)) * 1e6)
    found = best(each, real, settings)
    assert found <= min(costs) * (1 + 1e-9) + 1e-3
    assert found >= min(v for v in hours) * 0.7 * length * 1e6 - 1e-3


@settings(max_examples=60)
@given(
    real=values,
    each=st.one_of(whole, ragged),
    policy=st.sampled_from(POLICIES),
    eco=st.sampled_from(((1.0, 1.0), (1.5, 0.8), (2.0, 0.5))),
    resume=st.sampled_from((0.0, 300.0)),
)
# ECO is too slow for all of it, but not for the last third.
@example(
    real=trace([0] * 10 + [2, 1, 1] + [0] * 35),
    each=job(0, 71 / 7, 71 / 7 + 2, interruptible=True),
    policy="greenest_slots",
    eco=(1.5, 0.8),
    resume=0.0,
)
def test_nobody_emits_less(
    real: Trace, each: Job, policy: PolicyName, eco: tuple[float, float], resume: float
) -> None:
    chosen = config(policy, slowdown=eco[0], energy=eco[1], resume=resume)
    (fate,) = run([each], real, chosen, pools={"local": POOLS})
    if fate.finished is not None and fate.finished <= real.end:
        # Each segment's emissions are rounded to whole µg, its energy to whole mJ.
        rounding = len(fate.segments) * 2
        assert emitted(fate, real) >= best(each, real, chosen) * (1 - 1e-9) - rounding


@settings(max_examples=60)
@given(real=values, each=whole)
def test_with_a_perfect_forecast_the_planner_reaches_it(real: Trace, each: Job) -> None:
    policy: PolicyName = "greenest_slots" if each.spec.interruptible else "greenest_window"
    (fate,) = run([each], real, config(policy))
    reached = emitted(fate, real)
    assert reached == pytest.approx(
        best(each, real, pools=("fast",)), rel=1e-9, abs=len(fate.segments)
    )
    assert not fate.missed


@settings(max_examples=60)
@given(
    real=values,
    each=st.one_of(whole, ragged),
    policy=st.sampled_from(POLICIES),
    resume=st.sampled_from((0.0, 300.0)),
)
def test_energy_is_kept(real: Trace, each: Job, policy: PolicyName, resume: float) -> None:
    """What all segments burn is what the job burns, and what each resumption costs."""
    (fate,) = run([each], real, config(policy, resume=resume))
    burnt = sum(part.energy_mj for part in fate.segments)
    resumed = (len(fate.segments) - 1) * resume * 1000 * 1000
    assert burnt == pytest.approx(each.energy_mj + resumed, abs=1000 * len(fate.segments))
    ran = sum(part.end - part.start for part in fate.segments)
    assert ran == pytest.approx(each.length_ms + resumed / 1000, abs=len(fate.segments))
    assert fate.finished == fate.segments[-1].end
    for before, after in zip(fate.segments, fate.segments[1:], strict=False):
        assert before.end < after.start


@settings(max_examples=40)
@given(real=values, jobs=st.lists(whole, min_size=1, max_size=6))
def test_never_worse_than_at_once_with_a_perfect_forecast(real: Trace, jobs: list[Job]) -> None:
    jobs.sort(key=lambda each: each.spec.submitted_at)
    for policy in ("greenest_window", "greenest_slots"):
        planned = run(jobs, real, config(policy))
        at_once = run(jobs, real, config("run_now"))
        for fate, base in zip(planned, at_once, strict=True):
            assert emitted(fate, real) <= emitted(base, real) + 2 * HOUR / 1e6 + 100
