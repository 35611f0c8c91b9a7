"""What the running system decides about real jobs, the simulation decides of the same inputs."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deployment import Deploy, Deployment, python_type

from carbon_orchestrator.clock import from_fields, rfc3339
from carbon_orchestrator.config import GreenestConfig, PoolConfig
from carbon_orchestrator.events import POOLS, JobDispatched
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.simulation.agreement import Agreement, free, timed
from carbon_orchestrator.simulation.pools import Place
from carbon_orchestrator.simulation.recorded import Record, read
from carbon_orchestrator.topology import CODEC
from streams.connection import connect
from streams.event import Message
from streams.table import Table
from streams.testing import until

HOUR = 3_600_000
START = 1_577_836_800_000  # 2020-01-01
SPEED = 14_400  # an hour in a quarter of a second
JOBS, A_TYPE = 48, 4  # so few of a type teach nothing about its run times
SUBMITTED_OVER_H = 12
SLOTS = 6


def write_trace(path: Path, seed: int) -> None:
    """Five days of hours between 60 and 260 g/kWh, no two alike."""
    chance = random.Random(seed)
    with path.open("w") as file:
        print("time,carbon intensity", file=file)
        for hour in range(120):
            value = 160 + 70 * math.sin(hour / 24 * 2 * math.pi) + chance.uniform(-30, 30)
            print(f"{rfc3339(START + hour * HOUR)},{value:.3f}", file=file)


async def submitted(house: Deployment, seed: int) -> None:
    """Jobs of all urgencies, at times of the grid's clock."""
    chance = random.Random(seed)
    clock = from_fields(await house.redis.hgetall(house.topology.clock))
    times = sorted(chance.uniform(0.2, SUBMITTED_OVER_H) for _ in range(JOBS))
    begin = clock.now()
    for number, hours in enumerate(times):
        await until(lambda at=begin + hours * HOUR: clock.now() >= at)
        urgency = ("urgent", "normal", "flexible", "flexible")[number % 4]
        length_h = chance.uniform(0.5, 3)
        slack_h = {"urgent": 3.0, "normal": 4.0, "flexible": chance.uniform(8, 14)}[urgency]
        await house.post(
            f"work-{number // A_TYPE}",
            urgency=urgency,
            interruptible=urgency != "urgent",
            deadline=(1.5 * length_h + slack_h) * HOUR / 1000,
            expected_duration=length_h * HOUR / 1000 / SPEED,
            payload={"seconds": length_h * HOUR / 1000 / SPEED * chance.uniform(0.8, 1.0)},
        )


async def ran(deploy: Deploy, tmp_path: Path, seed: int, **changes: Any) -> Deployment:
    """A deployment on such a trace, and all jobs done."""
    trace = tmp_path / "trace.csv"
    write_trace(trace, seed)
    work = msgspec.structs.replace(python_type("quick", grace=5), python="lasting_handlers:lasts")
    house = deploy(
        types={f"work-{number}": work for number in range(-(-JOBS // A_TYPE))},
        pools={
            "fast": PoolConfig(slots=SLOTS),
            "eco": PoolConfig(slots=SLOTS, slowdown=1.5, energy=0.9),
        },
        greenest=GreenestConfig(resume_cost=0.005),
        **changes,
    )
    house.signal(f"csv:{trace}", speed=SPEED)
    await until(lambda: house.redis.exists(house.topology.clock))
    await house.all()
    routers = [part.role for part in house.parts if isinstance(part.role, Router)]
    grids = [grid for router in routers for grid in router.grids]
    await until(lambda: all(grid.latest is not None for grid in grids), timeout=10)
    await submitted(house, seed)
    await house.counted("completed", JOBS, timeout=30)
    await house.stop()
    return house


async def everything(house: Deployment) -> list[Message]:
    messages: list[Message] = []
    async with connect(house.url) as client:
        for stream in house.topology.streams:
            await Table(client, CODEC, stream, messages.append).load()
    return messages


def told(agreement: Agreement) -> str:
    """What is not the same, for the reader of a failure."""
    return "\n".join(
        f"{each.job_id} {each.number}:\n  {each.recorded}\n  {each.simulated}"
        for each in agreement.divergences
    )


def room(house: Deployment) -> dict[Place, int]:
    """The pools' slots."""
    return {(pool, house.config.zone): SLOTS for pool in POOLS}


async def compared(
    deploy: Deploy, tmp_path: Path, policy: str
) -> tuple[Deployment, Record, list[Message], Agreement]:
    """A run, its record, and the simulation of that."""
    house = await ran(deploy, tmp_path, random.randrange(1000), policy=policy)
    messages = await everything(house)
    clock = from_fields(await house.redis.hgetall(house.topology.clock))
    record = read(messages, clock, house.config)
    assert record.timing.sweeps
    assert bool(record.timing.pauses) == (policy == "greenest_slots")
    return house, record, messages, timed(record, house.config, room(house), SPEED)


@pytest.mark.parametrize("policy", ["threshold", "greenest_slots"])
async def test_every_decision_is_the_simulation_s(
    deploy: Deploy, tmp_path: Path, policy: str
) -> None:
    house, record, messages, agreement = await compared(deploy, tmp_path, policy)
    assert not agreement.divergences, told(agreement)
    assert (agreement.jobs, agreement.apart_ms) == (JOBS, 0)
    made = [each.kind for decisions in record.decisions.values() for each in decisions]
    assert agreement.decisions == agreement.equal == len(made)
    assert made.count("dispatch") >= JOBS
    assert made.count("defer") >= JOBS / 4
    # The same inputs without the router's own times: that it runs them all is what can be said.
    assert free(record, house.config, room(house), SPEED).jobs == JOBS
    # And the comparison would notice.
    (number, message), *_ = [
        (number, message)
        for number, message in enumerate(messages)
        if isinstance(message.event, JobDispatched)
    ]
    other = "eco" if message.event.decision.pool == "fast" else "fast"
    decision = msgspec.structs.replace(message.event.decision, pool=other)
    event = msgspec.structs.replace(message.event, decision=decision)
    messages[number] = msgspec.structs.replace(message, event=event)
    clock = from_fields(await house.redis.hgetall(house.topology.clock))
    record = read(messages, clock, house.config)
    agreement = timed(record, house.config, room(house), SPEED)
    assert [each.job_id for each in agreement.divergences] == [event.spec.job_id]
