"""Worker processes that come and go: the real program, real jobs, and ends of every kind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from deployment import LOW, Deploy, Deployment, command_type

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import ScaledPool, Scaler
from carbon_orchestrator.events import PoolScaled
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.actuator import ActuatorError
from carbon_orchestrator.scaler.local import LocalWorkers, _Worker, leaving_first
from carbon_orchestrator.worker.guardian import Guardian
from streams.testing import until

ROOT = Path(__file__).parents[2]
CONFIG = """
default_types = false
lease = "1s"
margin = "50ms"
drain = "5s"
namespace = "{namespace}"

[types.hold]
command = ["{{python}}", "-c", "{code}"]
expected_duration = "10ms"
grace = "300ms"

[threshold]
mode = "absolute"
low = 100
high = 200

[pools.fast]
slots = 1

[scaler]
interval = "100ms"
window = "500ms"
up_every = 0
down_every = 0
down_step = 10
pools.fast = {{ max = 2 }}
"""
#: Runs until the test allows its end.
HOLD = "import os, time\\nwhile not os.path.exists({release!r}): time.sleep(0.02)"


class Program:
    """`carbon-orchestrator scaler` for FAST, beside a deployment's other roles."""

    def __init__(self, house: Deployment, config: Path) -> None:
        command = [sys.executable, "-m", "carbon_orchestrator", "scaler", "--pool", "fast"]
        command += ["--actuator", "local", "--config", str(config), "--data", str(house.data)]
        self.output = house.data / "scaler.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--redis", house.url], cwd=ROOT, stdout=output, stderr=output
            )

    def workers(self) -> list[psutil.Process]:
        """Its workers that are alive."""
        return [
            each
            for each in psutil.Process(self.process.pid).children(recursive=True)
            if "worker" in each.cmdline() and each.status() != psutil.STATUS_ZOMBIE
        ]


@pytest.fixture
async def house(deploy: Deploy, tmp_path: Path) -> Deployment:
    house = deploy(
        types={"hold": command_type("true")},
        scaler=Scaler(pools={"fast": ScaledPool(max=2)}),
    )
    code = HOLD.format(release=str(house.data / "release"))
    (tmp_path / "config.toml").write_text(
        CONFIG.format(namespace=house.config.namespace, code=code)
    )
    # No signal sets the clock here.
    await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
    await house.intensity(LOW)
    await house.gateway()
    house.router()
    house.accounting()
    await house.routing()
    return house


@pytest.fixture
def program(house: Deployment, tmp_path: Path) -> Iterator[Program]:
    program = Program(house, tmp_path / "config.toml")
    yield program
    if program.process.poll() is None:
        program.process.kill()
    program.process.wait(10)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(
        each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes
    )


async def test_workers_come_for_jobs_and_go_when_there_are_none(
    house: Deployment, program: Program
) -> None:
    jobs = [await house.post("hold") for _ in range(3)]
    await house.counted("running", 2, timeout=40)
    workers = program.workers()
    assert len(workers) == 2
    # The server's URL may hold a password: everybody can read arguments.
    assert not any(house.url in " ".join(each.cmdline()) for each in workers)
    house.release()
    for each in jobs:
        await house.reach(each, "completed", timeout=40)
    await until(lambda: gone(workers), 40)
    events = await house.events(house.topology.scaling)
    assert all(isinstance(each, PoolScaled) for each in events)
    sizes = [each.replicas for each in events]
    assert (max(sizes), sizes[-1]) == (2, 0)
    assert {each.actuator for each in events} == {"local"}
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(40) == 0


async def test_its_end_lets_running_jobs_end(house: Deployment, program: Program) -> None:
    job = await house.post("hold")
    await house.reach(job, "running", timeout=40)
    workers = program.workers()
    program.process.send_signal(signal.SIGTERM)
    await until(lambda: "draining" in program.output.read_text(), 10)
    house.release()
    await house.reach(job, "completed", timeout=40)
    assert program.process.wait(40) == 0
    assert gone(workers)
    assert await house.field(job, "attempt") == "1"


async def test_its_death_leaves_no_worker_behind(house: Deployment, program: Program) -> None:
    job = await house.post("hold")
    await house.reach(job, "running", timeout=40)
    workers = program.workers()
    assert workers
    program.process.kill()
    house.release()
    await until(lambda: gone(workers), 40)
    program.process.wait(10)


async def test_workers_that_end_at_once_are_not_started_without_pause(
    house: Deployment, guardian: Guardian
) -> None:
    runtime = Runtime(house.url, house.config)
    workers = LocalWorkers(runtime.config, house.url, guardian, ["--no-such-option"])
    try:
        await workers.scale("fast", 0, 2, frozenset(), "")
        assert await workers.size("fast") == 2

        async def refused() -> str:
            try:
                await workers.size("fast")
            except ActuatorError as error:
                return str(error) if "2 workers" in str(error) else ""
            return ""

        assert "ended by themselves at once" in str(await until(refused, 15))
    finally:
        await workers.aclose()
        await runtime.aclose()


def test_idle_workers_leave_before_busy_ones_and_young_before_old() -> None:
    class Process:
        def __init__(self, pid: int) -> None:
            self.pid = pid

    workers = []
    for pid in (11, 12, 13, 14):
        worker = _Worker(Process(pid))  # type: ignore[arg-type]
        worker.started = time.monotonic() + pid
        workers.append(worker)
    busy = frozenset({"worker-fast-a-host-11-22-14-abc123", "worker-fast-host-12-0123ab"})
    order = [worker.process.pid for worker in leaving_first(workers, busy)]
    assert order == [13, 11, 14, 12]
