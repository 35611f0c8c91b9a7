"""Who is not asked at an event would have had no other fate."""

from __future__ import annotations

from typing import Any

import numpy as np
from depth import depth
from hypothesis import given, settings
from hypothesis import strategies as st
from small_grids import config, job, run, trace

from carbon_orchestrator.config import PolicyName
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.forecasts import Made

HOURS = 60
levels = st.integers(min_value=1, max_value=12).map(lambda level: 50.0 * level)
quarters = st.integers(min_value=1, max_value=20).map(lambda count: count / 4)
#: Some on the raster, some off it by a little.
instants = st.integers(min_value=0, max_value=80).map(lambda count: count * 0.31)
POLICIES: tuple[PolicyName, ...] = ("threshold", "greenest_window", "greenest_slots")


@st.composite
def jobs(draw: st.DrawFn) -> list[Any]:
    drawn = []
    for _ in range(draw(st.integers(min_value=1, max_value=5))):
        hours, slack = draw(quarters), draw(st.integers(0, 40)) / 4
        off = draw(st.sampled_from((0.0, 0.01, 0.37)))
        wait: dict[str, float] = {"within": hours + off + slack}
        if draw(st.booleans()):
            wait = {"max_wait": slack}
        drawn.append(
            job(
                draw(instants) if draw(st.booleans()) else draw(st.integers(0, 20)),
                hours + off,
                urgency=draw(st.sampled_from(("normal", "flexible"))),
                interruptible=draw(st.booleans()),
                **wait,
            )
        )
    drawn.sort(key=lambda each: each.spec.submitted_at)
    return drawn


def fate(of: Fate) -> tuple[Any, ...]:
    return of.number, of.segments, of.finished


@settings(max_examples=depth(50, 150))
@given(
    hours=st.lists(levels, min_size=HOURS, max_size=HOURS),
    noise=st.integers(0, 10_000),
    error=st.sampled_from((0.0, 40.0)),
    submitted=jobs(),
    policy=st.sampled_from(POLICIES),
    min_saving=st.sampled_from((0.0, 0.01)),
    resume=st.sampled_from((0.0, 120.0)),
    eco=st.sampled_from(((1.0, 1.0), (1.5, 0.8))),
    margin=st.sampled_from((0.0, 1.0)),
)
def test_asking_few_is_as_good_as_asking_all(
    hours: list[float],
    noise: int,
    error: float,
    submitted: list[Any],
    policy: PolicyName,
    min_saving: float,
    resume: float,
    eco: tuple[float, float],
    margin: float,
) -> None:
    """Also where the forecast is another one at every step."""
    real = trace(hours)
    random = np.random.default_rng(noise)
    ahead = np.full((HOURS, 30), 300.0, dtype=np.float32)
    for step in range(HOURS):
        known = real.values[step + 1 : step + 31]
        ahead[step, : len(known)] = known
    # Few levels make many ties.
    ahead += np.round(random.normal(0, 1, ahead.shape)) * error
    forecast = Made(0, np.maximum(ahead, 0))
    chosen = config(
        policy, min_saving=min_saving, resume=resume, slowdown=eco[0], energy=eco[1], margin=margin
    )
    pools = {"local": ("fast", "eco")}
    few = run(submitted, real, chosen, forecast, pools=pools)
    every = run(submitted, real, chosen, forecast, pools=pools, ask_always=True)
    assert [fate(each) for each in few] == [fate(each) for each in every]
    assert sum(len(each.decisions) for each in few) <= sum(len(each.decisions) for each in every)
