"""Small grids and jobs for simulation tests: hours from NOW on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carbon_orchestrator.config import (
    Config,
    GreenestConfig,
    PolicyName,
    PoolConfig,
    complete,
)
from carbon_orchestrator.events import Spec, Urgency
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.simulation import forecasts
from carbon_orchestrator.simulation.engine import Setup, simulate
from carbon_orchestrator.simulation.fate import Fate
from carbon_orchestrator.simulation.grid import TraceGrid
from carbon_orchestrator.simulation.traces import Trace
from carbon_orchestrator.simulation.workload import Job

HOUR = 3_600_000
NOW = 1_577_880_000_000
FAST_ONLY = {"local": ("fast",)}


def data() -> Path:
    """Where the research data lies: CARBON_TEST_DATA, or beside the checkout."""
    beside = Path(__file__).parents[4] / "shared" / "data"
    path = Path(os.environ.get("CARBON_TEST_DATA", beside))
    if not (path / "lwa_jobs.csv").is_file():
        pytest.skip(f"no research data in {path}; name its folder in CARBON_TEST_DATA")
    return path


def trace(hours: Sequence[float]) -> Trace:
    return Trace(NOW, HOUR, np.array(hours, dtype=np.float64))


def job(
    at: float = 0,
    hours: float = 1,
    within: float | None = None,
    *,
    number: int = 0,
    known: bool = True,
    urgency: Urgency = "flexible",
    kind: str = "job",
    interruptible: bool = False,
    max_wait: float | None = None,
) -> Job:
    """A job of 1 kW, submitted so many hours from NOW, to be done within so many."""
    start, length = NOW + round(at * HOUR), round(hours * HOUR)
    spec = Spec(
        job_id=str(number),
        type=kind,
        urgency=urgency,
        submitted_at=start,
        deadline=None if within is None else start + round(within * HOUR),
        expected_duration=length / 1000 if known else None,
        interruptible=interruptible,
    )
    wait = None if max_wait is None else round(max_wait * HOUR)
    return Job(spec, length, length * 1000, wait)


def config(
    policy: PolicyName,
    *,
    min_saving: float = 0.0,
    resume: float = 0.0,
    slowdown: float = 1.0,
    energy: float = 1.0,
    margin: float = 0.0,
) -> Config:
    return complete(
        Config(
            policy=policy,
            margin=margin,
            greenest=GreenestConfig(min_saving=min_saving, resume_cost=resume),
            pools={
                "fast": PoolConfig(slots=1),
                "eco": PoolConfig(slots=1, slowdown=slowdown, energy=energy),
            },
        )
    )


def run(
    jobs: Sequence[Job],
    hours: Trace,
    settings: Config,
    expected: forecasts.Forecasts | None = None,
    **setup: Any,
) -> list[Fate]:
    """By default on FAST only, with a perfect forecast."""
    forecast = expected or forecasts.perfect(hours, len(hours.values))
    points = settings.policy in ("threshold", "run_now")
    grid = TraceGrid(hours, forecast, Bands.of(settings.threshold), points=points)
    return simulate(jobs, [grid], Setup(config=settings, **{"pools": FAST_ONLY, **setup}))


def spans(fate: Fate) -> list[tuple[float, float]]:
    """Hours from NOW of its segments."""
    return [((part.start - NOW) / HOUR, (part.end - NOW) / HOUR) for part in fate.segments]
