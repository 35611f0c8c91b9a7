"""What waiting costs: memory of the idle roles and of a waiting job, and time per queued job.

python -m benchmarks.memory [--full] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import uvloop
from redis.asyncio import Redis

from benchmarks.deployment import ROOT, Deployment
from carbon_orchestrator.events import JobSubmitted, Urgency
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import free_port
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
ROLES_LIMIT_MB = 130.0
JOB_LIMIT_BYTES = 1500.0
_PAYLOAD = msgspec.Raw(b'{"rows":1000}')
_SAMPLE = 5_000  # jobs over which the cost per job is measured, the best of so many times
_SAMPLES = 5
#: A configuration in which jobs wait, as every intensity is high; tables may follow it.
HIGH = """
default_types = false
[threshold]  # every intensity is high
mode = "absolute"
low = 1
high = 2
[types.noop]
python = "benchmarks.handlers:noop"
expected_duration = "10ms"
"""


async def publish(committer: Committer, jobs: int, urgency: Urgency) -> None:
    event = envelope(JobSubmitted(type="noop", urgency=urgency, payload=_PAYLOAD), "bench")
    lane = TOPOLOGY.jobs_lane(urgency)
    for start in range(0, jobs, 500):
        count = min(500, jobs - start)
        await committer.commit([Transaction().emit(lane, event) for _ in range(count)])


async def until(true: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.02)


async def idle_roles(settle: float = 8.0) -> dict[str, float]:
    """Resident memory of `up`, idle, in MB: its process and children, the server apart."""
    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    port = free_port()
    command = [sys.executable, "-m", "carbon_orchestrator", "up", "--data", str(directory)]
    command += ["--port", str(port), "--redis-port", str(free_port())]
    process = subprocess.Popen(  # noqa: ASYNC220 - waited for below
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def healthy() -> bool:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/health") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await until(healthy, 60, "up is ready")
        await asyncio.sleep(settle)
        parent = psutil.Process(process.pid)
        sizes = {"server": 0, "roles": 0}
        for each in (parent, *parent.children(recursive=True)):
            server = "valkey" in each.name() or "redis" in each.name()
            sizes["server" if server else "roles"] += each.memory_info().rss
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)
        shutil.rmtree(directory, ignore_errors=True)
    return {f"{name}_mb": round(size / 1e6, 1) for name, size in sizes.items()}


async def used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def waiting_job(jobs: int) -> dict[str, float]:
    """Memory of the server per deferred job, bytes: all that it keeps about it, the events
    on the streams that led there included."""
    async with Deployment(config=HIGH) as deployment:
        redis = connect(deployment.server.url)
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        deployment.start("signal", "signal", "--speed", "1")

        async def known() -> bool:
            return int(await redis.xlen(TOPOLOGY.intensity)) > 0

        await until(known, 30, "the grid is known")
        deployment.start("router", "router")

        async def deferred(count: int) -> bool:
            return int(await redis.zcard(TOPOLOGY.index("deferred"))) >= count

        await publish(committer, 500, "flexible")
        await until(lambda: deferred(500), 30, "the first jobs are deferred")
        before = await used(redis)
        await publish(committer, jobs, "flexible")
        await until(lambda: deferred(500 + jobs), 300, "all jobs are deferred")
        after = await used(redis)
        shares: dict[str, float] = {}
        for stream in (TOPOLOGY.jobs, TOPOLOGY.deferrals, TOPOLOGY.index("deferred")):
            size: Any = await redis.memory_usage(stream, samples=0)
            shares[f"of which {TOPOLOGY.partition.name(stream)}"] = round(size / jobs)
        await committer.aclose()
        await redis.aclose()
        deployment.remove()
    return {"jobs": jobs, "bytes_per_job": round((after - before) / jobs), **shares}


async def cost_per_job(levels: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Time per job through the router, with so many queued for workers before it, µs."""
    costs: dict[str, dict[str, float]] = {}
    async with Deployment() as deployment:
        redis = connect(deployment.server.url)
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        deployment.start("signal", "signal", "--speed", "1")
        deployment.start("router", "router")
        stream = TOPOLOGY.dispatch("fast")

        async def queued(count: int) -> bool:
            return int(await redis.xlen(stream)) >= count

        done = 0
        for level in levels:
            await publish(committer, level - done, "normal")
            await until(lambda level=level: queued(level), 600, f"{level} queued")  # type: ignore[misc]
            samples: list[dict[str, float]] = []
            for done in range(level + _SAMPLE, level + _SAMPLES * _SAMPLE + 1, _SAMPLE):
                before = deployment.cpu_seconds()
                began = time.perf_counter()
                await publish(committer, _SAMPLE, "normal")
                await until(lambda done=done: queued(done), 120, "the sample is queued")  # type: ignore[misc]
                wall = time.perf_counter() - began
                cpu = deployment.cpu_seconds()
                samples.append(
                    {
                        "wall_us": round(wall / _SAMPLE * 1e6),
                        "router_cpu_us": round((cpu["router"] - before["router"]) / _SAMPLE * 1e6),
                        "server_cpu_us": round((cpu["server"] - before["server"]) / _SAMPLE * 1e6),
                    }
                )
            # The machine may be shared: the least disturbed sample tells most.
            costs[str(level)] = min(samples, key=lambda each: each["wall_us"])
        await committer.aclose()
        await redis.aclose()
        deployment.remove()
    return costs


async def measure(full: bool) -> dict[str, Any]:
    levels = (1_000, 100_000, 1_000_000) if full else (1_000, 100_000)
    return {
        "idle": await idle_roles(),
        "waiting": await waiting_job(100_000),
        "cost": await cost_per_job(levels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="up to 1,000,000 queued jobs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = uvloop.run(measure(arguments.full))
    print(json.dumps(result, indent=1))
    roles, job = result["idle"]["roles_mb"], result["waiting"]["bytes_per_job"]
    print(f"idle roles           {roles:8} MB   limit {ROLES_LIMIT_MB:g}")
    print(f"waiting job          {job:8} B    limit {JOB_LIMIT_BYTES:g}")
    for level, cost in result["cost"].items():
        cpu = cost["router_cpu_us"] + cost["server_cpu_us"]
        print(f"{int(level):>10,} queued    {cpu:8} µs of CPU a job, {cost['wall_us']} µs of time")
    if arguments.json:
        arguments.json.write_text(json.dumps(result))
    raise SystemExit(0 if roles <= ROLES_LIMIT_MB and job <= JOB_LIMIT_BYTES else 1)


if __name__ == "__main__":
    main()
