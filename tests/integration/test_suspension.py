"""Jobs that pause for a greener hour and go on later: their workers' side."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deployment import Deploy, Deployment, Part, command_type, python_type
from test_planning import observed, planning

from carbon_orchestrator.clock import GridClock, parse_time
from carbon_orchestrator.config import PoolConfig
from carbon_orchestrator.events import JobCompleted, JobFailed, JobSuspended
from carbon_orchestrator.run_times import Learned
from streams.testing import until

HERE = Path(__file__).parent
#: Begins: goes on from its notes, burns a little, and runs until it is released.
BEGIN = "echo $CARBON_ATTEMPT >> notes; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; "
WORK = "touch ../../begun; while ! [ -e ../../release ]; do sleep 0.02; done; cat notes"
SAVE = "echo saved >> notes; exit 143"
HOLD = "touch ../../asked; while ! [ -e ../../saved ]; do sleep 0.02; done; exit 143"


def shell(on_term: str, **more: Any) -> Any:
    return command_type("sh", "-c", f"trap '{on_term}' TERM; {BEGIN}{WORK}", **more)


TYPES = {
    "saves": shell(SAVE, grace=10),
    "stubborn": shell("", grace=0.1),
    "finishes": shell("touch ../../asked; exit 0", grace=10),
    "holds": shell(HOLD, grace=20),
}
for _name in ("saves", "saves_thread", "finishes", "ignores"):
    TYPES[f"py_{_name}"] = msgspec.structs.replace(
        python_type(_name, grace=0.3 if _name == "ignores" else 10),
        python=f"pausing_handlers:{_name}",
    )


async def begun(deploy: Deploy, kind: str, **changes: Any) -> tuple[Deployment, Part, str]:
    """A deployment with one worker that runs a job while the grid is green."""
    house = deploy(**planning(types=TYPES, **changes))
    await observed(house, 100, 300, 300, 300)
    await house.gateway()
    house.router()
    house.accounting()
    worker = house.worker("fast")
    await house.routing()
    return house, worker, await running(house, kind)


async def running(house: Deployment, kind: str) -> str:
    job_id = await house.post(kind, deadline="5h", expected_duration="2h", interruptible=True)
    await house.reach(job_id, "running", timeout=15)
    if not kind.startswith("py_"):
        await until((house.data / "begun").exists)
    return job_id


async def dirtier(house: Deployment) -> int:
    """It is greener in two hours: interruptible jobs are asked to pause. When that is."""
    return await observed(house, 300, 300, 50, 50, 50) + 2 * 3_600_000


async def asked(house: Deployment) -> None:
    await dirtier(house)
    await until((house.data / "asked").exists)


async def greener(house: Deployment) -> None:
    """The green hour is there sooner than expected."""
    await observed(house, 10, 300, 300, 300)


async def ends(house: Deployment, job_id: str) -> list[Any]:
    events = await house.events(house.topology.completions)
    kinds = (JobCompleted, JobFailed, JobSuspended)
    return [each for each in events if isinstance(each, kinds) and each.job_id == job_id]


async def nothing_left(house: Deployment, job_id: str) -> None:
    """A job that is over keeps no room, and asks for nothing."""
    assert await house.field(job_id, "suspend") is None
    assert not await house.redis.zcard(house.topology.interruptible)
    booked = await house.redis.hvals(house.topology.booked("fast"))
    assert set(booked) <= {b"0"}


async def completed(house: Deployment, job_id: str) -> dict[str, Any]:
    house.release()
    await house.reach(job_id, "completed")
    await house.settled()
    await nothing_left(house, job_id)
    return await house.job(job_id)


async def test_a_command_pauses_and_goes_on_from_its_checkpoint_on_another_worker(
    deploy: Deploy,
) -> None:
    house, first, job_id = await begun(deploy, "saves")
    assert await house.redis.zrange(house.topology.interruptible, 0, -1) == [job_id.encode()]
    resume_at = await dirtier(house)
    await house.reach(job_id, "deferred")
    job = await house.job(job_id)
    assert abs(parse_time(job["planned_start"]) - resume_at) < 60_000
    assert "suspended: the rest would run at" in job["reason"]
    assert (job["failures"], job["runs"][0]["outcome"]) == (0, "suspended")
    assert not await house.redis.zcard(house.topology.interruptible)
    assert await house.field(job_id, "suspend") is None
    (event,) = await ends(house, job_id)
    assert isinstance(event, JobSuspended)
    assert event.resume_at == parse_time(job["planned_start"])
    assert await house.field(job_id, "ran_fast_ms") == str(event.run_ms)
    # Room is booked for the rest only.
    booked = await house.redis.hgetall(house.topology.booked("fast"))
    assert min(int(each) for each, change in booked.items() if int(change)) >= (
        event.resume_at // 900_000
    )
    await first.stop()
    house.parts.remove(first)
    (house.data / "begun").unlink()
    second = house.worker("fast")
    await greener(house)
    await house.reach(job_id, "running")
    await until((house.data / "begun").exists)
    job = await completed(house, job_id)
    assert job["runs"][1]["output"].split() == ["1", "saved", "2"]
    assert [run["outcome"] for run in job["runs"]] == ["suspended", "completed"]
    workers = [step["worker"] for step in job["timeline"] if step["event"] == "started"]
    assert workers == [first.role.name, second.role.name]
    assert not (house.data / "checkpoints" / job_id).exists()
    # Energy, emissions and run time of both segments count.
    for name in ("energy_mj", "emissions_ug", "baseline_ug"):
        assert job[name] == sum(run.get(name, 0) for run in job["runs"]), name
    assert all(run["energy_mj"] > 0 for run in job["runs"])
    _, event = await ends(house, job_id)
    total = sum(run["run_ms"] for run in job["runs"])
    assert (event.segments, event.total_run_ms) == (2, total)
    sums = await house.sums()
    assert (sums["attempts"], sums["suspended"], sums["completed"]) == (2, 1, 1)
    assert (sums["energy_mj"], sums["run_ms"]) == (job["energy_mj"], total)
    fields = await house.redis.hgetall(house.topology.durations("saves", "fast"))
    learned = Learned.parse(fields)
    assert (sum(learned.counts.values()), learned.energy_mj) == (1, job["energy_mj"])
    assert learned.run_ms == total


async def test_a_job_may_pause_many_times_without_a_failure(deploy: Deploy) -> None:
    house, _, job_id = await begun(deploy, "py_saves")
    for number in range(2, 6):
        await dirtier(house)
        await house.reach(job_id, "deferred")
        await greener(house)
        await until(lambda number=number: house.field(job_id, f"{number}.started"))
    job = await completed(house, job_id)
    assert (job["attempts"], job["failures"]) == (5, 0)
    assert job["runs"][-1]["output"] == '"went on from 1;2;3;4;"\n'
    assert await house.field(job_id, "segments") == "4"
    assert (await house.sums())["suspended"] == 4


async def test_a_function_in_a_thread_looks_whether_it_is_to_pause(deploy: Deploy) -> None:
    house, _, job_id = await begun(deploy, "py_saves_thread")
    await dirtier(house)
    await house.reach(job_id, "deferred")
    await greener(house)
    await until(lambda: house.field(job_id, "2.started"))
    job = await completed(house, job_id)
    assert job["runs"][-1]["output"] == '"went on from 1;"\n'


@pytest.mark.parametrize("kind", ["stubborn", "py_ignores"])
async def test_who_does_not_end_in_the_grace_is_suspended_all_the_same(
    deploy: Deploy, kind: str
) -> None:
    house, _, job_id = await begun(deploy, kind)
    await dirtier(house)
    await house.reach(job_id, "deferred")
    run = (await house.job(job_id))["runs"][0]
    assert run["outcome"] == "suspended"
    if kind == "stubborn":
        assert (run["exit_code"], run["error"]) == (-9, "killed by SIGKILL")
    else:
        assert "abandoned" in run["error"]
    house.release()
    await greener(house)
    await completed(house, job_id)
    assert [each.event_type for each in await ends(house, job_id)] == [
        "job.suspended",
        "job.completed",
    ]


@pytest.mark.parametrize("kind", ["finishes", "py_finishes"])
async def test_who_reaches_the_end_in_the_grace_is_completed(deploy: Deploy, kind: str) -> None:
    house, _, job_id = await begun(deploy, kind)
    await asked(house)
    job = await completed(house, job_id)
    assert [run["outcome"] for run in job["runs"]] == ["completed"]
    assert (await house.sums())["suspended"] == 0


async def test_what_is_not_interruptible_runs_on_whatever_its_record_says(
    deploy: Deploy,
) -> None:
    house = deploy(types=TYPES)
    await house.all()
    job_id = await house.post("holds", urgency="urgent")
    await until((house.data / "begun").exists)
    await house.redis.hset(house.topology.record(job_id), "suspend", "{}")
    offers = house.topology.workers("fast")

    async def heard_of() -> float:
        ((_, score),) = await house.redis.zrange(offers, 0, -1, withscores=True)
        return float(score)

    for _ in range(3):  # heartbeats
        last = await heard_of()
        await until(lambda last=last: _differs(heard_of, last))
    assert await house.state(job_id) == "running"
    assert not (house.data / "asked").exists()
    house.release()
    await house.reach(job_id, "completed")


async def _differs(ask: Callable[[], Awaitable[float]], last: float) -> bool:
    return await ask() != last


async def test_a_cancellation_during_the_grace_wins(deploy: Deploy) -> None:
    house, _, job_id = await begun(deploy, "holds")
    await asked(house)
    assert (await house.http("DELETE", f"/jobs/{job_id}")).status == 202
    await until(lambda: house.field(job_id, "cancel"))
    # Whether or not its worker has heard of it by now.
    (house.data / "saved").touch()
    await house.reach(job_id, "cancelled")
    await house.settled()
    await nothing_left(house, job_id)
    assert [each.event_type for each in await ends(house, job_id)] == ["job.failed"]
    assert (await house.sums())["cancelled"] == 1


async def test_a_suspended_job_can_be_cancelled(deploy: Deploy) -> None:
    house, _, job_id = await begun(deploy, "saves")
    await dirtier(house)
    await house.reach(job_id, "deferred")
    assert (await house.http("DELETE", f"/jobs/{job_id}")).status == 202
    await house.reach(job_id, "cancelled")
    await house.settled()
    await nothing_left(house, job_id)
    job = await house.job(job_id)
    assert job["energy_mj"] == (await house.sums())["energy_mj"] > 0


async def test_a_worker_that_is_stopped_while_a_job_pauses_leaves_it_suspended(
    deploy: Deploy,
) -> None:
    house, worker, job_id = await begun(deploy, "holds", drain=0.05)
    await asked(house)
    worker.runtime.stop.set()
    (house.data / "saved").touch()
    await until(worker.task.done)
    assert await house.state(job_id) == "deferred"
    assert not await house.redis.zcard(house.topology.workers("fast"))
    assert [each.event_type for each in await ends(house, job_id)] == ["job.suspended"]
    house.worker("fast")
    await greener(house)
    await house.reach(job_id, "running")
    await completed(house, job_id)


async def test_an_interrupted_segment_counts_too(deploy: Deploy) -> None:
    # Routers read the books every two seconds: till then its own room looks taken to the job.
    pools = {"fast": PoolConfig(slots=4), "eco": PoolConfig(slots=4, energy=3)}
    house, worker, job_id = await begun(deploy, "saves", drain=0.05, pools=pools)
    await worker.stop()
    await until(lambda: house.field(job_id, "1.finished"))
    assert await house.field(job_id, "segments") == "1"
    assert int(await house.field(job_id, "ran_fast_ms") or 0) > 0
    house.worker("fast")
    await house.reach(job_id, "running")
    job = await completed(house, job_id)
    event = (await ends(house, job_id))[-1]
    assert event.total_run_ms == sum(run["run_ms"] for run in job["runs"])


# -- workers in processes of their own -------------------------------------------------------

Process = Callable[[Deployment], Awaitable["subprocess.Popen[bytes]"]]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """Starts a FAST worker that can be killed or stopped."""
    started: list[subprocess.Popen[bytes]] = []

    async def start(house: Deployment) -> subprocess.Popen[bytes]:
        await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
        script = TYPES["holds"].command[-1]
        config = tmp_path / "config.toml"
        config.write_text(
            f'namespace = "{house.config.namespace}"\ndefault_types = false\nlease = 1\n'
            "[pools.fast]\nslots = 4\n"
            f"[types.holds]\ncommand = ['sh', '-c', '''{script}''']\ngrace = 20\n"
        )
        command = [sys.executable, "-m", "carbon_orchestrator", "worker", "--pool", "fast"]
        command += ["--redis", house.url, "--config", str(config), "--data", str(house.data)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, cwd=HERE.parents[1], **quiet))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(10)


async def suspending_elsewhere(
    deploy: Deploy, process: Process
) -> tuple[Deployment, subprocess.Popen[bytes], str]:
    """A job that is asked to pause and makes use of its grace, on a worker of its own."""
    house = deploy(**planning(types=TYPES))
    await observed(house, 100, 300, 300, 300)
    await house.gateway()
    house.router()
    house.accounting()
    await house.routing()
    other = await process(house)
    job_id = await running(house, "holds")
    await asked(house)
    return house, other, job_id


async def taken_over(house: Deployment, job_id: str) -> None:
    house.worker("fast")
    await until(lambda: house.field(job_id, "2.started"), 6)
    assert await house.field(job_id, "suspend") is None
    assert await house.redis.zrange(house.topology.interruptible, 0, -1) == [job_id.encode()]
    # The room for going on later is free again; that of the run itself is not.
    booked = await house.redis.hgetall(house.topology.booked("fast"))
    dispatched = msgspec.json.decode(await house.field(job_id, "1.dispatched") or "")
    changes = {int(bucket): int(change) for bucket, change in booked.items() if int(change)}
    assert sorted(changes) == [dispatched["at"] // 900_000, -(-dispatched["end"] // 900_000)]


async def test_a_worker_killed_before_it_could_suspend_loses_and_doubles_nothing(
    deploy: Deploy, process: Process
) -> None:
    house, other, job_id = await suspending_elsewhere(deploy, process)
    other.kill()
    await taken_over(house, job_id)
    job = await completed(house, job_id)
    assert (job["attempts"], job["failures"]) == (2, 0)
    assert [run["attempt"] for run in job["runs"]] == [2]
    sums = await house.sums()
    assert (sums["attempts"], sums["completed"], sums["suspended"]) == (1, 1, 0)
    assert sums["energy_mj"] == job["energy_mj"]


async def test_a_suspension_that_comes_too_late_has_no_effect(
    deploy: Deploy, process: Process
) -> None:
    house, other, job_id = await suspending_elsewhere(deploy, process)
    other.send_signal(signal.SIGSTOP)
    await taken_over(house, job_id)
    (house.data / "saved").touch()
    other.send_signal(signal.SIGCONT)
    other.send_signal(signal.SIGTERM)
    await until(lambda: other.poll() is not None, 10)
    assert await house.state(job_id) == "running"
    job = await completed(house, job_id)
    assert [run["attempt"] for run in job["runs"]] == [2]
    assert [each.event_type for each in await ends(house, job_id)] == ["job.completed"]
