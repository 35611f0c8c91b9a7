"""Real jobs through the running system, and the simulation of the same inputs, job by job.

    python -m benchmarks.live --data ../shared/data [--policy greenest_slots] [--jobs 200]
        [--speed 1800] [--seed 0] [--slots 16] [--carbon lwa_ger_ci.csv]

Starts `carbon-orchestrator up` on a trace played faster, submits jobs of all urgencies over a day
and a half of grid time, waits until all have run, reads the streams, and simulates what they say
went in (carbon_orchestrator/simulation/recorded.py). Compared are all decisions about every job:
kind, zone, pool, moment, planned and latest start, and the sentence of the reason.

The `timed` simulation takes from the record when the router looked at its jobs and when runs began
and ended; what is decided at each look, and whether anything is, it finds by itself. In the `free`
one nothing takes time but running, and the runs it gives each job are compared: what differs there
is due to the latencies of this machine at this speed, and is not judged. With --slots 200 jobs do
not compete for room, and there is little.

Lengths are stated at submission and no type is run often enough to be learned: what the router
has learned when is not on record. The status is 1 if any decision differs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.deployment import ROOT
from carbon_orchestrator.clock import GridClock, from_fields, rfc3339
from carbon_orchestrator.config import Config, PolicyName, load
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.simulation.agreement import Agreement, Divergence, free, timed
from carbon_orchestrator.simulation.recorded import Made, NotComparable, Record, read
from carbon_orchestrator.topology import CODEC, Topology
from carbon_orchestrator.worker.guardian import Guardian
from streams.connection import connect
from streams.event import Message
from streams.keys import Partition
from streams.table import Table as StreamTable

HOUR_S = 3600.0
SUBMITTED_OVER_H = 36.0
RUNS_A_TYPE = 4  # one less than what run times are learned from
RESUME_S = 0.02
SLOWDOWN = 1.5
POLICIES: tuple[PolicyName, ...] = ("threshold", "greenest_window", "greenest_slots")

CONFIG = """
policy = "{policy}"
default_types = false
margin = "300ms"
lease = "2s"
[greenest]
resume_cost = "{resume}s"
[pools.fast]
slots = {slots}
[pools.eco]
slots = {slots}
slowdown = {slowdown}
energy = 0.9
"""


class Wanted(NamedTuple):
    """A job to submit, so many seconds of wall time after the first."""

    after: float
    body: dict[str, Any]


def wanted(count: int, speed: float, seed: int) -> list[Wanted]:
    """20 % urgent, 40 % normal, 40 % flexible; half of the latter two may be suspended."""
    chance = random.Random(seed)
    jobs = []
    for number in range(count):
        urgency = chance.choices(("urgent", "normal", "flexible"), (1, 2, 2))[0]
        slack_h = {"urgent": 2, "normal": chance.uniform(4, 8), "flexible": chance.uniform(10, 24)}
        interruptible = urgency != "urgent" and chance.random() < 0.5
        # Only long jobs are worth a pause.
        length_h = min(max(chance.lognormvariate(interruptible, 0.7), 0.25), 5.0)
        seconds = length_h * HOUR_S / speed
        body = {
            "type": f"work-{number // RUNS_A_TYPE}",
            "urgency": urgency,
            "interruptible": interruptible,
            "deadline": (slack_h[urgency] + SLOWDOWN * length_h) * HOUR_S,
            "expected_duration": seconds,
            # Who states a length states the longest.
            "payload": {
                "seconds": seconds * chance.uniform(0.75, 1.0),
                "slowdown": SLOWDOWN,
                "resume": RESUME_S,
            },
        }
        jobs.append(Wanted(chance.uniform(0, SUBMITTED_OVER_H * HOUR_S / speed), body))
    return sorted(jobs, key=lambda each: each.after)


def start(directory: Path, carbon: Path, speed: float) -> subprocess.Popen[bytes]:
    """`up` as a process of its own."""
    command = [sys.executable, "-m", "carbon_orchestrator", "up", "--port", "0"]
    command += ["--redis-port", "0", "--data", str(directory / "data")]
    command += ["--config", str(directory / "config.toml")]
    command += ["--signal", f"csv:{carbon}", "--speed", str(speed)]
    with (directory / "up.log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


@asynccontextmanager
async def running(directory: Path, carbon: Path, speed: float) -> AsyncIterator[tuple[str, str]]:
    """A deployment, ended with the block: the addresses of its gateway and of its streams."""
    guardian = Guardian()
    guardian.start()
    process = start(directory, carbon, speed)
    guardian.watch(process.pid)
    try:
        assert process.stdout is not None
        text = ""
        while "try " not in text:
            line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
            if not line:
                raise SystemExit((directory / "up.log").read_text())
            text += line.decode()
        gateway, streams = re.findall(r"(http://\S+)  \(|streams +(\S+)", text)
        yield gateway[0], streams[1]
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)
        guardian.forget(process.pid)
        guardian.close()


async def submit(url: str, jobs: list[Wanted], console: Console) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with aiohttp.ClientSession(url) as session:
        with console.status("submitting") as status:
            for number, job in enumerate(jobs):
                status.update(f"{number} of {len(jobs)} jobs submitted")
                await asyncio.sleep(began + job.after - loop.time())
                async with session.post("/jobs", json=job.body) as response:
                    if response.status != 202:
                        raise SystemExit(f"not accepted: {await response.text()}")


async def finished(
    streams: str, topology: Topology, count: int, patience: float, console: Console
) -> tuple[list[Message], GridClock]:
    """Wait until all jobs have ended and been accounted for; all that the streams hold."""
    async with connect(streams) as client:
        async with asyncio.timeout(patience):
            with console.status("waiting for the jobs to run") as status:
                ended = 0
                while ended < count:
                    await asyncio.sleep(0.2)
                    ended = 0
                    for state in ("completed", "failed", "cancelled", "rejected"):
                        ended += await client.zcard(topology.index(state))
                    status.update(f"{ended} of {count} jobs have ended")
        messages: list[Message] = []
        for stream in topology.streams:
            await StreamTable(client, CODEC, stream, messages.append).load()
        return messages, from_fields(await client.hgetall(topology.clock))


async def run(arguments: argparse.Namespace, console: Console) -> tuple[Record, Config, float]:
    directory = Path(tempfile.mkdtemp(prefix="live-"))
    jobs = wanted(arguments.jobs, arguments.speed, arguments.seed)
    text = CONFIG.format(
        policy=arguments.policy, resume=RESUME_S, slots=arguments.slots, slowdown=SLOWDOWN
    )
    for name in dict.fromkeys(job.body["type"] for job in jobs):
        text += f'[types.{name}]\npython = "benchmarks.handlers:stretch"\n'
    path = directory / "config.toml"
    path.write_text(text)
    config = load(path)
    topology = Topology(Partition(config.namespace), config.site_pools)
    carbon = (arguments.data / arguments.carbon).absolute()
    async with running(directory, carbon, arguments.speed) as (gateway, streams):
        await submit(gateway, jobs, console)
        # The longest deadline from the last submission on, and half of it for good measure.
        patience = 1.5 * 32 * HOUR_S / arguments.speed + 30
        messages, clock = await finished(streams, topology, len(jobs), patience, console)
    console.print(f"the log is {directory / 'up.log'}", style="dim", highlight=False)
    return read(messages, clock, config), config, clock.speed


def show(
    policy: str, record: Record, agreed: dict[str, Agreement], speed: float, console: Console
) -> None:
    headings = ("policy", "simulation", "jobs", "the same", "decisions", "equal")
    table = Table(*headings, "starts apart by up to", "deadlines missed", box=None)
    for name, each in agreed.items():
        same = each.jobs - len(each.divergences)
        figures = (each.jobs, same, each.decisions, each.equal)
        apart = f"{each.apart_ms / 1000:.1f} s ({each.apart_ms / speed:.0f} ms wall)"
        table.add_row(policy, name, *map(str, figures), apart, str(len(record.missed)))
    console.print(table)
    kinds = [(made.kind, made.pool) for each in record.decisions.values() for made in each]
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    console.print(", ".join(f"{count} {kind} {pool}" for (kind, pool), count in counts.items()))


def explain(divergence: Divergence, console: Console) -> None:
    console.print(f"\njob {divergence.job_id}, decision {divergence.number + 1}", highlight=False)
    for name, made in (("recorded", divergence.recorded), ("simulated", divergence.simulated)):
        console.print(f"  {name:10}{'nothing more' if made is None else line(made)}")


def line(made: Made) -> str:
    where = f"{made.pool}@{made.zone}" if made.zone else made.pool
    start = f" for {rfc3339(made.start)}" if made.start != made.at else ""
    latest = "" if made.latest_start is None else f", latest {rfc3339(made.latest_start)}"
    return f"{rfc3339(made.at)} {made.kind} {where}{start}{latest}: {made.reason}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the traces")
    parser.add_argument("--carbon", default="lwa_ger_ci.csv", help="a trace in that folder")
    parser.add_argument("--policy", choices=POLICIES, default="greenest_slots")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--speed", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slots", type=int, default=16, help="of each pool")
    parser.add_argument("--free", action="store_true", help="name what the free one does otherwise")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    try:
        record, config, speed = asyncio.run(run(arguments, console))
    except NotComparable as error:
        sys.exit(str(error))
    slots = {(pool, config.zone): arguments.slots for pool in POOLS}
    agreed = {
        "timed": timed(record, config, slots, speed),
        "free": free(record, config, slots, speed),
    }
    show(arguments.policy, record, agreed, speed, console)
    for divergence in agreed["timed"].divergences:
        explain(divergence, console)
    if arguments.free:
        for divergence in agreed["free"].divergences:
            explain(divergence, console)
    sys.exit(1 if agreed["timed"].divergences else 0)


if __name__ == "__main__":
    main()
