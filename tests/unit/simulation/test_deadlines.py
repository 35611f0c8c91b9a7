"""Deadlines: whatever is forecast, comes and is paused, a job that can be in time is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_grids import config, job, run, trace

from carbon_orchestrator.config import PolicyName
from carbon_orchestrator.simulation.forecasts import Known

HOURS = 48
BOTH = {"local": ("fast", "eco")}
grams = st.lists(st.integers(20, 800), min_size=HOURS, max_size=HOURS)
POLICIES: list[PolicyName] = ["threshold", "greenest_window", "greenest_slots"]


@given(
    policy=st.sampled_from(POLICIES),
    real=grams,
    said=grams,
    wanted=st.lists(
        st.tuples(st.floats(0, 8), st.floats(0.1, 10), st.floats(0.01, 14), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    slowdown=st.floats(0.5, 3),
    energy=st.floats(0.3, 1.5),
    resume=st.integers(0, 900),
)
def test_no_deadline_is_missed_that_could_be_met(
    policy: PolicyName,
    real: list[int],
    said: list[int],
    wanted: list[tuple[float, float, float, bool]],
    slowdown: float,
    energy: float,
    resume: int,
) -> None:
    """The forecast is of another grid altogether, and resuming may cost a quarter of an hour."""
    settings = config(policy, slowdown=slowdown, energy=energy, resume=resume, margin=1)
    jobs = [
        job(at, hours, hours + spare, number=number, interruptible=pausing)
        for number, (at, hours, spare, pausing) in enumerate(sorted(wanted))
    ]
    forecast = Known(np.array(said, dtype=np.float64), HOURS)
    fates = run(jobs, trace(real), settings, forecast, pools=BOTH)
    assert [fate.missed for fate in fates] == [False] * len(jobs)
    assert all(fate.finished is not None for fate in fates)


def test_every_resumption_is_reckoned_with() -> None:
    """Four pauses, of which each costs ten minutes of running."""
    comb = trace([100, 900, 100, 900, 100, 900, 100, 900, 100] + [900] * 39)
    settings = config("greenest_slots", resume=600, margin=1)
    (fate,) = run([job(0, 5, 11, interruptible=True)], comb, settings)
    assert len(fate.segments) >= 3
    ran = sum(part.end - part.start for part in fate.segments)
    assert ran == 5 * 3_600_000 + (len(fate.segments) - 1) * 600_000
    assert not fate.missed
