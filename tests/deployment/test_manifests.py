"""k8s/: valid, restricted, complete in itself, and with no more rights than it needs."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import product
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import SchemaNotFoundError, utils
from manifests import (
    BASE,
    EVERYTHING,
    OVERLAYS,
    Object,
    built,
    container,
    every_mapping,
    labels,
    matches,
    name_of,
    named,
    of_kind,
    pod,
    roles,
    workloads,
)

from carbon_orchestrator import __version__
from carbon_orchestrator.permissions import ROLES, user

#: Versions of Kubernetes, as docs/kubernetes.md has them.
OLDEST, NEWEST = "1.30", "1.35"
HOME = "carbon-orchestrator"
WORKERS = {"worker-fast", "worker-eco"}
#: Made by scripts/deploy-k8s.sh (test_deploy_scripts.py), beside those of an overlay.
SECRETS = {"redis-users", "redis-acl", "keda-api-key"}
CONFIG_MAPS = {"redis-ca"}
#: Who operates it has to bring these, says docs/kubernetes.md.
YOURS = {"gateway-tls"}
#: Custom resources, whose schemas kubernetes-validate has not.
FOREIGN = {"ScaledObject", "TriggerAuthentication"}

#: It would read a megabyte of definitions for each object anew.
utils.schema_contents = cache(utils.schema_contents)

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.mark.parametrize(
    ("overlay", "version"),
    [*((each, NEWEST) for each in OVERLAYS), ("overlays/production", OLDEST)],
)
def test_every_object_is_as_the_api_defines_it(overlay: str, version: str) -> None:
    unknown = {each["kind"] for each in built(overlay) if not known(json.dumps(each), version)}
    assert unknown <= FOREIGN


@cache
def known(thing: str, version: str) -> bool:
    """Whether there is a schema. Raises ValidationError where it is not met; overlays share most
    of their objects."""
    try:
        kubernetes_validate.validate(json.loads(thing), version, strict=True)
    except SchemaNotFoundError:
        return False
    return True


@every_overlay
def test_namespaces_are_restricted_and_made(overlay: str) -> None:
    namespaces = of_kind(overlay, "Namespace")
    for each, mode in product(namespaces, ("enforce", "audit", "warn")):
        label = f"pod-security.kubernetes.io/{mode}"
        assert each["metadata"]["labels"][label] == "restricted"
    where = {each["metadata"].get("namespace") for each in built(overlay)} - {None}
    assert where == set(map(name_of, namespaces))
    assert {each["metadata"]["namespace"] for each in workloads(overlay).values()} == {HOME}


@every_overlay
def test_names_are_given_once_and_labels_say_whose_they_are(overlay: str) -> None:
    names = [(e["kind"], name_of(e), e["metadata"].get("namespace")) for e in built(overlay)]
    assert len(names) == len(set(names))
    for each in built(overlay):
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "carbon-orchestrator"
    for name, workload in workloads(overlay).items():
        assert labels(workload)["app.kubernetes.io/component"] == name


@every_overlay
def test_pods_are_restricted(overlay: str) -> None:
    """Pod Security Standards, profile "restricted", and a root file system that stays as it is."""
    volumes = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for workload in workloads(overlay).values():
        spec, main = pod(workload), container(workload)
        context, own = spec["securityContext"], main["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] >= (10_001 if name_of(workload) != "redis" else 1)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {key for each in spec["volumes"] for key in each} <= volumes | {"name"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
        assert all("hostPort" not in port for port in main["ports"])


@every_overlay
def test_pods_are_told_apart_from_dead_ones(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        main = container(workload)
        ports = {port["name"]: port["containerPort"] for port in main["ports"]}
        for probe in ("livenessProbe", "readinessProbe"):
            for each in every_mapping(main[probe]):
                assert each.get("port", next(iter(ports))) in ports, (name, probe)
        if name == "redis":
            continue
        alive, ready = main["livenessProbe"], main["readinessProbe"]
        # /livez of carbon_orchestrator/probes.py, which does not ask the server.
        assert alive["httpGet"] == {"path": "/livez", "port": "probes"}
        assert alive["periodSeconds"] * alive["failureThreshold"] >= 30
        assert ready["httpGet"]["path"] == "/readyz"
        assert ready["httpGet"]["port"] == ("http" if name == "gateway" else "probes")


@every_overlay
def test_pods_ask_for_what_they_need(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        resources = container(workload)["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), name
        assert amount(resources["requests"]["memory"]) <= amount(resources["limits"]["memory"])
        # Where there is no need, no CPU is left unused.
        assert ("cpu" in resources["limits"]) == (name == "worker-eco"), name


@every_overlay
def test_a_full_server_refuses_before_it_is_killed(overlay: str) -> None:
    for workload in of_kind(overlay, "StatefulSet"):
        main = container(workload)
        most = main["args"][main["args"].index("--maxmemory") + 1].replace("mb", "M")
        # While it rewrites its file it holds what changes meanwhile twice.
        assert amount(most) <= 0.6 * amount(main["resources"]["limits"]["memory"])


@every_overlay
def test_selectors_select_what_is_meant(overlay: str) -> None:
    for workload in workloads(overlay).values():
        selector = workload["spec"]["selector"]
        chosen = [n for n, each in workloads(overlay).items() if matches(selector, labels(each))]
        assert chosen == [name_of(workload)]
        for each in pod(workload).get("topologySpreadConstraints", []):
            assert matches(each["labelSelector"], labels(workload))
    for service in of_kind(overlay, "Service"):
        selected = {"matchLabels": service["spec"]["selector"]}
        (workload,) = (e for e in workloads(overlay).values() if matches(selected, labels(e)))
        names = {port["name"] for port in container(workload)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]
        chosen = [n for n, each in workloads(overlay).items() if matches(selector, labels(each))]
        assert chosen == [name_of(budget)]


@every_overlay
def test_what_is_named_is_there(overlay: str) -> None:
    there = {(each["kind"], name_of(each)) for each in built(overlay)}
    there |= {("Secret", each) for each in SECRETS | YOURS}
    there |= {("ConfigMap", each) for each in CONFIG_MAPS}
    for each in built(overlay):
        for kind, name in mentioned(each):
            assert (kind, name) in there, f"{each['kind']} {name_of(each)} needs {kind} {name}"
    for workload in workloads(overlay).values():
        mounted = {each["name"] for each in container(workload)["volumeMounts"]}
        volumes = [each["name"] for each in pod(workload)["volumes"]]
        volumes += [name_of(e) for e in workload["spec"].get("volumeClaimTemplates", [])]
        assert mounted == set(volumes)


def mentioned(thing: Object) -> set[tuple[str, str]]:
    """Kind and name of all that an object cannot do without."""
    found = set()
    for each in every_mapping(thing):
        if each.get("optional"):
            continue
        for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if key in each:
                found.add((kind, each[key]["name"]))
        for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if key in each and not each[key].get("optional"):
                found.add((kind, each[key]["name"]))
        if "secretName" in each:
            found.add(("Secret", each["secretName"]))
        if isinstance(each.get("configMap"), dict):
            found.add(("ConfigMap", each["configMap"]["name"]))
        if "claimName" in each:
            found.add(("PersistentVolumeClaim", each["claimName"]))
        if "serviceAccountName" in each:
            found.add(("ServiceAccount", each["serviceAccountName"]))
        if thing["kind"] == "Ingress" and "service" in each:
            found.add(("Service", each["service"]["name"]))
        if "secretTargetRef" in each:
            found |= {("Secret", target["name"]) for target in each["secretTargetRef"]}
        if "authenticationRef" in each:
            found.add(("TriggerAuthentication", each["authenticationRef"]["name"]))
        if "scaleTargetRef" in each:
            found.add(("Deployment", each["scaleTargetRef"]["name"]))
        if "roleRef" in each:
            found.add((each["roleRef"]["kind"], each["roleRef"]["name"]))
            found |= {(subject["kind"], subject["name"]) for subject in each["subjects"]}
    return found


@every_overlay
def test_applying_it_again_does_not_undo_the_scaler(overlay: str) -> None:
    assert set(roles(overlay)) >= WORKERS
    for name, workload in workloads(overlay).items():
        assert ("replicas" in workload["spec"]) == (name not in WORKERS)


@every_overlay
def test_only_who_speaks_with_the_api_server_has_a_token(overlay: str) -> None:
    with_token = {
        name: pod(each)["serviceAccountName"]
        for name, each in workloads(overlay).items()
        if pod(each).get("automountServiceAccountToken") is not False
    }
    scaler = {"scaler": "scaler"} if "keda" not in overlay else {}
    workers = dict.fromkeys(WORKERS, "worker") if "kubernetes-jobs" in overlay else {}
    assert with_token == scaler | workers
    for account in of_kind(overlay, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    bound = [subject for each in of_kind(overlay, "RoleBinding") for subject in each["subjects"]]
    assert {each["name"] for each in bound} == set(with_token.values())
    assert {each["namespace"] for each in bound} <= {HOME}
    assert not of_kind(overlay, "ClusterRole", "ClusterRoleBinding")


def test_workers_may_make_jobs_and_read_nothing_but_their_output() -> None:
    role = named(EVERYTHING, "Role", "worker")
    (namespace,) = (e for e in of_kind(EVERYTHING, "Namespace") if name_of(e) != HOME)
    assert role["metadata"]["namespace"] == name_of(namespace), "apart from all that is ours"
    allowed = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    jobs = {("jobs", verb) for verb in ("create", "get", "list", "watch", "patch", "delete")}
    pods = {("pods", "list"), ("pods", "watch"), ("pods/log", "get")}
    assert allowed == jobs | pods | {("secrets", "create")}


@every_overlay
def test_the_scaler_may_scale_the_workers_and_nothing_else(overlay: str) -> None:
    if "keda" in overlay:
        assert not of_kind(overlay, "Lease")
        assert "scaler" not in {name_of(each) for each in of_kind(overlay, "Role", "Deployment")}
        return
    (lease,) = of_kind(overlay, "Lease")
    assert named(overlay, "Role", "scaler")["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": ["worker-fast", "worker-eco"],
            "verbs": ["get", "patch"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [name_of(lease)],
            "verbs": ["get", "update"],
        },
    ]
    assert "spec" not in lease, "who leads is not ours to say, when it is applied again"
    assert pod(roles(overlay)["scaler"])["serviceAccountName"] == "scaler"


@every_overlay
def test_images_are_of_one_version(overlay: str) -> None:
    for name, workload in workloads(overlay).items():
        image, _, tag = container(workload)["image"].rpartition(":")
        assert re.fullmatch(r"[0-9]+\.[0-9]+[a-z0-9.-]*", tag), "not what is there today"
        assert (image, tag) == ("carbon-orchestrator", __version__) or name == "redis"


@every_overlay
def test_passwords_are_those_of_users_that_the_acl_file_has(overlay: str) -> None:
    users = {user("carbon", role) for role in ROLES}
    for each in built(overlay):
        for found in every_mapping(each):
            reference = found.get("secretKeyRef", {})
            if reference.get("name") == "redis-users":
                assert reference["key"] in users
        assert each["kind"] != "Secret", "no secret stands in this repository"


def test_the_base_is_the_whole_deployment() -> None:
    assert set(workloads(BASE)) == {
        *("redis", "gateway", "signal", "router", "accounting", "scaler"),
        *WORKERS,
    }


def amount(text: Any) -> float:
    """Bytes."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    units = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "M": 2**20}
    return float(number) * units[unit]
