"""One run, from an empty server to the findings."""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks.chaos.audit import verify
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.house import House
from benchmarks.chaos.load import Publishers
from benchmarks.chaos.plan import PUBLISHER, TOPOLOGY, Plan
from benchmarks.chaos.report import Outcome, evidence
from benchmarks.chaos.strikes import schedule
from benchmarks.invariants import check, resting
from streams.connection import connect
from streams.errors import is_transient

_LOOK_SECONDS = 0.25


async def run(plan: Plan) -> Outcome:
    """Publish and strike for the plan's time, wait for rest, look. The files of a run that was
    not sound are kept; where they are is told on stderr."""
    began = time.monotonic()
    house = House(plan)
    async with house:
        house.start_roles()
        publishers = Publishers(plan, house.url(PUBLISHER), house.http)
        faults = Faults(house)
        watching = asyncio.create_task(_look_after(house))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publishers.run())
                tasks.create_task(_strike(plan, faults))
            rested = await _rest(house, plan)
        finally:
            watching.cancel()
        await asyncio.wait((watching,))
        async with connect(house.server.url) as redis:
            findings = await check(redis, TOPOLOGY, publishers.accepted, house.archive)
        audit = await verify(house.server.url, house.config, house.archive)
    outcome = Outcome(
        plan,
        findings,
        dict(sorted(faults.made.items())),
        dict(sorted(faults.skipped.items())),
        evidence(house.directory / "roles.log", house.network.cuts),
        time.monotonic() - began,
        rested,
        house.exits,
        audit,
        archived=len(list(house.archive.rglob("*.jsonl.gz"))),
    )
    if outcome.sound:
        house.remove()
    else:
        print(f"files: {house.directory}", file=sys.stderr)
    return outcome


async def _strike(plan: Plan, faults: Faults) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as under_way:
        for strike in schedule(plan):
            await asyncio.sleep(max(0.0, began + strike.at - time.monotonic()))
            under_way.create_task(faults.carry_out(strike))


async def _look_after(house: House) -> None:
    while True:
        house.look_after()
        await asyncio.sleep(_LOOK_SECONDS)


async def _rest(house: House, plan: Plan) -> bool:
    """Wait until nothing is under way; False if that takes longer than the plan's patience."""
    deadline = time.monotonic() + plan.patience
    async with connect(house.server.url) as redis:
        while time.monotonic() < deadline:
            try:
                if await resting(redis, TOPOLOGY):
                    return True
            except Exception as error:  # the server may have been killed a moment ago
                if not is_transient(error):
                    raise
            await asyncio.sleep(_LOOK_SECONDS)
    return False
