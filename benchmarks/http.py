"""The gateway under load by wrk: submits one by one and in bulk, and what is asked of jobs.

    python -m benchmarks.http [--seconds 6] [--jobs 1000000] [--only hello,single] [--json FILE]

Each part has a bundled server of its own, its append-only file on (everysec), and one gateway
process. Submits one by one take turns with a bare aiohttp application that says hello, and with
FastAPI and redis-py (which validates a job and does one XADD): compare within one run.
Needs wrk; makes the environment of FastAPI when it is not there yet. Takes under 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from benchmarks.deployment import ROOT, Deployment
from benchmarks.peers import FASTAPI
from benchmarks.peers.install import install
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.topology import Topology
from streams.connection import connect
from streams.embedded import free_port
from streams.keys import Partition
from streams.testing import until

CONNECTIONS = 64
TURNS, ROUNDS = ("hello", "fastapi", "single"), 3
BULK_LINES, BULK_CONNECTIONS = 1000, 4
LIST_CONNECTIONS = 8
EXTRA = "[limits]\nmax_waiting = 1000000000\n"
LOAD = Path(__file__).with_name("http_load.lua")
TOPOLOGY = Topology(Partition("carbon", 0))
JOB = {
    "type": "noop",
    "urgency": "flexible",
    "payload": {"rows": 100000, "model": "gradient-boosting", "source": "metering/2026"},
    "deadline": "6h",
    "project": "forecasts",
    "labels": {"team": "grid"},
}
#: Makes ARGV[1] deferred jobs like the one whose record is KEYS[1], submitted a ms apart.
MULTIPLY = """
local record = redis.call('HGETALL', KEYS[1])
local first = tonumber(ARGV[2])
for i = first, first + tonumber(ARGV[1]) - 1 do
  local id = string.format('%026d-0', i)
  redis.call('HSET', ARGV[3] .. id, unpack(record))
  redis.call('ZADD', KEYS[2], tonumber(ARGV[4]) + i, id)
end
"""

Figures = dict[str, float]


def ask(url: str, body: Any = None) -> Any:
    """The JSON that a request is answered by; waits for the server to be there."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                raw = answer.read()
                return json.loads(raw) if "json" in answer.headers["Content-Type"] else raw
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _mean(some: Sequence[Figures]) -> Figures:
    return {name: statistics.mean(each[name] for each in some) for name in some[0]}


def _cpu_seconds(pids: Sequence[int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)


class Load:
    """Runs wrk, on one thread, for so many seconds."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self._directory = directory
        self._seconds = seconds
        self.turn = seconds / ROUNDS

    def run(
        self,
        port: int,
        method: str,
        paths: Sequence[str],
        *,
        body: bytes | None = None,
        media_type: str = "application/json",
        pids: Sequence[int],
        connections: int = CONNECTIONS,
        seconds: float | None = None,
    ) -> Figures:
        """Requests a second, their latencies, and what CPU time a request takes of the processes
        (`cpu_us`, which tells more on a busy machine). RuntimeError where any went wrong."""
        file = "-"
        if body is not None:
            file = str(self._directory / "body")
            Path(file).write_bytes(body)
        described = self._directory / "requests"
        described.write_text("\n".join([method, media_type, file, *paths]) + "\n")
        figures: Figures = {}
        for length in (1.0, seconds or self._seconds):
            before = _cpu_seconds(pids)
            command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(length))}s"]
            command += ["--timeout", "20s"]
            command += ["-s", str(LOAD), f"http://127.0.0.1:{port}", "--", str(described)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            figures = json.loads(done.stdout.splitlines()[-1])
            if figures["errors"]:
                raise RuntimeError(f"{paths[0]}: {figures['errors']:.0f} requests went wrong")
        figures["cpu_us"] = (_cpu_seconds(pids) - before) / figures["requests"] * 1e6
        figures["per_s"] = figures["requests"] / figures["seconds"]
        return figures


class Run:
    """The parts, by name."""

    def __init__(self, load: Load, jobs: int) -> None:
        self._load = load
        self._jobs = jobs

    async def in_turns(self, names: Sequence[str]) -> dict[str, Figures]:
        """Those of `TURNS`, one after the other and again: the machine's speed changes by the
        minute, so that only what was measured side by side can be compared."""
        measured: dict[str, list[Figures]] = {name: [] for name in names}
        async with AsyncExitStack() as stack:
            under_load = {
                name: await stack.enter_async_context(self._served(name)) for name in names
            }
            for _ in range(ROUNDS):
                for name, load in under_load.items():
                    measured[name].append(load())
        return {name: _mean(some) for name, some in measured.items()}

    @asynccontextmanager
    async def _served(self, name: str) -> AsyncIterator[Callable[[], Figures]]:
        """What puts a server, one of `TURNS`, under load."""
        port, body = free_port(), json.dumps(JOB).encode()
        running = partial(self._load.run, seconds=self._load.turn)
        submitting = partial(running, method="POST", paths=["/jobs"], body=body)
        async with AsyncExitStack() as stack:
            if name == "single":
                deployment = await stack.enter_async_context(Deployment(extra=EXTRA))
                port = _gateway(deployment)
                yield partial(submitting, port, pids=_pids(deployment))
                return
            variables = {}
            if name == "hello":
                command = [sys.executable, "-m", "benchmarks.hello", str(port)]
                path = "/"
            else:
                deployment = await stack.enter_async_context(Deployment())
                program, *rest = FASTAPI.worker.split()
                command = [FASTAPI.binary(program), *rest, "--port", str(port)]
                variables, path = {"BENCH_REDIS": deployment.server.url}, "/openapi.json"
            process = _process(command, **variables)
            stack.callback(_end, process)
            ask(f"http://127.0.0.1:{port}{path}")
            if name == "hello":
                yield partial(running, port, method="GET", paths=["/"], pids=[process.pid])
            else:
                yield partial(submitting, port, pids=[process.pid])

    async def bulk(self) -> Figures:
        lines = [{**JOB, "payload": {**JOB["payload"], "rows": n}} for n in range(BULK_LINES)]  # type: ignore[dict-item]
        body = b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
        async with Deployment(extra=EXTRA) as deployment:
            port = _gateway(deployment)
            figures = self._load.run(
                port,
                "POST",
                ["/jobs"],
                body=body,
                media_type="application/x-ndjson",
                pids=_pids(deployment),
                connections=BULK_CONNECTIONS,
            )
        figures["per_s"] *= BULK_LINES
        figures["cpu_us"] /= BULK_LINES
        return figures

    async def show(self) -> Figures:
        async with Deployment(extra=EXTRA) as deployment:
            port = _gateway(deployment)
            url = f"http://127.0.0.1:{port}/jobs"
            ids = [ask(url, JOB)["id"] for _ in range(500)]
            return self._load.run(
                port, "GET", [f"/jobs/{each}" for each in ids], pids=_pids(deployment)
            )

    async def list(self) -> Figures:
        async with Deployment(extra=EXTRA) as deployment:
            port = _gateway(deployment)
            url = f"http://127.0.0.1:{port}/jobs"
            await _million(deployment, ask(url, JOB)["id"], self._jobs)
            pages = ["/jobs?state=deferred"]
            for _ in range(20):
                cursor = ask(f"http://127.0.0.1:{port}{pages[-1]}")["next"]
                pages.append(f"/jobs?state=deferred&cursor={cursor}")
            pids = _pids(deployment)
            return self._load.run(port, "GET", pages, connections=LIST_CONNECTIONS, pids=pids)


async def _million(deployment: Deployment, job_id: str, jobs: int) -> None:
    """So many deferred jobs on record, all like this one."""
    async with connect(deployment.server.url) as redis:
        record = TOPOLOGY.record(job_id)
        now = wall_ms()
        plan = {
            "at": now,
            "start": now + 3_600_000,
            "latest_start": now + 7_200_000,
            "pool": "eco",
            "reason": "a lower intensity is expected",
        }
        await redis.hset(record, mapping={"state": "deferred", "plan": json.dumps(plan)})  # type: ignore[misc]
        for first in range(0, jobs, 20_000):
            index, prefix = TOPOLOGY.index("deferred"), TOPOLOGY.record("")
            count = min(20_000, jobs - first)
            await redis.eval(MULTIPLY, 2, record, index, count, first, prefix, now)  # type: ignore[misc]
        # So much at once makes the server write its file anew, on the core that is to be measured.
        await until(lambda: _at_rest(redis), 120)


async def _at_rest(redis: Any) -> bool:
    told = await redis.info("persistence")
    return not (told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"])


def _gateway(deployment: Deployment) -> int:
    """A gateway that serves; its port."""
    port = free_port()
    deployment.start("gateway", "gateway", "--port", str(port))
    ask(f"http://127.0.0.1:{port}/readyz")
    return port


def _pids(deployment: Deployment) -> list[int]:
    return [deployment.processes["gateway"].pid]


def _process(command: list[str], **variables: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def table(measured: dict[str, Figures]) -> str:
    """The figures, with what they ought to be."""
    hello = measured.get("hello", {}).get("per_s", float("nan"))
    peer = measured.get("fastapi", {}).get("per_s", float("nan"))
    rows = [
        "| | per s | p50 ms | p99 ms | CPU µs each | is | ought to be |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, title: str, said: str = "", target: str = "") -> None:
        if name in measured:
            f = measured[name]
            rows.append(
                f"| {title} | {f['per_s']:,.0f} | {f['p50_ms']:.1f} | {f['p99_ms']:.1f} "
                f"| {f['cpu_us']:,.1f} | {said} | {target} |"
            )

    single = measured.get("single", {}).get("per_s", float("nan"))
    row("hello", "aiohttp alone, hello")
    row("fastapi", "FastAPI and redis-py, submit")
    row(
        "single",
        f"submit, {CONNECTIONS} connections",
        f"{single / hello:.2f} of hello, {single / peer:.1f} × FastAPI",
        "0.6 of hello, 3 × FastAPI, p99 15 ms",
    )
    row("bulk", f"jobs in bulk, {BULK_LINES} a request", "", "100,000 per s")
    row("show", "GET /jobs/{id}", "", "5,000 per s")
    row("list", "GET /jobs?state=deferred", f"{LIST_CONNECTIONS} connections", "p99 50 ms")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6, help="of load")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="on record, for the list")
    parser.add_argument("--only", default="hello,fastapi,single,bulk,show,list")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("there is no wrk; install it (apt-get install wrk)")
    parts = [each for each in arguments.only.split(",") if each]
    if "fastapi" in parts and (why := install(FASTAPI)) is not None:
        parser.error(f"FastAPI could not be installed: {why}")
    measured: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as directory:
        run = Run(Load(Path(directory), arguments.seconds), arguments.jobs)
        turns = [part for part in parts if part in TURNS]
        if turns:
            measured |= uvloop.run(run.in_turns(turns))
        for part in parts:
            if part not in TURNS:
                measured[part] = uvloop.run(getattr(run, part)())
            print(f"{part}: {measured[part]}", file=sys.stderr, flush=True)
    print(table(measured))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
