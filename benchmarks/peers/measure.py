"""Throughput and latency of other job queues, on the machine and the server we are measured on.

    python -m benchmarks.peers.measure --redis redis://127.0.0.1:PORT [--peers dramatiq,saq]
        [--jobs 20000] [--latency] [--rate 200] [--seconds 10] [--json FILE]

The server's database must be empty; it is emptied again after each measurement. Every figure is
of ONE worker process started for it, by the peer's own command, with jobs that do nothing but
note the time. Peers that are not installed (`python -m benchmarks.peers.install`) are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.peers import PEERS, ROOT, Peer
from benchmarks.peers.install import installed
from benchmarks.peers.server import ServerError, call, description
from benchmarks.peers.slots import VARIABLE, create

START_TIMEOUT = 60.0
SUBMIT_TIMEOUT = 180.0
DRAIN_TIMEOUT = 240.0
WARM_UP = 200
LEAD = 1.0


class MeasurementError(Exception):
    """A peer could not be measured; says why."""


class Bench:
    """One peer on an empty database, with slots for so many jobs."""

    def __init__(self, peer: Peer, redis_url: str, jobs: int, directory: Path) -> None:
        self.peer = peer
        self.jobs = jobs
        self.directory = directory
        self.slots = create(directory / "slots", jobs)
        self.environment = {
            **os.environ,
            "BENCH_REDIS": redis_url,
            "RQ_REDIS_URL": redis_url,
            VARIABLE: str(directory / "slots"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            **dict(peer.variables),
        }

    def submit(self, first: int, count: int, rate: float = 0.0) -> None:
        """Send jobs in a process of their own and wait until it has ended."""
        command = [self.peer.binary("python"), "-m", "benchmarks.peers.submit"]
        command += [self.peer.module, str(first), str(count), str(rate)]
        with self._process("client", command) as process:
            try:
                status = process.wait(SUBMIT_TIMEOUT + (count / rate if rate else 0.0))
            except subprocess.TimeoutExpired:
                raise MeasurementError(f"jobs were not sent in time{self._log('client')}") from None
        if status:
            raise MeasurementError(f"the client failed{self._log('client')}")

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """The peer's own worker command, one process."""
        name, *arguments = self.peer.worker.split()
        with self._process("worker", [self.peer.binary(name), *arguments]) as process:
            yield process

    def wait(self, worker: subprocess.Popen[bytes], first: int, count: int, limit: float) -> None:
        """Until these jobs are handled; raises MeasurementError if the worker ends or stalls."""
        # Looked at from the end on, so that each job is looked at about once.
        waiting = list(range(first, first + count))
        deadline = time.monotonic() + limit
        while waiting:
            while waiting and self.slots[2 * waiting[-1] + 1]:
                waiting.pop()
            if not waiting:
                return
            handled = f"{count - sum(not self.slots[2 * n + 1] for n in waiting)} of {count} jobs"
            if worker.poll() is not None:
                raise MeasurementError(f"the worker ended after {handled}{self._log('worker')}")
            if time.monotonic() > deadline:
                raise MeasurementError(f"{handled} in {limit:.0f} s{self._log('worker')}")
            time.sleep(0.05)

    @contextmanager
    def _process(self, name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            # The whole group, of the session made above: some workers have children.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _log(self, name: str) -> str:
        text = (self.directory / f"{name}.log").read_text(errors="replace").strip()
        return f": {text[-800:]}" if text else ""


@contextmanager
def bench(name: str, redis_url: str, jobs: int) -> Iterator[Bench]:
    """An empty database before, and after it; raises MeasurementError if it is in use."""
    peer = PEERS[name]
    if not installed(peer):
        raise MeasurementError("not installed; run python -m benchmarks.peers.install")
    if call(redis_url, ("DBSIZE",)) != ["0"]:
        raise MeasurementError(f"the database of {redis_url} is not empty; give one of its own")
    with tempfile.TemporaryDirectory(prefix="peers-") as directory:
        try:
            yield Bench(peer, redis_url, jobs, Path(directory))
        finally:
            call(redis_url, ("FLUSHDB",))


def drain(peer: str, redis_url: str, jobs: int = 20_000) -> dict[str, float]:
    """Queue no-op jobs, start one worker: jobs/s from the first job handled to the last.

    Returns {"jobs_per_s"}; start-up is not counted. Raises MeasurementError if not all ran.
    """
    with bench(peer, redis_url, jobs) as run:
        run.submit(0, jobs)
        with run.worker() as worker:
            run.wait(worker, 0, jobs, START_TIMEOUT + DRAIN_TIMEOUT)
        handled = sorted(run.slots[1::2])
    return {"jobs_per_s": (jobs - 1) * 1e9 / (handled[-1] - handled[0])}


def latency(
    peer: str, redis_url: str, rate: float = 200.0, seconds: float = 10.0
) -> dict[str, float]:
    """From just before the client's call to the handler's first line, at a steady rate, ms.

    Returns {"p50_ms", "p99_ms"}, of a worker that has already run WARM_UP jobs and LEAD seconds
    at that rate, because some wake up slowly after an idle time. Raises MeasurementError if not
    all ran.
    """
    lead, jobs = int(rate * LEAD), int(rate * seconds)
    counted = WARM_UP + lead
    with bench(peer, redis_url, counted + jobs) as run:
        run.submit(0, WARM_UP)
        with run.worker() as worker:
            run.wait(worker, 0, WARM_UP, START_TIMEOUT)
            run.submit(WARM_UP, lead + jobs, rate)
            run.wait(worker, WARM_UP, lead + jobs, START_TIMEOUT)
        slots = range(2 * counted, len(run.slots), 2)
        values = sorted((run.slots[slot + 1] - run.slots[slot]) / 1e6 for slot in slots)
    return {"p50_ms": statistics.median(values), "p99_ms": values[int(len(values) * 0.99)]}


def measure(peer: str, arguments: argparse.Namespace) -> dict[str, float | str]:
    """All figures of a peer that were asked for; {"error": why} beside those it failed at."""
    result: dict[str, float | str] = {}
    try:
        result.update(drain(peer, arguments.redis, arguments.jobs))
        if arguments.latency:
            result.update(latency(peer, arguments.redis, arguments.rate, arguments.seconds))
    except (MeasurementError, ServerError, OSError) as error:
        result["error"] = str(error)
    return result


def row(peer: str, result: dict[str, float | str]) -> str:
    cells = [f"{peer:<14}"]
    for key, form in (("jobs_per_s", "{:>10,.0f}"), ("p50_ms", "{:>9.1f}"), ("p99_ms", "{:>9.1f}")):
        width = len(form.format(0.0))
        cells.append(form.format(result[key]) if key in result else "-".rjust(width))
    return " ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--redis", required=True, metavar="URL")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,...")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--rate", type=float, default=200.0, help="jobs/s")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    names = [name.strip() for name in arguments.peers.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if arguments.jobs < 2 or arguments.rate * arguments.seconds < 1:
        parser.error("--jobs must be at least 2, --rate times --seconds at least 1")
    # So that an ended measurement ends its processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        server = description(arguments.redis)
    except (ServerError, OSError) as error:
        parser.error(f"{arguments.redis}: {error}")
    print(f"server {server}; {arguments.jobs} jobs; latencies at {arguments.rate:g} jobs/s")
    print(f"{'peer':<14} {'jobs/s':>10} {'p50 ms':>9} {'p99 ms':>9}")
    results: dict[str, dict[str, float | str]] = {}
    for name in names:
        results[name] = measure(name, arguments)
        print(row(name, results[name]), flush=True)
        if "error" in results[name]:
            print(f"{name}: {results[name]['error']}", file=sys.stderr, flush=True)
    if arguments.json:
        document = {"server": server, "jobs": arguments.jobs, "peers": results}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(any("error" in result for result in results.values()))


if __name__ == "__main__":
    main()
