"""Jobs through all four hops: jobs, router, worker, accounting; and from POST to start.

python -m benchmarks.pipeline [--jobs 60000] [--latency] [--peers dramatiq,...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import struct
import time
from pathlib import Path

import aiohttp
import uvloop

from benchmarks.deployment import Deployment
from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))


async def publish(committer: Committer, jobs: int, batched: bool = True) -> None:
    """Put so many no-op jobs on the stream."""
    event = envelope(JobSubmitted(type="noop", urgency="urgent"), "bench")
    for start in range(0, jobs, 500):
        count = min(500, jobs - start)
        await committer.commit([Transaction().emit(TOPOLOGY.jobs, event) for _ in range(count)])


async def completed(reading: Reading) -> int:
    """Jobs that the totals hold as completed."""
    rows = report(await reading.totals(None, None), ())
    return rows[0].sums["completed"] if rows else 0


async def throughput(jobs: int, *, together: bool = False) -> dict[str, float]:
    """Drain `jobs` that wait on the stream through router, worker and accounting: a process
    each, or `together` in one, as `up` runs them."""
    async with Deployment(slots=1000) as deployment:
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        reader = connect(deployment.server.url)
        reading = Reading(reader, TOPOLOGY)
        if together:
            data = str(deployment.directory / "up")
            deployment.start("up", "up", "--speed", "1", "--port", "8398", "--data", data)
        else:
            deployment.start("signal", "signal", "--speed", "1")
            for role in ("router", "accounting"):
                deployment.start(role, role)
            deployment.worker("fast", "fast")
        await publish(committer, 200)
        while await completed(reading) < 200:
            await asyncio.sleep(0.05)
        before = deployment.cpu_seconds()
        began = time.perf_counter()
        await publish(committer, jobs)
        published = time.perf_counter() - began
        while (done := await completed(reading)) < 200 + jobs:
            if time.perf_counter() - began > 120:
                raise SystemExit(f"only {done} of {jobs} in 120 s; see {deployment.log.name}")
            await asyncio.sleep(0.02)
        took = time.perf_counter() - began
        cpu = {
            f"cpu_us_{name}": (seconds - before[name]) / jobs * 1e6
            for name, seconds in deployment.cpu_seconds().items()
        }
        memory = (await reader.info("memory"))["used_memory"]
        await committer.aclose()
        await reader.aclose()
    return {"jobs_per_s": jobs / took, "published_s": published, "memory_mb": memory / 1e6, **cpu}


async def latency(rate: int, seconds: float) -> dict[str, float]:
    """From the POST being sent to the handler's first line, at a steady rate, ms."""
    async with Deployment(slots=1000) as deployment:
        stamps = deployment.directory / "latencies"
        stamps.touch()
        env = {"BENCH_LATENCIES": str(stamps)}
        deployment.start("signal", "signal", "--speed", "1")
        deployment.start("gateway", "gateway", "--port", "8399")
        deployment.start("router", "router")
        deployment.start("accounting", "accounting")
        deployment.worker("fast", "fast", env)
        deployment.worker("eco", "eco", env)
        url = "http://127.0.0.1:8399/jobs"
        async with aiohttp.ClientSession() as session:

            async def post() -> None:
                job = {"type": "stamped", "urgency": "urgent"}
                job["payload"] = {"sent": time.monotonic_ns()}  # type: ignore[assignment]
                async with session.post(url, json=job) as response:
                    assert response.status == 202, await response.text()

            for _ in range(200):
                try:
                    await post()
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
            count = 1
            while stamps.stat().st_size < 8:
                await asyncio.sleep(0.05)
            began = time.perf_counter()
            tasks = []
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0, began + number / rate - time.perf_counter()))
                tasks.append(asyncio.create_task(post()))
            await asyncio.gather(*tasks)
            count += len(tasks)
        deadline = time.perf_counter() + 20
        while stamps.stat().st_size < 8 * count and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
        data = stamps.read_bytes()
    values = sorted(ns / 1e6 for (ns,) in struct.iter_unpack("<q", data))[: count - 1]
    return {
        "p50_ms": statistics.median(values),
        "p99_ms": values[int(len(values) * 0.99)],
        "jobs": len(values),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=60_000)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--together", action="store_true", help="all roles in one process")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result: dict[str, dict[str, float]] = {
        "throughput": uvloop.run(throughput(arguments.jobs, together=arguments.together))
    }
    if arguments.latency:
        result["latency"] = uvloop.run(latency(200, 10))
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
