"""Every worker is told to go while all run jobs: none is lost, fails, or begins anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from audited import audit, divergences, seal
from deployment import MEDIUM, Deploy, Deployment, command_type, python_type

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import PoolConfig
from streams.testing import until

HERE = Path(__file__).parent
SLOTS = 13
SLOW = 90  # seconds that processes may take to come, or to go
#: A command's count: on TERM it is kept in its own directory; each step is on file beside that.
COUNT = """
n=$(cat count 2>/dev/null || echo 0); began=$n
trap 'echo $n > count; exit 143' TERM
while ! [ -e ../../release ]; do n=$((n+1)); echo $n >> ../$CARBON_JOB_ID.journal; sleep 0.3; done
echo "$began to $n"
"""
#: How many jobs of each kind: those that may be interrupted, and those that finish in the drain.
PAUSING = {"counts": 16, "counts_in_a_thread": 5, "shell": 5}
FINISHING = {"finishes": 24}
CONFIG = """
namespace = "{namespace}"
default_types = false
lease = 1
margin = 0.05
drain = 60
pools.fast.slots = {slots}
pools.eco.slots = {slots}

[threshold]
mode = "absolute"
low = 100
high = 200
hysteresis = 0
"""
TYPE = """
[types.{name}]
{handler}
expected_duration = 0.01
grace = 10
timeout = 120
"""


def configuration(house: Deployment) -> str:
    """That of `house`, for programs."""
    text = CONFIG.format(namespace=house.config.namespace, slots=SLOTS)
    for name, kind in house.config.types.items():
        handler = f"command = ['sh', '-c', '''{COUNT}''']"
        if kind.python is not None:
            handler = f'python = "{kind.python}"'
        text += TYPE.format(name=name, handler=handler)
    return text


class Workers:
    """`carbon-orchestrator worker`, as processes of their own: so many of each pool."""

    def __init__(self, house: Deployment, config: Path, each: int) -> None:
        self._logs = config.parent / f"workers-{len(list(config.parent.glob('workers-*')))}.log"
        self.processes = []
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        with self._logs.open("wb") as log:
            for pool in ("fast", "eco") * each:
                command = [sys.executable, "-m", "carbon_orchestrator", "worker", "--pool", pool]
                command += [
                    "--redis",
                    house.url,
                    "--config",
                    str(config),
                    "--data",
                    str(house.data),
                ]
                command += ["--log-level", "info"]
                self.processes.append(
                    subprocess.Popen(
                        command, cwd=HERE.parents[1], env=environment, stdout=log, stderr=log
                    )
                )

    def told_to_go(self) -> None:
        for each in self.processes:
            each.send_signal(signal.SIGTERM)

    def draining(self) -> bool:
        return self._logs.read_text().count("draining") == len(self.processes)

    def gone(self) -> bool:
        return all(each.poll() is not None for each in self.processes)

    def kill(self) -> None:
        for each in self.processes:
            each.kill()
            each.wait(10)


Start = Callable[[Deployment, int], Workers]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Workers] = []

    def start(house: Deployment, each: int) -> Workers:
        config = tmp_path / "config.toml"
        config.write_text(configuration(house))
        started.append(Workers(house, config, each))
        return started[-1]

    yield start
    for each in started:
        each.kill()


async def house_of(deploy: Deploy) -> Deployment:
    types = {
        name: msgspec.structs.replace(
            python_type(name, grace=10), python=f"counting_handlers:{name}"
        )
        for name in (*PAUSING, *FINISHING)
    }
    types["shell"] = command_type("sh", "-c", COUNT, grace=10)
    pools = {"fast": PoolConfig(slots=SLOTS), "eco": PoolConfig(slots=SLOTS)}
    house = deploy(types=types, pools=pools, drain=60)
    # No signal sets the clock here.
    await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
    await house.intensity(MEDIUM)
    await house.gateway()
    house.router()
    house.accounting()
    await house.routing()
    return house


async def submitted(house: Deployment, kinds: dict[str, int], *, interruptible: bool) -> list[str]:
    """Jobs of these kinds; in the medium band urgent ones run on FAST, normal ones on ECO."""
    names = [kind for kind, count in kinds.items() for _ in range(count)]
    levels = ("urgent", "normal")
    return [
        await house.post(kind, interruptible=interruptible, urgency=levels[number % 2])
        for number, kind in enumerate(names)
    ]


def journal(house: Deployment, job_id: str) -> list[int]:
    """All steps that a job has done, in any attempt."""
    lines = (house.data / "checkpoints" / f"{job_id}.journal").read_text().split()
    return [int(line) for line in lines]


@pytest.mark.timeout(300)
async def test_fifty_running_jobs_outlive_their_workers(deploy: Deploy, start: Start) -> None:
    house = await house_of(deploy)
    first = start(house, 2)
    pausing = await submitted(house, PAUSING, interruptible=True)
    finishing = await submitted(house, FINISHING, interruptible=False)
    jobs = [*pausing, *finishing]
    assert len(jobs) == 50
    await house.counted("running", 50, timeout=SLOW)
    checkpoints = house.data / "checkpoints"
    await until(lambda: len(list(checkpoints.glob("*.journal"))) == 50, SLOW)
    first.told_to_go()
    # Those that may be interrupted do not keep the others' time.
    await house.counted("running", len(finishing), timeout=SLOW)
    assert sorted(await house.ids("running")) == sorted(finishing)
    assert not first.gone()
    (house.data / "finish").touch()
    await until(first.gone, SLOW)
    assert [each.returncode for each in first.processes] == [0, 0, 0, 0]
    assert sorted(await house.ids("completed")) == sorted(finishing)
    saved = {job_id: journal(house, job_id)[-1] for job_id in pausing}

    second = start(house, 1)
    await house.counted("running", len(pausing), timeout=SLOW)
    await until(lambda: all(journal(house, each)[-1] > saved[each] for each in pausing), SLOW)
    house.release()
    await house.counted("completed", 50, timeout=SLOW)
    for job_id in pausing:
        job = await house.job(job_id)
        assert (job["attempts"], job["failures"]) == (2, 0)
        assert [run["outcome"] for run in job["runs"]] == ["interrupted", "completed"]
        steps = journal(house, job_id)
        assert steps == list(range(1, steps[-1] + 1)), "a step is lost, or done twice"
        assert f"{saved[job_id]} to {steps[-1]}" in job["runs"][1]["output"]
        assert await house.ends(job_id) == {"job.started": 2, "job.failed": 1, "job.completed": 1}
    for job_id in finishing:
        job = await house.job(job_id)
        assert (job["attempts"], job["failures"]) == (1, 0)
        assert f"0 to {journal(house, job_id)[-1]}" in job["runs"][0]["output"]
        assert await house.ends(job_id) == {"job.started": 1, "job.completed": 1}
    await house.settled()
    sums = await house.sums()
    assert (sums["attempts"], sums["completed"], sums["failed"]) == (76, 50, 0)
    assert not await house.dead_letters()
    second.told_to_go()
    await until(second.gone, SLOW)
    await seal(house)
    tallies = await audit(house)
    assert divergences(tallies) == []
    assert tallies["decisions"].checked > 50
