"""Jobs that run as batch/v1 Jobs, by a real API server and its controllers."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hand_kubelet import IMAGE, Kubelet, Node
from real_cluster import ROOT, Namespace

from carbon_orchestrator import Client
from carbon_orchestrator.config import JobType, Kubernetes
from carbon_orchestrator.kubernetes.cluster import Access, Cluster, ClusterError
from carbon_orchestrator.testing import Orchestrator
from streams.testing import until

pytestmark = pytest.mark.k8s

ACCOUNT = ROOT / "k8s/components/kubernetes-jobs/account.yaml"
GRACE = 1


@pytest.fixture
async def access(namespace: Namespace) -> Access:
    """What a worker may do by the manifests, where its Jobs are in its own name space."""
    objects = list(yaml.safe_load_all(ACCOUNT.read_text()))
    for each in objects:
        for place in (each["metadata"], *each.get("subjects", [])):
            place["namespace"] = namespace.name
    await namespace.apply(objects)
    return await namespace.access("worker")


@pytest.fixture
def where() -> dict[str, str]:
    """Of the pod's spec: where it is to run. To be overridden."""
    return {"schedulerName": "nobody"}


@pytest.fixture
def orchestrator_config(access: Access, where: dict[str, str], tmp_path: Path) -> Mapping[str, Any]:
    resources = {"requests": {"cpu": "500m"}}
    container = {"name": "main", "image": IMAGE, "resources": resources}
    pod = {**where, "containers": [container]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}
    template = tmp_path / "train.yaml"
    template.write_text(yaml.safe_dump(job))
    return {
        "types": {"train": JobType(kubernetes=str(template), grace=GRACE, max_attempts=1)},
        "kubernetes": Kubernetes(
            api_server=access.server,
            namespace=access.namespace,
            token_file=str(access.token_file),
            ca_file=str(access.ca_file),
        ),
    }


@pytest.fixture
def kubelet(namespace: Namespace) -> Kubelet:
    return Kubelet(namespace)


@pytest.fixture
async def client(orchestrator: Orchestrator) -> AsyncIterator[Client]:
    """Of the orchestrator: it must not keep us from playing the rest of the cluster."""
    async with Client(orchestrator.url, api_key="") as client:
        yield client


async def submit(client: Client, **fields: Any) -> str:
    return (await client.submit("train", urgency="urgent", **fields)).id


async def test_a_job_is_a_job_of_the_cluster_and_goes_with_all_that_is_its(
    namespace: Namespace, client: Client, kubelet: Kubelet
) -> None:
    job_id = await submit(client, payload={"n": 3})
    pod = await kubelet.pod(job_id)
    name = f"carbon-{job_id}-1"
    secret = await namespace.read("secret", name)
    (payload,) = secret["data"].values()
    assert json.loads(base64.b64decode(payload)) == {"n": 3}
    (container,) = (await namespace.read("pod", pod))["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert (environment["CARBON_JOB_ID"], environment["CARBON_ATTEMPT"]) == (job_id, "1")
    await kubelet.runs(pod)
    await kubelet.ends(pod, 0)
    ended = await client.wait(job_id, timeout=20)
    assert ended.succeeded
    conditions = (await namespace.read("job", name))["status"]["conditions"]
    assert ("Complete", "True") in [(each["type"], each["status"]) for each in conditions]
    await namespace.kubectl("delete", "job", name)

    async def nothing_left() -> bool:
        left = await namespace.read("secrets,pods", "--selector=app.kubernetes.io/managed-by")
        return left["items"] == []

    await until(nothing_left, 20)


async def test_a_pod_that_fails_is_a_job_that_fails(client: Client, kubelet: Kubelet) -> None:
    job_id = await submit(client)
    pod = await kubelet.pod(job_id)
    await kubelet.runs(pod)
    await kubelet.ends(pod, 3)
    ended = await client.wait(job_id, timeout=20)
    assert (ended.state, ended.runs[-1].exit_code) == ("failed", 3)


async def test_a_job_that_is_cancelled_is_suspended_and_removed(
    namespace: Namespace, client: Client, kubelet: Kubelet
) -> None:
    if "suspend" not in await namespace.kubectl("explain", "job.spec"):
        pytest.skip("this cluster's Jobs cannot be suspended: it is older than Kubernetes 1.24")
    job_id = await submit(client)
    pod = await kubelet.pod(job_id)
    await kubelet.runs(pod)
    await client.cancel(job_id)
    ended = await client.wait(job_id, timeout=40)
    assert ended.state == "cancelled"

    async def gone() -> bool:
        return (await namespace.read("jobs,pods"))["items"] == []

    await until(gone, 20)


async def test_a_worker_is_refused_what_its_jobs_do_not_need(access: Access) -> None:
    core = f"/api/v1/namespaces/{access.namespace}"
    batch = "/apis/batch/v1/namespaces"
    wanted = [
        ("read other jobs' payloads", "GET", f"{core}/secrets"),
        ("remove a payload", "DELETE", f"{core}/secrets/any"),
        ("remove pods", "DELETE", f"{core}/pods/any"),
        ("enter a pod", "GET", f"{core}/pods/any/exec?command=sh"),
        ("read the configuration", "GET", f"{core}/configmaps"),
        ("look at jobs elsewhere", "GET", f"{batch}/default/jobs"),
        ("size pools", "GET", f"/apis/apps/v1/namespaces/{access.namespace}/deployments"),
    ]
    cluster = Cluster(access)
    try:
        for what, method, path in wanted:
            with pytest.raises(ClusterError, match="our Role does not allow") as refused:
                await cluster.request(method, path)
            assert refused.value.status == 403, what
        assert (await cluster.request("GET", f"{batch}/{access.namespace}/jobs"))["items"] == []
    finally:
        await cluster.aclose()


class TestOutput:
    """Through the API server, from the machine where the pod is."""

    @pytest.fixture
    async def node(self, namespace: Namespace, tmp_path: Path) -> AsyncIterator[Node]:
        if (await namespace.read("nodes"))["items"]:
            pytest.skip("this cluster has machines of its own, and cannot reach one of ours")
        node = Node(namespace)
        await node.start(tmp_path)
        yield node
        await node.stop()

    @pytest.fixture
    def where(self, node: Node) -> dict[str, str]:
        return {"nodeName": node.name}

    async def test_output_is_followed_over_lost_connections(
        self, client: Client, kubelet: Kubelet, node: Node
    ) -> None:
        job_id = await submit(client)
        pod = await kubelet.pod(job_id)
        await node.write("one", "two")
        await kubelet.runs(pod)

        async def there(text: str) -> bool:
            return text in "".join([piece async for piece in client.logs(job_id)])

        await until(lambda: there("two"), 20)
        await node.break_off()
        await node.write("three")
        await until(lambda: there("three"), 20)
        await node.write("four")
        await node.end()
        await kubelet.ends(pod, 0)
        ended = await client.wait(job_id, timeout=20)
        assert ended.runs[-1].output == "one\ntwo\nthree\nfour\n"
        assert node.followed >= 2
