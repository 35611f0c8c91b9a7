"""How long work stands still when a worker dies, and when the server is restarted under load.

python -m benchmarks.recovery [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from redis.asyncio import Redis

from benchmarks.deployment import Deployment
from benchmarks.invariants import check, resting
from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.submission import new_job_id
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.errors import is_transient
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
LEASE_SECONDS = 15.0  # the default
_POLL_SECONDS = 0.05
_JOBS = 10
_RATE = 200


async def _until(true: Callable[[], Awaitable[bool]], seconds: float, what: str) -> float:
    """Wait until it is so, the server's absence included; returns the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if await true():
                return time.monotonic() - began
        except Exception as error:
            if not is_transient(error):
                raise
        await asyncio.sleep(_POLL_SECONDS)
    raise SystemExit(f"not within {seconds:g} s: {what}")


def _submission(job_type: str) -> tuple[str, Transaction]:
    job_id = new_job_id(0)
    event = JobSubmitted(type=job_type, urgency="urgent", job_id=job_id)
    return job_id, Transaction().emit(TOPOLOGY.jobs_urgent, envelope(event, "recovery"))


async def _rest(redis: Redis, accepted: set[str]) -> dict[str, Any]:
    """Wait for the end of all jobs; what was then found."""
    await _until(lambda: resting(redis, TOPOLOGY), 90, "all jobs ended")
    findings = await check(redis, TOPOLOGY, accepted)
    return {"lost": len(findings.lost), "wrong": findings.wrong}


async def worker_death() -> dict[str, Any]:
    """kill -9 of a worker with 10 jobs running: seconds until all run again elsewhere."""
    async with Deployment(slots=_JOBS) as deployment:
        redis = connect(deployment.server.url)
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        deployment.start("signal", "signal", "--speed", "1")
        deployment.start("router", "router")
        deployment.start("accounting", "accounting")
        deployment.worker("doomed", "fast")
        jobs = dict(_submission("sleep") for _ in range(_JOBS))
        await committer.commit(list(jobs.values()))

        async def started(attempt: int) -> bool:
            async with redis.pipeline(transaction=False) as pipeline:
                for job_id in jobs:
                    pipeline.hexists(TOPOLOGY.record(job_id), f"{attempt}.started")
                return all(await pipeline.execute())

        await _until(lambda: started(1), 60, "ten jobs run")
        deployment.worker("heir", "fast")

        async def two_workers() -> bool:
            rows = await redis.xinfo_consumers(TOPOLOGY.dispatch("fast"), "worker")
            return len(rows) == 2

        await _until(two_workers, 30, "a second worker")
        deployment.kill("doomed")
        seconds = await _until(lambda: started(2), 60, "ten jobs run again")
        found = await _rest(redis, set(jobs))
        completed = report(await Reading(redis, TOPOLOGY).totals(None, None), ())[0].sums
        await committer.aclose()
        await redis.aclose()
    deployment.remove()
    return {
        "run_again_s": round(seconds, 2),
        "limit_s": LEASE_SECONDS + 2,
        "completed": completed["completed"],
        "attempts_counted": completed["attempts"],
        **found,
    }


async def server_restart(outage: float) -> dict[str, Any]:
    """The server killed under 200 jobs/s and started again after `outage` seconds: seconds
    from its being back until a job is completed again."""
    async with Deployment(slots=50) as deployment:
        redis = connect(deployment.server.url)
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        for name, *arguments in (
            ("signal", "--speed", "1"),
            ("router",),
            ("accounting",),
            ("gateway", "--port", "0"),
        ):
            deployment.start(name, name, *arguments)
        deployment.worker("fast", "fast")
        accepted: set[str] = set()
        publishing = True

        async def publish() -> None:
            began, count = time.monotonic(), 0
            while publishing:
                jobs = dict(_submission("noop") for _ in range(_RATE // 20))
                await committer.commit(list(jobs.values()))
                accepted.update(jobs)
                count += len(jobs)
                await asyncio.sleep(max(0.0, began + count / _RATE - time.monotonic()))

        async def completed() -> int:
            return int(await redis.zcard(TOPOLOGY.index("completed")))

        async def flows() -> bool:
            return await completed() > before

        publisher = asyncio.create_task(publish())
        before = 3 * _RATE
        await _until(flows, 60, "a steady flow")
        deployment.server.kill()
        await asyncio.sleep(outage)
        await deployment.server.start()
        await redis.aclose()  # its connection died with the server
        before = await completed()
        seconds = await _until(flows, 60, "flow after the restart")
        before += 3 * _RATE
        await _until(flows, 60, "a steady flow after the restart")
        publishing = False
        await publisher
        found = await _rest(redis, accepted)
        exits = [name for name, each in deployment.processes.items() if each.poll() is not None]
        await committer.aclose()
        await redis.aclose()
    deployment.remove()
    return {
        "outage_s": outage,
        "flow_resumed_s": round(seconds, 2),
        "limit_s": 5.0,
        "jobs": len(accepted),
        "roles_exited": exits,
        **found,
    }


async def measure() -> dict[str, Any]:
    return {
        "worker killed": await worker_death(),
        "server restarted": await server_restart(0.0),
        "server away for 8 s": await server_restart(8.0),
    }


def sound(result: dict[str, Any]) -> bool:
    seconds = result.get("run_again_s", result.get("flow_resumed_s"))
    quick = bool(seconds <= result["limit_s"])
    return quick and not (result["lost"] or result["wrong"] or result.get("roles_exited"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = uvloop.run(measure())
    print(json.dumps(results, indent=1))
    print(f"{'what':24}{'seconds':>9}{'limit':>8}{'lost':>6}  verdict")
    for what, result in results.items():
        seconds = result.get("run_again_s", result.get("flow_resumed_s"))
        verdict = "ok" if sound(result) else "NOT OK"
        print(f"{what:24}{seconds:9}{result['limit_s']:8}{result['lost']:6}  {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results))
    raise SystemExit(0 if all(map(sound, results.values())) else 1)


if __name__ == "__main__":
    main()
