"""Roles and the server are killed while jobs flow; `python -m benchmarks.chaos` at full size."""

from __future__ import annotations

import random

import pytest

from benchmarks.chaos import Plan, run


@pytest.mark.timeout(120)
async def test_nothing_is_lost_and_nothing_counted_twice_whoever_dies() -> None:
    plan = Plan(
        seed=random.randrange(1 << 31),  # pytest-randomly prints the seed of this one
        jobs=400,
        rate=80.0,
        pause=(0.5, 0.9),
        server_kills=1,
        speed=7200.0,
        fsync="always",
        patience=60.0,
    )
    outcome = await run(plan)
    assert outcome.sound, outcome.report()
    assert outcome.findings.counts["jobs"] == plan.jobs
    assert outcome.strikes["kill server"] == plan.server_kills
