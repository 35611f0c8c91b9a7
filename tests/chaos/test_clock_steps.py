"""A role whose machine's clock is an hour off, or is set while it runs, judges by the server's."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from benchmarks.chaos.house import House
from benchmarks.chaos.plan import TOPOLOGY, Plan
from carbon_orchestrator.clock import parse_time, wall_ms
from streams.connection import connect
from streams.testing import until

HOUR = 3600.0
NEAR_MS = 5000


@pytest.mark.timeout(60)
async def test_a_gateway_with_a_stepping_clock_tells_the_right_time() -> None:
    house = House(Plan(seed=1, faults=("clock",), durability="server", fsync="no"))
    async with house, aiohttp.ClientSession(f"http://127.0.0.1:{house.http}") as session:
        house.start("signal", "signal", "--speed", "1")
        house.step("gateway", HOUR)
        house.start("gateway", "gateway", "--port", str(house.http))

        async def submitted_at() -> int:
            async with session.post("/jobs", json={"type": "noop"}) as response:
                body: Any = await response.json()
                assert response.status == 202, body
                return parse_time(body["submitted_at"])

        async def serves() -> bool:
            try:
                async with session.get("/livez") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(serves, 30)
        for step in (HOUR, -HOUR, 0.0, 7.0):
            house.step("gateway", step)
            assert abs(await submitted_at() - wall_ms()) < NEAR_MS, step
        async with connect(house.server.url) as redis:
            assert await redis.xlen(TOPOLOGY.jobs) == 4
    house.remove()
