"""Jobs in a cluster that are ended from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from deployment import Deploy
from job_cluster import JobCluster
from pod_house import TEMPLATE, begun, job_object, podded, settings
from test_planning import observed, planning

from carbon_orchestrator.kubernetes.cluster import Access, Cluster
from carbon_orchestrator.kubernetes.job_template import Attempt, check
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.pod import run_pod
from streams.testing import until


async def test_a_cancelled_job_gets_its_grace_and_is_gone(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template))
    await house.all()
    job_id = await begun(house)
    pod = await podded(api, job_id)
    asked: list[str] = []
    api.on_term = asked.append
    assert (await house.http("DELETE", f"/jobs/{job_id}")).status == 202
    await until(lambda: asked == [pod])
    api.write(pod, "saved\n")
    api.exit(pod, 143)
    await house.reach(job_id, "cancelled")
    run = (await house.job(job_id))["runs"][0]
    assert (run["outcome"], run["output"]) == ("cancelled", "saved\n")
    await until(lambda: not api.jobs)
    assert not api.objects["secrets"]


@pytest.mark.parametrize("whose", ["worker", "cluster"])
async def test_a_job_whose_time_is_up(
    api: JobCluster, deploy: Deploy, template: Path, whose: str
) -> None:
    timeout = 1 if whose == "worker" else 30
    house = deploy(**settings(api, template, timeout=timeout, max_attempts=1))
    await house.all()
    job_id = await begun(house)
    await podded(api, job_id)
    if whose == "cluster":
        api.overdue(f"carbon-{job_id}-1")
    await house.reach(job_id, "failed")
    run = (await house.job(job_id))["runs"][0]
    assert run["outcome"] == "timeout"
    assert run["error"].startswith(f"timed out after {timeout} s")


async def test_a_job_that_no_node_takes_times_out_and_says_so(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template, timeout=1, max_attempts=1))
    await house.all()
    job_id = await begun(house)
    pod = await podded(api, job_id, start=False)
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}
    api.pods[pod]["status"]["conditions"] = [why]
    await house.reach(job_id, "failed")
    run = (await house.job(job_id))["runs"][0]
    assert run["error"] == "timed out after 1 s; it waited: Unschedulable: full"


async def test_an_interruptible_job_is_suspended_and_goes_on_as_another_attempt(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**planning(**settings(api, template)))
    await observed(house, 100, 300, 300, 300)
    await house.all()
    await house.routing()
    job_id = await house.post(
        "train", deadline="5h", expected_duration="2h", interruptible=True, payload={"n": 1}
    )
    await house.reach(job_id, "running", timeout=15)
    pod = await podded(api, job_id)
    suspended: list[bool] = []

    def save(pod: str) -> None:
        suspended.append(job_object(api, job_id)["spec"]["suspend"])
        api.write(pod, "saved\n")
        api.exit(pod, 143)

    api.on_term = save
    await observed(house, 300, 300, 50, 50, 50)  # greener in two hours
    await house.reach(job_id, "deferred")
    assert suspended == [True]
    await until(lambda: not api.jobs)
    run = (await house.job(job_id))["runs"][0]
    assert (run["outcome"], run["output"], run["exit_code"]) == ("suspended", "saved\n", 143)
    await observed(house, 10, 300, 300, 300)
    await house.reach(job_id, "running")
    again = await podded(api, job_id)
    assert again.startswith(f"carbon-{job_id}-2")
    assert api.environment(again)["CARBON_FENCE"] == "2"
    assert api.payload(again) == b'{"n": 1}'
    api.exit(again, 0)
    await house.reach(job_id, "completed")
    assert [run["outcome"] for run in (await house.job(job_id))["runs"]] == [
        "suspended",
        "completed",
    ]
    assert pod != again


async def test_who_comes_to_the_end_in_the_grace_is_completed(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**planning(**settings(api, template)))
    await observed(house, 100, 300, 300, 300)
    await house.all()
    await house.routing()
    job_id = await house.post("train", deadline="5h", expected_duration="2h", interruptible=True)
    await house.reach(job_id, "running", timeout=15)
    await podded(api, job_id)
    api.on_term = lambda pod: api.exit(pod, 0)
    await observed(house, 300, 300, 50, 50, 50)
    await house.reach(job_id, "completed")


async def test_a_worker_that_leaves_ends_its_jobs_and_they_run_elsewhere(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template), drain=0.05)
    await house.gateway()
    house.router()
    first = house.worker("fast")
    job_id = await begun(house)
    await podded(api, job_id)
    await first.stop()
    house.parts.remove(first)
    assert (await house.job(job_id))["runs"][0]["outcome"] == "interrupted"
    assert not api.jobs
    house.worker("fast")
    pod = await podded(api, job_id)
    api.exit(pod, 0)
    await house.reach(job_id, "completed")


async def test_who_is_asked_twice_to_leave_leaves_at_once(api: JobCluster, tmp_path: Path) -> None:
    template = check(msgspec.yaml.decode(TEMPLATE))
    attempt = Attempt(
        job_id="twice",
        number=1,
        type="train",
        pool="fast",
        project="default",
        deployment="carbon",
        timeout=30,
        grace=20,
        environment={},
    )
    cluster = Cluster(Access(api.url, "jobs", api.token_file))
    running = asyncio.create_task(
        run_pod(cluster, template, attempt, b"{}", OutputTail(100), cancel=asyncio.Event())
    )
    await podded(api, "twice")
    asked: list[str] = []
    api.on_term = asked.append
    running.cancel()
    await until(lambda: asked)
    running.cancel()
    async with asyncio.timeout(5):
        ended = await running
    await cluster.aclose()
    assert (ended.stopped, ended.done) == ("interrupted", False)
    assert ended.limitations == ("its Job may still run: its pod does not end",)
    assert "deletionTimestamp" in job_object(api, "twice")["metadata"]
