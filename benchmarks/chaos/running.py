"""One run, from an empty server to the findings."""

from __future__ import annotations

import asyncio
import sys
import time

from redis.asyncio import Redis

from benchmarks.chaos.audit import verify
from benchmarks.chaos.cluster import ClusterHouse
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.house import House
from benchmarks.chaos.load import Publishers
from benchmarks.chaos.plan import PUBLISHER, Plan
from benchmarks.chaos.report import Outcome, evidence
from benchmarks.chaos.strikes import schedule
from benchmarks.invariants import check, resting, together
from carbon_orchestrator.submission import partition_of
from carbon_orchestrator.topology import Topology
from streams.connection import connect
from streams.errors import is_transient

_LOOK_SECONDS = 0.25


async def run(plan: Plan) -> Outcome:
    """Publish and strike for the plan's time, wait for rest, look. The files of a run that was
    not sound are kept; where they are is told on stderr."""
    began = time.monotonic()
    house = House(plan) if plan.partitions == 1 else ClusterHouse(plan)
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
        found = []
        for each in plan.topologies:
            number = each.partition.number
            own = {one for one in publishers.accepted if partition_of(one) == number}
            async with connect(house.there, partition=number) as redis:
                found.append(await check(redis, each, own, house.archive))
        findings = together(found)
        audit = await verify(house.there, house.config, house.archive)
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
    for each in plan.topologies:
        async with connect(house.there, partition=each.partition.number) as redis:
            while not await _rests(redis, each):
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(_LOOK_SECONDS)
    return True


async def _rests(redis: Redis, topology: Topology) -> bool:
    try:
        return await resting(redis, topology)
    except Exception as error:  # the server may have been killed a moment ago
        if not is_transient(error):
            raise
        return False
