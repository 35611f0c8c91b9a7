"""A million jobs wait: what they cost in memory, how soon an urgent job starts all the same, how
fast they are listed, how long the router takes to look at all of them.

python -m benchmarks.backlog [--jobs 1000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from redis.asyncio import Redis

from benchmarks.deployment import Deployment
from benchmarks.memory import HIGH, publish, until, used
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import free_port
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
JOB_LIMIT_BYTES = 1500.0
START_LIMIT_SECONDS = 1.0
PAGE_LIMIT_SECONDS = 0.5
_URGENT = 20
_PAGES = 20
_CONFIG = f"""{HIGH}
[limits]
max_waiting = 3000000
[pools.fast]
slots = 8
[pools.eco]
slots = 8
"""


class Backlog:
    """A deployment with so many deferred jobs, and what is asked of it."""

    def __init__(self, redis: Redis, committer: Committer, session: aiohttp.ClientSession) -> None:
        self.redis: Any = redis
        self.committer = committer
        self.session = session

    async def serves(self) -> bool:
        try:
            async with self.session.get("/livez") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def deferred(self, count: int) -> bool:
        return int(await self.redis.zcard(TOPOLOGY.index("deferred"))) >= count

    async def urgent(self, count: int) -> list[float]:
        """Seconds from posting an urgent job until a worker has started it, one after another."""
        found = []
        for _ in range(count):
            began = time.perf_counter()
            job = {"type": "noop", "urgency": "urgent"}
            async with self.session.post("/jobs", json=job) as answer:
                answer.raise_for_status()
                key = TOPOLOGY.record((await answer.json())["id"])
            while not await self.redis.hexists(key, "1.started"):
                await asyncio.sleep(0.001)
            found.append(time.perf_counter() - began)
        return found

    async def page(self, **query: Any) -> tuple[float, dict[str, Any]]:
        """Seconds that one GET /jobs takes, and its body."""
        began = time.perf_counter()
        async with self.session.get("/jobs", params=query) as answer:
            answer.raise_for_status()
            body: dict[str, Any] = await answer.json()
        return time.perf_counter() - began, body

    async def listing(self) -> dict[str, float]:
        """Seconds a page: the first, later ones, and of one state."""
        first, body = await self.page(limit=50)
        later = []
        for _ in range(_PAGES):
            seconds, body = await self.page(limit=500, cursor=body["next"])
            later.append(seconds)
        deep, _ = await self.page(limit=50, cursor=body["next"])
        by_state, _ = await self.page(limit=50, state="deferred")
        few, _ = await self.page(limit=50, state="completed")
        return {
            "first_page_s": first,
            "page_of_500_s": statistics.median(later),
            "page_after_10000_s": deep,
            "deferred_s": by_state,
            "completed_s": few,
        }

    async def sweep(self) -> tuple[float, list[float]]:
        """Seconds from an intensity event until the router has looked at all jobs, and what
        urgent jobs took that came meanwhile."""
        reviewed = int(await self.redis.xlen(TOPOLOGY.reviews))
        event = IntensityObserved(
            zone="local",
            time=wall_ms(),
            intensity=300.0,
            source="simulated",
            resolution_ms=1_800_000,
        )
        began = time.perf_counter()
        emit = Transaction().emit(TOPOLOGY.intensity, envelope(event, "bench"))
        await self.committer.apply(emit)
        meanwhile: list[float] = []
        while int(await self.redis.xlen(TOPOLOGY.reviews)) == reviewed:
            meanwhile += await self.urgent(1)
            if time.perf_counter() - began > 1200:
                raise SystemExit("the router has not looked at all jobs within 1200 s")
        return time.perf_counter() - began, meanwhile


async def measure(jobs: int) -> dict[str, Any]:
    port = free_port()
    async with Deployment(config=_CONFIG) as deployment:
        redis = connect(deployment.server.url)
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        deployment.start("signal", "signal", "--speed", "1")

        async def known() -> bool:
            return int(await redis.xlen(TOPOLOGY.intensity)) > 0

        await until(known, 60, "the grid is known")  # else all would run at once
        deployment.start("gateway", "gateway", "--port", str(port))
        deployment.start("router", "router")
        deployment.worker("eco", "eco")  # where urgent jobs run while the grid is dirty
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:
            backlog = Backlog(redis, committer, session)
            await until(backlog.serves, 60, "the gateway serves")
            await publish(committer, 500, "flexible")
            await until(lambda: backlog.deferred(500), 60, "the first jobs are deferred")
            empty = await backlog.urgent(_URGENT)
            before = await used(redis)
            began = time.perf_counter()
            await publish(committer, jobs, "flexible")
            await until(lambda: backlog.deferred(500 + jobs), 3600, "all jobs are deferred")
            filled = time.perf_counter() - began
            per_job = (await used(redis) - before) / jobs
            full = await backlog.urgent(_URGENT)
            listing = await backlog.listing()
            swept, meanwhile = await backlog.sweep()
        router = deployment.memory()["router"]
        await committer.aclose()
        await redis.aclose()
    deployment.remove()
    return {
        "jobs": jobs,
        "bytes_per_job": round(per_job),
        "deferred_per_s": round(jobs / filled),
        "urgent_start_ms": {
            "nothing waits": _spread(empty),
            "all wait": _spread(full),
            "while all are looked at": _spread(meanwhile),
        },
        "listing_ms": {name: round(value * 1000, 1) for name, value in listing.items()},
        "sweep_s": round(swept, 1),
        "sweep_us_per_job": round(swept / jobs * 1e6),
        "router_mb": round(router / 1e6),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(seconds) * 1000, 1),
        "most": round(max(seconds) * 1000, 1),
        "of": len(seconds),
    }


def sound(result: dict[str, Any]) -> bool:
    """Whether all is within the limits."""
    starts = result["urgent_start_ms"].values()
    return bool(
        result["bytes_per_job"] <= JOB_LIMIT_BYTES
        and max(each["most"] for each in starts) <= START_LIMIT_SECONDS * 1000
        and max(result["listing_ms"].values()) <= PAGE_LIMIT_SECONDS * 1000
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = uvloop.run(measure(arguments.jobs))
    print(json.dumps(result, indent=1))
    print(
        f"limits: {JOB_LIMIT_BYTES:g} B a job, an urgent job started in {START_LIMIT_SECONDS:g} s,"
        f" a page in {PAGE_LIMIT_SECONDS:g} s: {'ok' if sound(result) else 'NOT OK'}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result))
    raise SystemExit(0 if sound(result) else 1)


if __name__ == "__main__":
    main()
