"""Attempts that fail, workers that vanish, workers that stop: each job ends once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from deployment import TYPES, Deploy, Deployment, command_type, python_type

from carbon_orchestrator.clock import GridClock, parse_time
from streams.testing import until

HERE = Path(__file__).parent
#: Runs until told, and tells how often it began.
SLOW = "cd ../..; echo $CARBON_ATTEMPT >> begun; while ! [ -e release ]; do sleep 0.02; done"
Vanishing = Callable[[Deployment], Awaitable["subprocess.Popen[bytes]"]]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Vanishing]:
    """Starts a FAST worker in a process of its own, for what cannot be done to one in here."""
    started: list[subprocess.Popen[bytes]] = []

    async def start(house: Deployment) -> subprocess.Popen[bytes]:
        # A worker waits for the clock.
        await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
        config = tmp_path / "config.toml"
        config.write_text(
            f'namespace = "{house.config.namespace}"\ndefault_types = false\nlease = 1\n'
            "retry_delay = 0.02\n[pools.fast]\nslots = 4\n"
            f"[types.slow]\ncommand = ['sh', '-c', '{SLOW}']\ngrace = 0.3\n"
        )
        command = [sys.executable, "-m", "carbon_orchestrator", "worker", "--pool", "fast"]
        command += ["--redis", house.url, "--config", str(config), "--data", str(house.data)]
        started.append(
            subprocess.Popen(
                command,
                cwd=HERE.parents[1],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(10)


async def test_a_failing_job_is_tried_again_with_growing_pauses(deploy: Deploy) -> None:
    house = deploy(retry_delay=0.1)
    await house.all()
    job_id = await house.post("broken", urgency="urgent", max_attempts=3)
    await house.reach(job_id, "failed")
    job = await house.job(job_id)
    steps = [each["event"] for each in job["timeline"]]
    once = ["dispatched", "started", "failed"]
    assert steps == ["submitted", *once, *once, "deferred", *once]
    assert (job["attempts"], job["failures"]) == (3, 3)
    assert job["reason"] == "ValueError: it broke"
    assert [run["error"] for run in job["runs"]] == ["ValueError: it broke"] * 3
    ended = [parse_time(run["at"]) for run in job["runs"]]
    begun = [parse_time(each["at"]) for each in job["timeline"] if each["event"] == "dispatched"]
    assert 100 <= begun[1] - ended[0] < 600
    assert 200 <= begun[2] - ended[1] < 800
    assert "Traceback" in job["runs"][0]["output"]
    await house.settled()
    sums = await house.sums()
    assert (sums["failed"], sums["attempts"], sums["completed"]) == (1, 3, 0)


async def test_a_later_attempt_may_succeed(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    job_id = await house.post("broken", urgency="urgent", payload={"until": 3})
    await house.reach(job_id, "completed")
    await house.settled()
    assert (await house.job(job_id))["attempts"] == 3
    assert (await house.sums())["completed"] == 1


async def test_an_attempt_has_a_time_limit(deploy: Deploy) -> None:
    house = deploy(types={"hold": TYPES["hold"], "sleep": command_type("sleep", "60", timeout=0.1)})
    await house.all()
    ids = [
        await house.post("hold", urgency="urgent", timeout="100ms", max_attempts=2),
        await house.post("sleep", urgency="urgent", max_attempts=2),
    ]
    for job_id in ids:
        await house.reach(job_id, "failed")
        job = await house.job(job_id)
        assert [run["outcome"] for run in job["runs"]] == ["timeout"] * 2
        assert job["reason"] == "timed out after 0.1 s"


async def test_a_program_that_is_not_there_fails_its_job(deploy: Deploy) -> None:
    house = deploy(types={"lost": command_type("/no/such/program", max_attempts=1)})
    await house.all()
    job_id = await house.post("lost", urgency="urgent")
    await house.reach(job_id, "failed")
    assert "/no/such/program" in (await house.job(job_id))["reason"]


@pytest.mark.parametrize("kind", ["hold", "hold_thread", "slow"])
async def test_a_job_longer_than_the_lease_runs_once(deploy: Deploy, kind: str) -> None:
    house = deploy(types={**TYPES, "slow": command_type("sh", "-c", SLOW)})
    await house.all()
    house.worker("fast")
    job_id = await house.post(kind, urgency="urgent")
    await house.reach(job_id, "running")
    began = time.monotonic()
    await until(lambda: time.monotonic() > began + 1.6)
    house.release()
    await house.reach(job_id, "completed")
    await house.settled()
    assert await house.ends(job_id) == {"job.started": 1, "job.completed": 1}


async def test_the_jobs_of_a_killed_worker_run_elsewhere_within_the_lease(
    deploy: Deploy, process: Vanishing
) -> None:
    house = deploy(types={"slow": command_type("sh", "-c", SLOW)})
    await house.gateway()
    house.router()
    house.accounting()
    lost = await process(house)
    ids = [await house.post("slow", urgency="urgent") for _ in range(3)]
    await house.counted("running", 3, timeout=15)
    house.worker("fast", slots=4)
    lost.kill()
    killed = time.monotonic()
    for job_id in ids:
        await until(lambda job_id=job_id: house.field(job_id, "2.started"), 4)
    assert time.monotonic() - killed < 1 + 2
    house.release()
    for job_id in ids:
        await house.reach(job_id, "completed")
        job = await house.job(job_id)
        assert (job["attempts"], job["failures"], len(job["runs"])) == (2, 0, 1)
    await house.settled()
    sums = await house.sums()
    assert (sums["completed"], sums["attempts"]) == (3, 3)


async def test_a_worker_that_slept_through_its_lease_changes_nothing(
    deploy: Deploy, process: Vanishing
) -> None:
    house = deploy(types={"slow": command_type("sh", "-c", SLOW)})
    await house.gateway()
    house.router()
    house.accounting()
    sleeper = await process(house)
    job_id = await house.post("slow", urgency="urgent")
    await house.reach(job_id, "running", timeout=15)
    sleeper.send_signal(signal.SIGSTOP)
    worker = house.worker("fast")
    await until(lambda: house.field(job_id, "2.started"), 4)
    directory = house.data / "checkpoints" / job_id
    # Awake again, and its own attempt ends well: too late.
    house.release()
    sleeper.send_signal(signal.SIGCONT)
    await house.reach(job_id, "completed")
    await until(lambda: not worker.role.running)
    sleeper.send_signal(signal.SIGTERM)
    await until(lambda: sleeper.poll() is not None, 10)
    await house.settled()
    job = await house.job(job_id)
    assert [run["attempt"] for run in job["runs"]] == [2]
    assert (await house.sums())["attempts"] == 1
    assert await house.ends(job_id) == {"job.started": 2, "job.completed": 1}
    assert sorted((house.data / "begun").read_text().split()) == ["1", "2"]
    assert not directory.exists()


async def test_a_refused_end_leaves_the_directory_to_the_attempt_that_runs(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.gateway()
    house.router()
    worker = house.worker("fast")
    job_id = await house.post("hold", urgency="urgent")
    await house.reach(job_id, "running")
    directory = house.data / "checkpoints" / job_id
    await until(directory.exists)
    # What a rival's takeover does to the record.
    await house.redis.hset(house.topology.record(job_id), "attempt", "2")
    house.release()
    await until(lambda: not worker.role.running)
    assert directory.exists()
    assert await house.field(job_id, "1.finished") is None
    assert await house.state(job_id) == "running"


async def test_a_stopping_worker_lets_its_jobs_end(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    worker = house.worker("fast", slots=1)
    job_id = await house.post("hold", urgency="urgent")
    await house.reach(job_id, "running")
    for each in [part for part in house.parts if part.role.__class__ is worker.role.__class__]:
        each.runtime.stop.set()
    queued = await house.post("quick", urgency="urgent")
    await house.reach(queued, "dispatched")
    house.release()
    await house.reach(job_id, "completed")
    await until(lambda: worker.task.done())
    assert await house.state(queued) == "dispatched", "it takes nothing more"
    job = await house.job(job_id)
    assert (job["attempts"], job["runs"][0]["outcome"]) == (1, "completed")


@pytest.mark.parametrize("kind", ["hold", "hold_thread", "slow"])
async def test_what_outlasts_the_drain_runs_elsewhere_without_a_failure(
    deploy: Deploy, kind: str
) -> None:
    types = {"hold": python_type("hold"), "hold_thread": python_type("hold_thread")}
    house = deploy(drain=0.1, types={**types, "slow": command_type("sh", "-c", SLOW)})
    await house.gateway()
    house.router()
    house.accounting()
    first = house.worker("fast")
    job_id = await house.post(kind, urgency="urgent", max_attempts=1)
    await house.reach(job_id, "running")
    await first.stop()
    await house.reach(job_id, "dispatched")
    assert (await house.job(job_id))["runs"][0]["outcome"] == "interrupted"
    house.worker("fast")
    await house.reach(job_id, "running")
    house.release()
    await house.reach(job_id, "completed")
    job = await house.job(job_id)
    assert (job["attempts"], job["failures"]) == (2, 0)
    await house.settled()
    sums = await house.sums()
    assert (sums["attempts"], sums["completed"], sums["failed"]) == (2, 1, 0)
    consumers = await house.redis.xinfo_consumers(house.topology.dispatch("fast"), "worker")
    assert len(consumers) == 1, "the stopped one has left the group"
