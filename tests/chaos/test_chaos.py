"""Roles and the server are killed while jobs flow; `python -m benchmarks.chaos` at full size."""

from __future__ import annotations

import random

import pytest

from benchmarks.chaos.plan import Plan
from benchmarks.chaos.running import run


@pytest.mark.timeout(120)
async def test_nothing_is_lost_and_nothing_counted_twice_whoever_dies() -> None:
    plan = Plan(
        seed=random.randrange(1 << 31),  # pytest-randomly prints the seed of this one
        seconds=5.0,
        rate=60.0,
        faults=("kill", "kill-server"),
        between=(0.5, 0.9),
        speed=7200.0,
        durability="server",
        patience=60.0,
    )
    outcome = await run(plan)
    assert outcome.sound, outcome.report()
    assert outcome.findings.counts["jobs"] > 100
    assert outcome.strikes["kill-server"] >= 1
