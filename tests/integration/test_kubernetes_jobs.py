"""Jobs that run as batch/v1 Jobs of a cluster, through the whole orchestrator."""

from __future__ import annotations

import asyncio
import copy
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from deployment import Deploy, Deployment
from job_cluster import JobCluster
from test_planning import observed, planning

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import ConfigError, JobType, Kubernetes, load
from carbon_orchestrator.kubernetes.cluster import Access, Cluster
from carbon_orchestrator.kubernetes.job_template import Attempt, check
from carbon_orchestrator.worker import pod as pod_module
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.pod import run_pod
from streams.testing import until

HERE = Path(__file__).parent
TEMPLATE = """
apiVersion: batch/v1
kind: Job
metadata:
  labels: { team: research }
spec:
  template:
    spec:
      containers:
        - name: main
          image: registry.example.org/train:1
          env:
            - { name: DATA, value: /data/$(CARBON_JOB_ID) }
            - { name: CARBON_FENCE, value: forged }
          resources: { requests: { cpu: 500m } }
        - name: logs
          image: registry.example.org/logs:1
          resources: { requests: { cpu: "1.5" } }
      volumes:
        - name: checkpoints
          persistentVolumeClaim: { claimName: checkpoints }
"""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[JobCluster]:
    api = JobCluster(tmp_path / "token")
    await api.start(None)
    yield api
    await api.stop()
    assert api.faults == []


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(TEMPLATE)
    return path


def settings(api: JobCluster, template: Path, **more: Any) -> dict[str, Any]:
    """Fields of a configuration with a job type `train`; `more`: fields of it."""
    fields: dict[str, Any] = {"timeout": 30, "grace": 1, "expected_duration": 0.01, **more}
    return {
        "types": {"train": JobType(kubernetes=str(template), env={"EPOCHS": "3"}, **fields)},
        "kubernetes": Kubernetes(
            api_server=api.url, namespace="jobs", token_file=str(api.token_file)
        ),
    }


async def begun(house: Deployment, **fields: Any) -> str:
    """A job that is with a worker."""
    job_id = await house.post("train", **{"urgency": "urgent", **fields})
    await house.reach(job_id, "running")
    return job_id


async def podded(api: JobCluster, job_id: str, *, start: bool = True) -> str:
    """The job's pod, which runs."""
    name = await until(lambda: api.pod_of(job_id))
    assert name is not None
    if start:
        api.begin(name)
    return name


def job_object(api: JobCluster, job_id: str) -> Any:
    (found,) = [
        each
        for each in api.jobs.values()
        if each["metadata"]["labels"]["carbon-orchestrator/job"] == job_id
    ]
    return found


# -- from beginning to end -------------------------------------------------------------------------


async def test_a_job_runs_in_a_pod(api: JobCluster, deploy: Deploy, template: Path) -> None:
    house = deploy(**settings(api, template))
    await house.all()
    job_id = await begun(house, payload={"n": 3}, project="team@x/y")
    pod = await podded(api, job_id, start=False)
    made = job_object(api, job_id)
    assert made["metadata"]["name"] == f"carbon-{job_id}-1"
    assert made["metadata"]["labels"]["team"] == "research"
    assert made["metadata"]["labels"]["carbon-orchestrator/project"] == "team_x_y"
    spec = made["spec"]["template"]["spec"]
    assert (made["spec"]["activeDeadlineSeconds"], spec["terminationGracePeriodSeconds"]) == (30, 1)
    assert spec["automountServiceAccountToken"] is False
    environment = api.environment(pod)
    assert environment["CARBON_JOB_ID"] == job_id
    assert (environment["CARBON_ATTEMPT"], environment["CARBON_FENCE"]) == ("1", "1")
    assert (environment["CARBON_POOL"], environment["EPOCHS"]) == ("fast", "3")
    assert environment["DATA"] == "/data/$(CARBON_JOB_ID)"
    assert list(environment).index("DATA") > list(environment).index("CARBON_JOB_ID")
    mounts = {each["name"]: each for each in spec["containers"][0]["volumeMounts"]}
    assert mounts["checkpoints"]["subPath"] == job_id
    assert environment["CARBON_CHECKPOINT_DIR"] == mounts["checkpoints"]["mountPath"]
    assert api.payload(pod) == b'{"n": 3}'
    assert '"n"' not in str(api.jobs) + str(api.pods), "the payload is in the Secret only"
    api.begin(pod, ago=10)
    api.write(pod, "one\ntwo\n")
    api.write(pod, "CARBON_PROGRESS 0.5 half of it\n")
    await until(lambda: _progress(house, job_id, 0.5))
    log = await house.http("GET", f"/jobs/{job_id}/logs", headers={"Accept": "text/plain"})
    assert log.body.startswith(b"one\ntwo\n")
    api.write(pod, "three\n")
    api.exit(pod, 0)
    await house.reach(job_id, "completed")
    job = await house.job(job_id)
    (run,) = job["runs"]
    assert run["output"] == "one\ntwo\nCARBON_PROGRESS 0.5 half of it\nthree\n"
    assert run["exit_code"] == 0
    # 2 CPUs for the 10 s and a bit that the pod was there, 8 W each: an estimate, and told as one.
    assert run["energy_method"] == "cpu-request-model"
    assert run["energy_uncertainty"] == 1.0
    assert 2 * 8 * 10_000 <= run["energy_mj"] <= 2 * 8 * 15_000
    assert list(api.jobs) == [f"carbon-{job_id}-1"], "it stays to be looked at, for its time"


async def _progress(house: Deployment, job_id: str, fraction: float) -> bool:
    progress = (await house.job(job_id)).get("progress") or {}
    return progress.get("fraction") == fraction


@pytest.mark.parametrize(
    ("code", "reason", "status", "error"),
    [
        (3, "", {}, "exit code 3"),
        (137, "OOMKilled", {}, "OOMKilled: exit code 137"),
        (
            137,
            "",
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource: memory.",
        ),
    ],
)
async def test_why_it_failed_is_told(
    api: JobCluster,
    deploy: Deploy,
    template: Path,
    code: int,
    reason: str,
    status: dict[str, str],
    error: str,
) -> None:
    house = deploy(**settings(api, template, max_attempts=2))
    await house.all()
    job_id = await begun(house)
    for number in (1, 2):
        pod = await podded(api, job_id)
        api.write(pod, f"attempt {number}\n")
        api.exit(pod, code, reason, status)
        await until(lambda number=number: house.field(job_id, f"{number}.finished"))
    await house.reach(job_id, "failed")
    job = await house.job(job_id)
    assert [run["error"] for run in job["runs"]] == [error] * 2
    assert [run["output"] for run in job["runs"]] == ["attempt 1\n", "attempt 2\n"]
    assert job["runs"][0]["exit_code"] == code


async def test_what_the_api_server_does_not_take_fails_with_its_words(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template, max_attempts=1))
    await house.all()
    api.role["jobs"].discard("create")
    job_id = await house.post("train", urgency="urgent")
    await house.reach(job_id, "failed")
    assert "our Role does not allow POST" in (await house.job(job_id))["reason"]
    api.role["jobs"].add("create")
    api.role["secrets"].clear()
    job_id = await house.post("train", urgency="urgent")
    await house.reach(job_id, "failed")
    assert "secrets" in (await house.job(job_id))["reason"]
    assert (api.jobs, api.pods) == ({}, {}), "nothing is left that never ran"


async def test_a_pod_that_cannot_start_is_given_up(
    api: JobCluster, deploy: Deploy, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_module, "_STUCK", 0.3)
    house = deploy(**settings(api, template, max_attempts=1))
    await house.all()
    job_id = await begun(house)
    pod = await podded(api, job_id, start=False)
    api.wait(pod, "ContainerCreating")
    api.wait(pod, "ImagePullBackOff", 'Back-off pulling image "train:1"')
    await house.reach(job_id, "failed")
    run = (await house.job(job_id))["runs"][0]
    assert run["error"] == (
        'its pod does not start: ImagePullBackOff: Back-off pulling image "train:1"'
    )
    assert run.get("energy_mj", 0) == 0
    await until(lambda: not api.jobs)


async def test_a_job_that_somebody_deletes_has_failed(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template, max_attempts=1))
    await house.all()
    job_id = await begun(house)
    await podded(api, job_id)
    job = job_object(api, job_id)
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    api._control(job)
    await house.reach(job_id, "failed")
    assert (await house.job(job_id))["reason"] == "its Job was deleted by somebody else"


# -- ended from outside ----------------------------------------------------------------------------


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
    assert (run["outcome"], run["output"]) == ("suspended", "saved\n")
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


# -- what goes wrong -------------------------------------------------------------------------------


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


# -- workers that die ------------------------------------------------------------------------------


@pytest.fixture
def worker_process(api: JobCluster, template: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts a FAST worker that can be killed."""
    started: list[subprocess.Popen[bytes]] = []

    async def start(house: Deployment) -> subprocess.Popen[bytes]:
        await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
        config = tmp_path / "config.toml"
        config.write_text(
            f'namespace = "{house.config.namespace}"\ndefault_types = false\nlease = 1\n'
            f'[kubernetes]\napi_server = "{api.url}"\nnamespace = "jobs"\n'
            f'token_file = "{api.token_file}"\n'
            f'[types.train]\nkubernetes = "{template.name}"\ngrace = 1\ntimeout = 30\n'
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
    await house.reach(job_id, "running", timeout=15)
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
    process.wait(15)
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
    api._control(left)
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


# -- templates -------------------------------------------------------------------------------------


def test_a_template_lies_beside_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[types.train]\nkubernetes = "jobs/train.yaml"\n')
    assert load(path).types["train"].kubernetes == str(tmp_path / "jobs" / "train.yaml")
    path.write_text('namespace = "-x"\n[types.train]\nkubernetes = "/t.yaml"\n')
    with pytest.raises(ConfigError, match="a label of Jobs"):
        load(path)


async def test_a_worker_does_not_start_without_its_template_or_cluster(
    api: JobCluster, deploy: Deploy, template: Path
) -> None:
    house = deploy(**settings(api, template.with_name("none.yaml")))
    with pytest.raises(ConfigError, match=r"types\.train\.kubernetes: .*none\.yaml: No such file"):
        house.worker("fast")
    house = deploy(**{**settings(api, template), "kubernetes": Kubernetes()})
    with pytest.raises(ConfigError, match=r"\[kubernetes\] api_server and token_file"):
        house.worker("fast")
