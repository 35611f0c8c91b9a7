"""Four partitions on a cluster of three nodes, one of which dies while jobs flow."""

from __future__ import annotations

import random

import pytest

from benchmarks.chaos.plan import Plan
from benchmarks.chaos.running import run
from benchmarks.chaos.strikes import schedule


@pytest.mark.timeout(180)
async def test_nothing_is_lost_and_nothing_counted_twice_when_a_node_fails_over() -> None:
    plan = _plan()
    while all(strike.kind != "failover" for strike in schedule(plan)):
        plan = _plan()  # in so short a run one seed in fifty has no time for any
    outcome = await run(plan)
    assert outcome.sound, outcome.report()
    assert outcome.findings.counts["jobs"] > 100
    assert outcome.strikes["failover"] >= 1


def _plan() -> Plan:
    return Plan(
        seed=random.randrange(1 << 31),  # pytest-randomly prints the seed of this one
        seconds=9.0,
        rate=40.0,
        faults=("kill", "failover"),
        between=(0.4, 0.8),
        speed=7200.0,
        patience=90.0,
        partitions=4,
    )
