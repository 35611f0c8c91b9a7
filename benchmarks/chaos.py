"""Jobs flow while processes die: roles by kill -9, workers asleep past their lease, the server.

    python -m benchmarks.chaos [--jobs 20000] [--fsync always] [--runs 5] [--seed N]

Everything is a process of its own: signal, gateway, two routers, two FAST workers, one ECO
worker, two accounting roles, on a server with an append-only file. The publishers are this
process: over HTTP with idempotency keys, and straight to the streams. When all has come to
rest, `invariants` must hold; with `--fsync always` no accepted job may be lost either.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop

from benchmarks.deployment import Deployment
from benchmarks.invariants import Findings, check, resting
from carbon_orchestrator.events import JobSubmitted, Urgency
from carbon_orchestrator.submission import derived_job_id, new_job_id
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import free_port
from streams.errors import is_transient
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
LEASE_SECONDS = 3.0
_PATIENCE_SECONDS = 60.0  # of a client that posts again until it is answered
CONFIG = f"""
default_types = false
drain = "2s"
lease = "{LEASE_SECONDS:g}s"
retry_delay = "300ms"
[threshold]
mode = "absolute"
low = 100
high = 200
[urgency.normal]
deadline = "4h"
[urgency.flexible]
deadline = "10h"
[pools.fast]
slots = 50
[pools.eco]
slots = 50
[types.noop]
python = "benchmarks.handlers:noop"
expected_duration = "10ms"
[types.nap]
python = "benchmarks.handlers:nap"
expected_duration = "200ms"
[types.flaky]
python = "benchmarks.handlers:flaky"
expected_duration = "10ms"
max_attempts = 3
[types.true]
command = ["true"]
expected_duration = "100ms"
[types.doze]  # outlives the lease
command = ["sleep", "4"]
expected_duration = "4s"
"""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Times are seconds; `speed` is that of the grid clock."""

    seed: int
    jobs: int = 20_000
    rate: float = 250.0  # jobs published per second, while the publishers get through
    pause: tuple[float, float] = (1.0, 2.0)  # between two kills
    server_kills: int = 3
    speed: float = 1800.0
    fsync: str = "everysec"
    program: str | None = None
    patience: float = 300.0  # from the last job published until all rests


class Outcome(msgspec.Struct):
    plan: Plan
    findings: Findings
    strikes: dict[str, int]  # what was done to whom, how often
    seconds: float
    rested: bool
    exits: list[str]  # roles that ended although nobody ended them

    @property
    def sound(self) -> bool:
        lost = self.findings.lost if self.plan.fsync == "always" else []
        return self.rested and not (self.findings.wrong or self.exits or lost)

    def report(self) -> dict[str, Any]:
        """For people and for machines: numbers, then what is wrong."""
        counts = self.findings.counts
        wrong = [*self.findings.wrong, *self.exits]
        if not self.rested:
            wrong.append(f"not at rest {self.plan.patience:g} s after the last job")
        return {
            "seed": self.plan.seed,
            "fsync": self.plan.fsync,
            "seconds": round(self.seconds, 1),
            **counts,
            "lost": len(self.findings.lost),
            "strikes": self.strikes,
            "wrong": wrong,
        }


def trace(path: Path, days: int) -> None:
    """An hourly trace that passes through all bands twice a day, 40 to 260 gCO2e/kWh."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    lines = ["time,carbon intensity"]
    for hour in range(days * 24):
        value = 150 + 110 * math.sin(hour / 12 * math.tau)
        lines.append(f"{(start + timedelta(hours=hour)).isoformat()},{value:.1f}")
    path.write_text("\n".join(lines) + "\n")


def job(chance: random.Random) -> JobSubmitted:
    """A job of random urgency and fate."""
    urgency: Urgency = chance.choices(("urgent", "normal", "flexible"), (2, 5, 3))[0]
    kind = chance.choices(("noop", "nap", "flaky", "true", "doze"), (60, 20, 15, 4, 1))[0]
    payload: dict[str, Any] = {}
    if kind == "nap":
        payload["seconds"] = round(chance.uniform(0.01, 0.4), 3)
    elif kind == "flaky":
        payload["failures"] = chance.choices((1, 2, 3), (6, 3, 1))[0]
    return JobSubmitted(
        type=kind, urgency=urgency, payload=msgspec.Raw(msgspec.json.encode(payload))
    )


class Publishers:
    """Half of the jobs go over HTTP, half straight to the streams; `accepted` is what was
    answered for."""

    def __init__(self, plan: Plan, chance: random.Random, url: str, port: int) -> None:
        self.plan = plan
        self.accepted: set[str] = set()
        self.published = 0
        self._chance = chance
        self._url = f"http://127.0.0.1:{port}/jobs"
        self._committer = Committer(connect(url), TOPOLOGY.partition)
        self._began = 0.0

    async def run(self) -> None:
        self._began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stream(self.plan.jobs // 2))
            over_http = iter(range(self.plan.jobs - self.plan.jobs // 2))
            for _ in range(16):
                tasks.create_task(self._http(session, over_http))
        await self._committer.aclose()

    async def _pace(self, count: int) -> None:
        """Wait until as many more may be published."""
        self.published += count
        ahead = self.published / self.plan.rate - (time.monotonic() - self._began)
        await asyncio.sleep(max(0.0, ahead))

    async def _stream(self, jobs: int) -> None:
        while jobs > 0:
            count = min(jobs, self._chance.randint(1, 60))
            jobs -= count
            await self._pace(count)
            ids, transactions = [], []
            for _ in range(count):
                event = msgspec.structs.replace(job(self._chance), job_id=new_job_id(0))
                lane = TOPOLOGY.jobs_lane(event.urgency)
                transactions.append(Transaction().emit(lane, envelope(event, "chaos")))
                ids.append(event.job_id)
            taken = await self._committer.commit(transactions)
            self.accepted |= {str(each) for each, held in zip(ids, taken, strict=True) if held}

    async def _http(self, session: aiohttp.ClientSession, numbers: Any) -> None:
        for number in numbers:
            await self._pace(1)
            key = f"chaos-{self.plan.seed}-{number}"
            body = msgspec.json.encode(job(self._chance))
            posts = [self._post(session, key, body)]
            if self._chance.random() < 0.05:  # an impatient client
                posts.append(self._post(session, key, body))
            for job_id in await asyncio.gather(*posts):
                if job_id != derived_job_id(0, "key", key):
                    raise AssertionError(f"key {key} was answered with job {job_id}")
                self.accepted.add(job_id)
            if self._chance.random() < 0.02:
                await self._cancel(session, job_id)

    async def _post(self, session: aiohttp.ClientSession, key: str, body: bytes) -> str:
        """Post until it is answered for: what every client with a key may do."""
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        answer = "none"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                async with session.post(self._url, data=body, headers=headers) as response:
                    if response.status in (200, 202):
                        return str((await response.json())["id"])
                    answer = f"{response.status}: {await response.text()}"
                    if response.status < 500:
                        break
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                answer = repr(error)
            await asyncio.sleep(0.1)
        raise AssertionError(f"key {key} was not accepted; the last answer was {answer}")

    async def _cancel(self, session: aiohttp.ClientSession, job_id: str) -> None:
        """Once: whether it comes through, and in time, is as it happens."""
        try:
            async with session.delete(f"{self._url}/{job_id}"):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass


class Destroyer:
    """Kills and pauses, as its seed has it, until it is cancelled."""

    def __init__(self, plan: Plan, chance: random.Random, deployment: Deployment) -> None:
        self.plan = plan
        self.strikes: Counter[str] = Counter()
        self.exits: list[str] = []
        self._chance = chance
        self._deployment = deployment
        self._paused: dict[str, asyncio.Task[None]] = {}

    async def run(self, progress: Callable[[], float]) -> None:
        """`progress`: the share of the jobs published, by which the server's turns come."""
        server_kills = 0
        try:
            while True:
                await asyncio.sleep(self._chance.uniform(*self.plan.pause))
                self.look_after()
                if progress() > (server_kills + 1) / (self.plan.server_kills + 1):
                    server_kills += 1
                    self.strikes["kill server"] += 1
                    await self._deployment.restart_server()
                    continue
                name = self._chance.choice(sorted(self._deployment.processes))
                if name.startswith(("worker", "router", "account")) and self._chance.random() < 0.3:
                    self._pause(name)
                else:
                    self._kill(name)
        finally:
            for name in list(self._paused):
                self._resume(name)

    def look_after(self) -> None:
        """No role may end by itself; if one does, that is noted, and it is started again."""
        for name, process in list(self._deployment.processes.items()):
            if (status := process.poll()) is not None:
                self.exits.append(f"{name} ended by itself with status {status}")
                self._deployment.respawn(name)

    def _kill(self, name: str) -> None:
        if (paused := self._paused.pop(name, None)) is not None:
            paused.cancel()
        self.strikes[f"kill {name}"] += 1
        self._deployment.kill(name)
        self._deployment.respawn(name)

    def _pause(self, name: str) -> None:
        """Past its lease: others take its work over, and then it wakes up in the midst of it."""
        if name in self._paused:
            return
        self.strikes[f"pause {name}"] += 1
        self._deployment.processes[name].send_signal(signal.SIGSTOP)

        async def wake() -> None:
            await asyncio.sleep(LEASE_SECONDS * self._chance.uniform(1.1, 1.8))
            self._resume(name)

        self._paused[name] = asyncio.create_task(wake())

    def _resume(self, name: str) -> None:
        task = self._paused.pop(name)
        if task is not asyncio.current_task():
            task.cancel()
        self._deployment.processes[name].send_signal(signal.SIGCONT)


async def run(plan: Plan) -> Outcome:
    """One run, from an empty server to the findings. Its files stay if it was not sound."""
    began = time.monotonic()
    chance = random.Random(plan.seed)
    deployment = Deployment(fsync=plan.fsync, config=CONFIG, program=plan.program)
    async with deployment:
        csv, port = deployment.directory / "trace.csv", free_port()
        trace(csv, 2 + math.ceil((plan.jobs / plan.rate + plan.patience) * plan.speed / 86_400))
        speed = f"{plan.speed:g}"
        deployment.start("signal", "signal", "--signal", f"csv:{csv}", "--speed", speed)
        deployment.start("gateway", "gateway", "--port", str(port))
        for name in ("router-1", "router-2", "accounting-1", "accounting-2"):
            deployment.start(name, name.partition("-")[0])
        for name, pool in (("worker-1", "fast"), ("worker-2", "fast"), ("worker-3", "eco")):
            deployment.worker(name, pool)
        publishers = Publishers(plan, chance, deployment.server.url, port)
        destroyer = Destroyer(plan, chance, deployment)
        destroying = asyncio.create_task(destroyer.run(lambda: publishers.published / plan.jobs))
        publishing = asyncio.create_task(publishers.run())
        await asyncio.wait((destroying, publishing), return_when=asyncio.FIRST_COMPLETED)
        if destroying.done():
            publishing.cancel()
            destroying.result()
        await publishing
        destroying.cancel()
        await asyncio.wait((destroying,))
        redis = connect(deployment.server.url)
        deadline = time.monotonic() + plan.patience
        rested = False
        while not rested and time.monotonic() < deadline:
            destroyer.look_after()
            try:
                rested = await resting(redis, TOPOLOGY)
            except Exception as error:  # the server may have been killed a moment ago
                if not is_transient(error):
                    raise
            await asyncio.sleep(0.2)
        findings = await check(redis, TOPOLOGY, publishers.accepted)
        await redis.aclose()
    outcome = Outcome(
        plan,
        findings,
        dict(sorted(destroyer.strikes.items())),
        time.monotonic() - began,
        rested,
        destroyer.exits,
    )
    if outcome.sound:
        deployment.remove()
    else:
        print(f"files: {deployment.directory}", file=sys.stderr)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=250.0, help="jobs published per second")
    parser.add_argument("--seconds-between", default="1-2", help="kills, such as 1-2")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--fsync", choices=("everysec", "always"), default="everysec")
    parser.add_argument("--runs", type=int, default=1, help="seeds follow each other")
    parser.add_argument("--server", help="another server program than the bundled one")
    arguments = parser.parse_args()
    shortest, _, longest = arguments.seconds_between.partition("-")
    sound = True
    for number in range(arguments.runs):
        plan = Plan(
            seed=arguments.seed + number,
            jobs=arguments.jobs,
            rate=arguments.rate,
            pause=(float(shortest), float(longest or shortest)),
            fsync=arguments.fsync,
            program=arguments.server,
        )
        print(f"seed {plan.seed}", flush=True)
        outcome = uvloop.run(run(plan))
        print(json.dumps(outcome.report(), indent=1), flush=True)
        sound = sound and outcome.sound
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
