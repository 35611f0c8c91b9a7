"""An operator's template of a Job: what it may say, and what an attempt makes of it."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.kubernetes.job_template import Attempt, check, job_of, load, secret_of

TEMPLATE: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "any", "creationTimestamp": None, "annotations": {"a": "b"}},
    "spec": {
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {"name": "main", "image": "i", "resources": {"requests": {"cpu": "500m"}}}
                ],
            }
        }
    },
    "status": {},
}


def template(**pod: Any) -> dict[str, Any]:
    made = copy.deepcopy(TEMPLATE)
    made["spec"]["template"]["spec"] |= pod
    return made


def attempt(**changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "job_id": "01m8qadg4zb6j43sfqq0yc8p52-0",
        "number": 3,
        "type": "train",
        "pool": "eco",
        "project": "default",
        "deployment": "carbon",
        "timeout": 1.5,
        "grace": 0.2,
        "environment": {"CARBON_ATTEMPT": "3"},
        **changes,
    }
    return Attempt(**fields)


def container(name: str, cpu: str | float | None = None, **more: Any) -> dict[str, Any]:
    resources = {} if cpu is None else {"resources": {"limits": {"cpu": cpu}}}
    return {"name": name, "image": "i", **resources, **more}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "CronJob"}, "must be one Job: apiVersion: batch/v1, kind: Job"),
        ({"metadata": {"namespace": "x"}}, r"set \[kubernetes\] namespace"),
        ({"metadata": []}, "metadata: must be a mapping"),
        ({"spec": {}}, "spec.template: must be a mapping"),
        ({"spec": {"template": {}}}, "spec.template.spec: must be a mapping"),
        ({"spec": {"backoffLimit": 3}}, "set the type's max_attempts instead"),
        ({"spec": {"activeDeadlineSeconds": 3}}, "set the type's timeout instead"),
        ({"spec": {"parallelism": 3}}, "a job is one pod that runs once"),
    ],
)
def test_what_is_not_a_templates_to_say_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check({**TEMPLATE, **change})


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"restartPolicy": "OnFailure"}, "restartPolicy must be Never"),
        ({"terminationGracePeriodSeconds": 5}, "set the type's grace instead"),
        ({"containers": []}, "needs at least one"),
        ({"containers": [{"image": "i"}]}, "containers: must be a list, each with a name"),
        ({"volumes": {"data": {}}}, "volumes: must be a list, each with a name"),
        ({"containers": [container("main")]}, r"give resources\.requests\.cpu"),
        ({"containers": [container("main", "much")]}, "main: 'much' CPUs: write 2, 0.5 or 500m"),
    ],
)
def test_pods_that_cannot_be_one_attempt_are_refused(pod: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(template(**pod))


_SCRAPS = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from(["1", "main", "Never", "checkpoints"]),
    lambda parts: (
        st.lists(parts, max_size=2)
        | st.dictionaries(
            st.sampled_from(["name", "env", "resources", "requests", "cpu", "volumeMounts"]),
            parts,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(["containers", "initContainers", "volumes", "restartPolicy", "x"]),
    _SCRAPS,
    st.sampled_from(["labels", "annotations", "generateName", "x"]),
    _SCRAPS,
)
def test_what_is_accepted_can_be_made_a_job(
    field: str, value: object, metadata: str, text: object
) -> None:
    made = template(**{field: value})
    made["metadata"] = {metadata: text}
    made["spec"]["template"]["metadata"] = {metadata: text}
    try:
        checked = check(made)
    except ConfigError:
        return
    assert job_of(checked, attempt())["metadata"]["name"] == attempt().name


def test_the_main_container_is_the_first_or_as_kubectl_has_it() -> None:
    made = template(containers=[container("proxy", 1), container("work", 1)])
    assert check(made).container == "proxy"
    annotations = {"kubectl.kubernetes.io/default-container": "work"}
    made["spec"]["template"]["metadata"] = {"annotations": annotations}
    assert check(made).container == "work"
    annotations["kubectl.kubernetes.io/default-container"] = "wrok"
    with pytest.raises(ConfigError, match="names 'wrok', which is none of the containers"):
        check(made)


def test_what_runs_all_the_time_counts() -> None:
    made = template(
        initContainers=[container("sidecar", 0.25, restartPolicy="Always"), container("once", 8)],
        containers=[container("main", "1500m"), container("idle")],
    )
    assert check(made).cpus == 1.75
    assert not check(made).gpus
    gpus = {"limits": {"cpu": 1, "nvidia.com/gpu": 1}}
    assert check(template(containers=[{"name": "main", "resources": gpus}])).gpus


def test_a_job_is_the_template_and_the_attempt() -> None:
    made = template(
        volumes=[{"name": "data", "emptyDir": {}}],
        initContainers=[container("fetch")],
        containers=[
            container("main", 1, env=[{"name": "A", "value": "1"}, {"name": "CARBON_ATTEMPT"}])
        ],
    )
    before = copy.deepcopy(made)
    job = job_of(check(made), attempt())
    assert made == before, "the template is for the next one, too"
    assert job["metadata"]["name"] == "carbon-01m8qadg4zb6j43sfqq0yc8p52-0-3"
    assert job["metadata"]["annotations"] == {"a": "b"}
    assert "status" not in job
    assert "creationTimestamp" not in job["metadata"]
    spec = job["spec"]
    assert (spec["suspend"], spec["backoffLimit"], spec["completions"]) == (True, 0, 1)
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (2, 3600)
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 1)
    assert [each["name"] for each in pod["volumes"]] == ["data", "carbon-payload"]
    for each in (*pod["initContainers"], *pod["containers"]):
        assert each["env"][0] == {"name": "CARBON_ATTEMPT", "value": "3"}
        assert [mount["name"] for mount in each["volumeMounts"]] == ["carbon-payload"]
    names = [each["name"] for each in pod["containers"][0]["env"]]
    assert names == ["CARBON_ATTEMPT", "CARBON_PAYLOAD_FILE", "A"]
    # What takes a Job over changes its label; its pod keeps its own.
    assert job["metadata"]["labels"]["carbon-orchestrator/attempt"] == "3"
    assert "carbon-orchestrator/attempt" not in spec["template"]["metadata"]["labels"]


def test_the_operators_time_to_live_and_account_stay() -> None:
    made = template(automountServiceAccountToken=True)
    made["spec"]["ttlSecondsAfterFinished"] = 0
    spec = job_of(check(made), attempt())["spec"]
    assert spec["ttlSecondsAfterFinished"] == 0
    assert spec["template"]["spec"]["automountServiceAccountToken"] is True


@pytest.mark.parametrize(
    ("text", "value"),
    [("team@x/y", "team_x_y"), ("@", ""), ("a" * 70, "a" * 63), ("_a.", "a"), ("ä-1", "1")],
)
def test_labels_are_what_a_cluster_takes(text: str, value: str) -> None:
    labels = job_of(check(TEMPLATE), attempt(project=text))["metadata"]["labels"]
    assert labels["carbon-orchestrator/project"] == value


def test_names_fit_and_are_no_paths() -> None:
    assert attempt().nameable
    # A pod's name has six characters more.
    assert len(attempt(job_id="0" * 26 + "-99999", number=99999).name) + 6 <= 63
    for bad in ("", "A", "a/b", "..", "a_b", "-a", "a" * 41):
        assert not attempt(job_id=bad).nameable, bad


def test_the_payload_is_in_a_secret_of_the_jobs() -> None:
    secret = secret_of(attempt(), b'{"n": 1}', "uid-7")
    assert base64.b64decode(secret["data"]["payload.json"]) == b'{"n": 1}'
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["name"], owner["uid"]) == (attempt().name, "uid-7")


def test_the_example_in_the_docs_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs/kubernetes-jobs.md").read_text()
    (example,) = [each for each in text.split("```") if "kind: Job" in each]
    checked = check(msgspec.yaml.decode(example.removeprefix("yaml")))
    assert (checked.cpus, checked.container) == (4, "train")
    (main,) = job_of(checked, attempt())["spec"]["template"]["spec"]["containers"]
    assert "checkpoints" in [each["name"] for each in main["volumeMounts"]]


def test_files_are_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    with pytest.raises(ConfigError, match=r"t\.yaml: No such file"):
        load(path)
    for text in ("a: [", "a: 1\n---\nb: 2\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"t\.yaml: not one YAML document"):
            load(path)
    path.write_text("")
    with pytest.raises(ConfigError, match=r"t\.yaml: must be one Job"):
        load(path)
