"""Jobs that run as batch/v1 Jobs of a cluster, through the whole orchestrator."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from deployment import Deploy, Deployment
from job_cluster import ROLE, JobCluster
from pod_house import begun, job_object, podded, settings

from carbon_orchestrator.config import ConfigError, Kubernetes, load
from carbon_orchestrator.worker import pod as pod_module
from streams.testing import until

ROOT = Path(__file__).parents[3]


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


def test_a_workers_role_is_what_it_needs() -> None:
    account = ROOT / "k8s/components/kubernetes-jobs/account.yaml"
    (role,) = [each for each in yaml.safe_load_all(account.read_text()) if each["kind"] == "Role"]
    assert {rule["resources"][0]: set(rule["verbs"]) for rule in role["rules"]} == ROLE


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
