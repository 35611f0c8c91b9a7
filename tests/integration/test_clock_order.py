"""Whoever starts first: no role tells the time of jobs by another clock than the deployment's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from carbon_orchestrator.clock import WALL, GridClock
from carbon_orchestrator.config import Config, complete
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.provider import SignalError
from carbon_orchestrator.signal.publishing import SignalRole

NewRuntime = Callable[[], Runtime]


@pytest.fixture
async def new_runtime(server_url: str) -> AsyncIterator[NewRuntime]:
    config = complete(Config(namespace=f"t{uuid.uuid4().hex[:8]}"))
    made: list[Runtime] = []

    def new() -> Runtime:
        made.append(Runtime(server_url, config))
        return made[-1]

    yield new
    for runtime in made:
        await runtime.aclose()


async def test_a_role_that_starts_first_waits_for_the_signal_to_set_the_clock(
    new_runtime: NewRuntime,
) -> None:
    early = new_runtime()
    assert await early.ready()
    waiting = asyncio.create_task(early.clock_set())
    signal = new_runtime()
    clock = await SignalRole(signal, "simulated", speed=600).establish_clock()
    async with asyncio.timeout(5):
        await waiting
    assert early.clock == clock
    assert clock.speed == 600


async def test_without_a_signal_it_goes_by_wall_time_and_says_so_to_all(
    new_runtime: NewRuntime,
) -> None:
    early, later = new_runtime(), new_runtime()
    for runtime in (early, later):
        async with asyncio.timeout(5):
            await runtime.clock_set(0.05)
        assert runtime.clock == GridClock(signal=WALL)


async def test_a_signal_of_another_time_is_refused_while_jobs_wait_by_wall_time(
    new_runtime: NewRuntime,
) -> None:
    runtime = new_runtime()
    await runtime.clock_set(0.0)
    index = runtime.topology.index("deferred")
    client = runtime.connect()
    await client.zadd(index, {"somebody": 1})
    with pytest.raises(SignalError, match="1 jobs wait by the clock"):
        await SignalRole(new_runtime(), "simulated", speed=600).establish_clock()
    live = await SignalRole(new_runtime(), "simulated", speed=1).establish_clock()
    assert live.speed == 1  # the same time: nobody's deadline is touched
    await client.delete(index)
