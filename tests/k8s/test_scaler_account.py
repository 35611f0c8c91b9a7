"""What the scaler's service account may do: what it needs, and nothing else at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from real_cluster import LEASE, WORKERS, Namespace, Rule

from carbon_orchestrator.kubernetes.cluster import MERGE_PATCH, Cluster, ClusterError

pytestmark = pytest.mark.k8s

REVIEWS = "/apis/authorization.k8s.io/v1"


@pytest.fixture
async def asked(applied: Namespace) -> AsyncIterator[Cluster]:
    """The API server, as the scaler's pod asks it."""
    cluster = Cluster(await applied.access(await applied.account("scaler")))
    yield cluster
    await cluster.aclose()


async def rules(cluster: Cluster) -> set[Rule]:
    """All that whoever asks may do in its name space, one verb on one thing each."""
    review = {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"namespace": cluster.access.namespace},
    }
    answer = await cluster.request("POST", f"{REVIEWS}/selfsubjectrulesreviews", review)
    return {
        Rule(verb, group, resource, name)
        for rule in answer["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
    }


async def test_its_role_is_what_it_needs_beyond_what_every_account_may(
    applied: Namespace, asked: Cluster
) -> None:
    await applied.kubectl("create", "serviceaccount", "nobody")
    nobody = Cluster(await applied.access("nobody"))
    try:
        more = await rules(asked) - await rules(nobody)
    finally:
        await nobody.aclose()
    assert more == {
        *(
            Rule(verb, "apps", "deployments/scale", name)
            for verb in ("get", "patch")
            for name in WORKERS
        ),
        *(Rule(verb, "coordination.k8s.io", "leases", LEASE) for verb in ("get", "update")),
    }


async def may(cluster: Cluster, verb: str, **attributes: str) -> bool:
    """Whether the API server says that we may."""
    asked = {"namespace": cluster.access.namespace, "verb": verb, **attributes}
    review = {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": asked},
    }
    answer = await cluster.request("POST", f"{REVIEWS}/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


async def test_it_may_scale_the_workers_of_its_own_name_space_only(asked: Cluster) -> None:
    scale = {"group": "apps", "resource": "deployments", "subresource": "scale"}
    assert await may(asked, "patch", **scale, name="worker-fast")
    assert not await may(asked, "patch", **scale, name="gateway")
    assert not await may(asked, "patch", **scale, name="worker-fast", namespace="default")
    assert not await may(asked, "update", **scale, name="worker-fast")
    assert not await may(asked, "patch", group="apps", resource="deployments", name="worker-fast")


def requests(namespace: str) -> dict[str, tuple[str, str, dict[str, Any] | None]]:
    """What someone might try who got hold of the scaler's token."""
    apps = f"/apis/apps/v1/namespaces/{namespace}"
    core = f"/api/v1/namespaces/{namespace}"
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    size, image = {"spec": {"replicas": 0}}, {"spec": {"template": {"spec": {"hostPID": True}}}}
    named = {"metadata": {"name": "mine"}}
    return {
        "stop the gateway": ("PATCH", f"{apps}/deployments/gateway/scale", size),
        "stop workers elsewhere": (
            "PATCH",
            "/apis/apps/v1/namespaces/default/deployments/worker-fast/scale",
            size,
        ),
        "change what workers run": ("PATCH", f"{apps}/deployments/worker-fast", image),
        "remove workers": ("DELETE", f"{apps}/deployments/worker-fast", None),
        "list deployments": ("GET", f"{apps}/deployments", None),
        "read secrets": ("GET", f"{core}/secrets", None),
        "read the configuration": ("GET", f"{core}/configmaps", None),
        "run a pod": ("POST", f"{core}/pods", {"kind": "Pod", "apiVersion": "v1", **named}),
        "take another lease": ("GET", f"{leases}/other", None),
        "remove the lease": ("DELETE", f"{leases}/{LEASE}", None),
        "make a lease": (
            "POST",
            leases,
            {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", **named},
        ),
        "give itself more": ("GET", bindings, None),
        "look at nodes": ("GET", "/api/v1/nodes", None),
    }


async def test_whatever_else_it_asks_for_is_refused(asked: Cluster) -> None:
    for what, (method, path, body) in requests(asked.access.namespace).items():
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        with pytest.raises(ClusterError, match="our Role does not allow") as refused:
            await asked.request(method, path, body, kind)
        assert refused.value.status == 403, what
