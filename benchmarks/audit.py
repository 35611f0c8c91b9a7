"""How long an audit of a real record takes, and how much memory.

    python -m benchmarks.audit [--events 1000000]

A deployment of processes runs no-op jobs of all urgencies over a simulated grid played fast, so
that the record holds real decisions; part of it is archived, the rest live. Then `audit verify`
goes over all of it, with the deployment at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from benchmarks.deployment import ROOT, Deployment
from benchmarks.pipeline import completed
from carbon_orchestrator.events import JobSubmitted, Urgency
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.history import ARCHIVED
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
#: Jobs published at once, and how many may be under way.
_BATCH, _MOST = 500, 20_000
_MIX: tuple[Urgency, ...] = ("urgent", "normal", "normal", "flexible", "flexible")
_SPEED = "1200"  # a step of half an hour of the simulated grid in 1.5 s
_CONFIG = """
default_types = false
drain = "5s"
[retention]
streams = "{retention}"
[pools.fast]
slots = 500
[pools.eco]
slots = 500
[types.noop]
python = "benchmarks.handlers:noop"
expected_duration = "10ms"
"""
_PATIENCE_SECONDS = 300.0


async def live(deployment: Deployment, events: int) -> None:
    """Run jobs until about so many events are on record, and all are done."""
    committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
    reader = connect(deployment.server.url)
    reading = Reading(reader, TOPOLOGY)
    chance = random.Random(0)
    published = 0
    # A job is submitted, dispatched, started, completed, burns, and is deferred now and then.
    jobs = events / 6
    began = time.monotonic()
    done = 0
    while done < published or published < jobs:
        done = await completed(reading)
        if published < jobs and published - done < _MOST:
            await _publish(committer, chance)
            published += _BATCH
        elif time.monotonic() - began > _PATIENCE_SECONDS:
            raise TimeoutError(f"{done} of {published} jobs are done")
        else:
            await asyncio.sleep(0.1)
    print(f"{published} jobs in {time.monotonic() - began:.0f} s", file=sys.stderr)
    await committer.aclose()
    await reader.aclose()


async def _publish(committer: Committer, chance: random.Random) -> None:
    by_lane: list[Transaction] = []
    for _ in range(_BATCH):
        urgency = chance.choice(_MIX)
        event = JobSubmitted(
            type="noop",
            urgency=urgency,
            payload=msgspec.Raw(b'{"rows":%d}' % chance.randrange(10_000)),
            deadline=f"{chance.randrange(1, 24)}h",
        )
        stream = TOPOLOGY.jobs_lane(urgency)
        by_lane.append(Transaction().emit(stream, envelope(event, "bench")))
    await committer.commit(by_lane)


def audited(deployment: Deployment, archive: Path, *more: str) -> dict[str, Any]:
    """What `audit verify` says, how long it took, and its processes' greatest memory."""
    command = [sys.executable, "-m", "carbon_orchestrator", "audit", "verify", "--json"]
    command += ["--redis", deployment.server.url, "--config", str(deployment.config)]
    command += ["--archive", str(archive), *more]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peaks: dict[int, int] = {}
    try:
        while process.poll() is None:
            _measure(process.pid, peaks)
            try:
                output, _ = process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    finally:
        process.kill()
    took = time.monotonic() - began
    found: dict[str, Any] = json.loads(output)
    return {
        "status": process.returncode,
        "seconds": round(took, 1),
        "peak_mb": [round(peak / 1e6) for peak in sorted(peaks.values(), reverse=True)],
        "events": found["tallies"]["histories"]["checked"],
        "checked": {kind: tally["checked"] for kind, tally in found["tallies"].items()},
        "diverging": found["diverging"],
        "unchecked": {k: t["unchecked"] for k, t in found["tallies"].items() if t["unchecked"]},
        "first": [each for tally in found["tallies"].values() for each in tally["first"][:2]],
    }


def _measure(pid: int, peaks: dict[int, int]) -> None:
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            peaks[each.pid] = max(peaks.get(each.pid, 0), each.memory_info().rss)
    except psutil.Error:
        pass


async def run(events: int) -> dict[str, Any]:
    """The measurement, on a deployment of its own."""
    config = _CONFIG.format(retention="20s")
    async with Deployment(config=config) as deployment:
        archive = deployment.directory / "archive"
        deployment.start("signal", "signal", "--signal", "simulated", "--speed", _SPEED)
        deployment.start("router", "router")
        deployment.start("accounting", "accounting", "--archive", str(archive))
        deployment.worker("fast", "fast")
        deployment.worker("eco", "eco")
        await live(deployment, events)
        await asyncio.sleep(8)  # what is left is sealed
        redis = connect(deployment.server.url)
        moved = await redis.hgetall(TOPOLOGY.partition.key(ARCHIVED))
        await redis.aclose()
        for name in ("signal", "router", "fast", "eco", "accounting"):
            deployment.processes.pop(name).terminate()
        result = audited(deployment, archive)
        result["archived_streams"] = len(moved)
        result["archive_mb"] = round(
            sum(each.stat().st_size for each in archive.rglob("*.gz")) / 1e6, 1
        )
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(json.dumps(uvloop.run(run(arguments.events)), indent=2))


if __name__ == "__main__":
    main()
