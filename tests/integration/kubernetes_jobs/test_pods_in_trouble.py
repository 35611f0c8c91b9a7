"""Jobs in a cluster whose API server is away, and whose workers die."""

from __future__ import annotations

import asyncio
import copy
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment import Deploy, Deployment
from job_cluster import JobCluster
from pod_house import begun, job_object, podded, settings

from carbon_orchestrator.worker import pod as pod_module
from streams.testing import until


async def test_a_job_lives_through_an_outage_of_the_api_server(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template))
    await house.all()
    api.outage = 503
    job_id = await begun(house)
    await until(lambda: len(api.requests) > 2)
    assert not api.jobs
    api.outage = None
    pod = await podded(api, job_id)
    api.write(pod, "before\n")
    await until(lambda: house.redis.exists(house.topology.output(job_id)))
    api.outage = 500
    api.cut()
    seen = len(api.requests)
    await until(lambda: len(api.requests) > seen + 3)
    api.write(pod, "meanwhile\n")
    assert await house.state(job_id) == "running"
    api.outage = None
    api.write(pod, "after\n")
    api.exit(pod, 0)
    await house.reach(job_id, "completed", timeout=15)
    assert (await house.job(job_id))["runs"][0]["output"] == "before\nmeanwhile\nafter\n"


async def test_a_job_that_cannot_be_ended_is_recorded_so_and_removed_later(
    api: JobCluster, deploy: Deploy, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("_ENDING", "_DELETING", "_LOG_ENDING"):
        monkeypatch.setattr(pod_module, bound, 0.2)
    house = deploy(**settings(api, template))
    await house.all()
    job_id = await begun(house)
    await podded(api, job_id)
    api.outage = 503
    api.cut()
    assert (await house.http("DELETE", f"/jobs/{job_id}")).status == 202
    await house.reach(job_id, "cancelled")
    limitations = (await house.job(job_id))["runs"][0]["limitations"]
    assert [each.startswith("its Job may still run: ") for each in limitations] == [True]
    assert "503" in limitations[0]
    api.outage = None
    assert len(api.jobs) == 1
    house.worker("eco")
    await until(lambda: not api.jobs)


async def test_a_watch_that_is_too_old_is_begun_anew(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template))
    await house.all()
    job_id = await begun(house)
    pod = await podded(api, job_id)
    api.write(pod, "once\n")
    await until(lambda: house.redis.exists(house.topology.output(job_id)))
    for _ in range(2):
        begun_so_far = api.watches
        api.forget_versions()
        await until(lambda begun_so_far=begun_so_far: api.watches > begun_so_far)
    api.exit(pod, 0)
    await house.reach(job_id, "completed")
    assert (await house.job(job_id))["runs"][0]["output"] == "once\n"


async def test_a_lost_answer_makes_no_second_job(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template))
    await house.all()
    api.lost = ["create", "create", "patch"]  # of the Job, its Secret, and letting it go
    job_id = await begun(house)
    pod = await podded(api, job_id)
    api.exit(pod, 0)
    await house.reach(job_id, "completed")
    assert not api.lost
    assert len(api.jobs) == 1
    assert len(api.pods) == 1


async def alone(
    api: JobCluster, deploy: Deploy, template: Path, start: Any
) -> tuple[Deployment, str, str, subprocess.Popen[bytes]]:
    """A job whose pod runs and whose worker is a process of its own."""
    house = deploy(**settings(api, template))
    await house.gateway()
    house.router()
    house.accounting()
    process = await start(house)
    job_id = await house.post("train", urgency="urgent")
    await house.reach(job_id, "running", timeout=35)
    pod = await podded(api, job_id)
    api.write(pod, "begun\n")
    await until(lambda: house.redis.exists(house.topology.output(job_id)))
    return house, job_id, pod, process


async def orphaned(
    api: JobCluster, deploy: Deploy, template: Path, start: Any
) -> tuple[Deployment, str, str]:
    """A job whose pod runs and whose worker was killed."""
    house, job_id, pod, process = await alone(api, deploy, template, start)
    process.kill()
    return house, job_id, pod


async def test_a_pod_outlives_its_worker_and_is_taken_over(
    api: JobCluster, deploy: Deploy, template: Path, worker_process: Any
) -> None:
    house, job_id, pod = await orphaned(api, deploy, template, worker_process)
    house.worker("fast")
    await until(lambda: house.field(job_id, "2.started"), 6)
    labels = job_object(api, job_id)["metadata"]["labels"]
    await until(lambda: labels["carbon-orchestrator/attempt"] == "2")
    api.write(pod, "going on\n")
    api.exit(pod, 0)
    await house.reach(job_id, "completed")
    job = await house.job(job_id)
    assert len(api.pods) == 1, "one pod did it all"
    (run,) = job["runs"]
    assert (run["attempt"], run["output"]) == (2, "begun\ngoing on\n")
    assert job["failures"] == 0


async def test_a_worker_that_slept_through_its_lease_leaves_the_job_to_the_other(
    api: JobCluster, deploy: Deploy, template: Path, worker_process: Any
) -> None:
    house, job_id, pod, process = await alone(api, deploy, template, worker_process)
    asked: list[str] = []
    api.on_term = asked.append
    process.send_signal(signal.SIGSTOP)
    house.worker("fast")
    await until(lambda: house.field(job_id, "2.started"), 6)
    labels = job_object(api, job_id)["metadata"]["labels"]
    await until(lambda: labels["carbon-orchestrator/attempt"] == "2")
    # It wakes up, hears that its lease is lost, and finds the Job to be another's.
    others = len(api.requests)
    process.send_signal(signal.SIGCONT)
    looks = f"/apis/batch/v1/namespaces/jobs/jobs/carbon-{job_id}-1"
    await until(lambda: ("GET", looks) in api.requests[others:])
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0
    api.exit(pod, 0)
    await house.reach(job_id, "completed")
    assert asked == []


async def test_a_pod_that_came_to_its_end_while_no_worker_was_there_counts(
    api: JobCluster, deploy: Deploy, template: Path, worker_process: Any
) -> None:
    house, job_id, pod = await orphaned(api, deploy, template, worker_process)
    api.exit(pod, 0)
    house.worker("fast")
    await house.reach(job_id, "completed", timeout=8)
    assert len(api.pods) == 1


async def test_a_job_that_is_cancelled_while_no_worker_is_there_is_ended_by_the_next(
    api: JobCluster, deploy: Deploy, template: Path, worker_process: Any
) -> None:
    house, job_id, _ = await orphaned(api, deploy, template, worker_process)
    assert (await house.http("DELETE", f"/jobs/{job_id}")).status == 202
    await until(lambda: house.field(job_id, "cancel"))
    house.worker("fast")
    await house.reach(job_id, "cancelled", timeout=8)
    await until(lambda: not api.jobs)


async def test_what_an_earlier_attempt_left_suspended_goes_before_another_is_made(
    api: JobCluster, deploy: Deploy, template: Path, worker_process: Any
) -> None:
    house, job_id, pod = await orphaned(api, deploy, template, worker_process)
    lingering: list[str] = []
    api.on_term = lingering.append
    left = job_object(api, job_id)
    left["spec"]["suspend"] = True
    api._control(left)
    house.worker("fast")
    await until(lambda: "deletionTimestamp" in left["metadata"], 8)
    seen = len(api.requests)
    await until(lambda: len(api.requests) > seen + 3)
    assert list(api.pods) == [pod], "no second pod beside one that still runs"
    api.exit(pod, 143)
    again = await podded(api, job_id)
    assert again.startswith(f"carbon-{job_id}-2")
    api.on_term = lambda pod: api.exit(pod, 143)
    api.exit(again, 0)
    await house.reach(job_id, "completed")


async def test_what_nobody_waits_for_any_more_is_removed_when_a_worker_starts(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    api.page = 1
    house = deploy(**settings(api, template))
    await house.gateway()
    house.router()
    first = house.worker("fast")
    kept = await begun(house)
    await podded(api, kept)
    for name, deployment in (("gone", house.config.namespace), ("foreign", "another")):
        left = copy.deepcopy(job_object(api, kept))
        left["metadata"] |= {"name": name, "uid": name}
        left["metadata"]["labels"] |= {
            "carbon-orchestrator/job": name,
            "carbon-orchestrator/deployment": deployment,
        }
        api.jobs[name] = left
    house.worker("eco")
    await until(lambda: "gone" not in api.jobs)
    assert set(api.jobs) == {f"carbon-{kept}-1", "foreign"}
    del api.jobs["foreign"]
    await first.stop()
    house.parts.remove(first)
