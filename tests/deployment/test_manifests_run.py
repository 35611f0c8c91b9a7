"""What the manifests tell programs, as the programs themselves take it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from manifests import (
    BASE,
    EVERYTHING,
    OVERLAYS,
    ROOT,
    configuration,
    container,
    environment,
    kustomized,
    name_of,
    named,
    of_kind,
    pod,
    roles,
)
from redis.backoff import NoBackoff
from redis.retry import Retry

from carbon_orchestrator.cli.main import app
from carbon_orchestrator.cli.scaler import _deployments
from carbon_orchestrator.config import Config, load
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.permissions import acl, new_passwords, user
from streams.embedded import free_port, server_program
from streams.testing import until

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Config]:
    """The configuration that an overlay gives to all roles."""

    def load_it(overlay: str) -> Config:
        file = tmp_path / "carbon.toml"
        file.write_text(configuration(overlay))
        return load(file)

    return load_it


def options(arguments: list[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What the command line makes of them. Raises CycloptsError."""
    command, bound, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
    return command, dict(bound.arguments)


@every_overlay
def test_the_program_understands_every_command(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, role in roles(overlay).items():
        main = container(role)
        assert "command" not in main, "the image's own begins with what reaps processes"
        given = environment(role)
        for variable in ("CARBON_REDIS_URL", "CARBON_CONFIG", "CARBON_PROBE_PORT"):
            monkeypatch.setenv(variable, given[variable])
        command, bound = options(main["args"])
        ports = {port["name"]: port["containerPort"] for port in main["ports"]}
        assert bound["probe_port"] == ports["probes"]
        assert str(bound["config"]) == "/etc/carbon-orchestrator/carbon.toml"
        assert bound["redis"] == given["CARBON_REDIS_URL"]
        expected = {"signal": "publish", "worker-fast": "worker", "worker-eco": "worker"}
        assert command.__name__ == expected.get(name, name)
        if name == "gateway":
            assert (bound["host"], bound["port"]) == ("0.0.0.0", ports["http"])
        if command.__name__ == "worker":
            assert f"worker-{bound['pool']}" == name
        if name == "scaler":
            assert bound["actuator"] == "kubernetes"


@every_overlay
def test_pods_are_what_the_image_is_made_for(overlay: str) -> None:
    file = (ROOT / "Dockerfile").read_text()
    ((uid, gid),) = re.findall(r"^USER (\d+):(\d+)$", file, re.M)
    (data,) = re.findall(r"CARBON_DATA_DIR=(\S+)", file)
    for role in roles(overlay).values():
        context = pod(role)["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (int(uid), int(gid))
        assert context["fsGroup"] == int(gid), "or it could not write to its volumes"
        assert environment(role)["CARBON_DATA_DIR"] == data
    assert f"useradd --uid {uid}" in file


@every_overlay
def test_every_role_logs_in_as_itself(overlay: str) -> None:
    for role in roles(overlay).values():
        login = environment(role)
        name = user("carbon", container(role)["args"][0])
        assert login["CARBON_REDIS_USERNAME"] == name
        password = {"secretKeyRef": {"name": "redis-users", "key": name}}
        assert login["CARBON_REDIS_PASSWORD"] == password


@every_overlay
def test_every_role_finds_its_files(overlay: str, loaded: Callable[[str], Config]) -> None:
    archive = loaded(overlay).archive.directory
    shared = "checkpoints" in map(name_of, of_kind(overlay, "PersistentVolumeClaim"))
    for name, role in roles(overlay).items():
        mounts = {each["mountPath"]: each for each in container(role)["volumeMounts"]}
        assert environment(role)["CARBON_DATA_DIR"] == "/data"
        places = {"/etc/carbon-orchestrator", "/data", "/tmp"}
        if signer := environment(role).get("CARBON_REDIS_CA"):
            places.add(str(Path(signer).parent))
        if name == "accounting":
            places.add(str(archive))
        if shared and name == "gateway":
            places.add(str(archive))
            assert mounts[str(archive)]["readOnly"]
        if shared and name.startswith("worker-"):
            places.add("/data/checkpoints")
        assert set(mounts) == places, name


@every_overlay
def test_a_worker_may_take_as_long_to_leave_as_it_is_told(
    overlay: str, loaded: Callable[[str], Config]
) -> None:
    config = loaded(overlay)
    # After `drain` a command has its `grace`, and the worker a minute, and 10 s for its leave.
    grace = max(seconds(each.grace) for each in config.types.values())
    for pool in POOLS:
        given = pod(roles(overlay)[f"worker-{pool}"])["terminationGracePeriodSeconds"]
        assert given >= seconds(config.drain) + max(grace, 60) + 20


@every_overlay
def test_slots_are_said_and_not_guessed_from_the_node(
    overlay: str, loaded: Callable[[str], Config]
) -> None:
    config = loaded(overlay)
    assert not any(config.pools[pool].cpus for pool in POOLS)
    for pool in POOLS:
        assert f"[pools.{pool}]\nslots = " in configuration(overlay)
        assert pool in config.scaler.pools


@every_overlay
def test_the_scaler_asks_for_what_its_role_names(overlay: str) -> None:
    if "scaler" not in roles(overlay):
        return
    scale, lease = named(overlay, "Role", "scaler")["rules"]
    _, bound = options(container(roles(overlay)["scaler"])["args"])
    assert scale["resourceNames"] == [*_deployments(bound.get("deployment") or []).values()]
    assert lease["resourceNames"] == [bound.get("lease", "carbon-orchestrator-scaler")]
    assert bound.get("namespace") is None, "the pod's own"


def test_keda_keeps_the_same_limits(loaded: Callable[[str], Config]) -> None:
    overlay = "overlays/keda"
    config = loaded(overlay)
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]
        for each in of_kind(overlay, "ScaledObject")
    }
    assert set(scaled) == {f"worker-{pool}" for pool in POOLS}
    for pool in POOLS:
        spec, limits = scaled[f"worker-{pool}"], config.scaler.pools[pool]
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (limits.min, limits.max)
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        up, down = behavior["scaleUp"], behavior["scaleDown"]
        assert up["tolerance"] == down["tolerance"] == "0"
        assert down["stabilizationWindowSeconds"] == seconds(config.scaler.window)
        assert spec["cooldownPeriod"] == seconds(config.scaler.window)
        assert up["policies"][0]["value"] == config.scaler.step
        assert up["policies"][0]["periodSeconds"] == seconds(config.scaler.up_every)
        assert down["policies"][0]["value"] == config.scaler.down_step
        assert down["policies"][0]["periodSeconds"] == seconds(config.scaler.down_every)
        (trigger,) = spec["triggers"]
        assert trigger["metricType"] == "AverageValue", "the only one that a fallback works with"
        assert trigger["metadata"]["url"].endswith(f":8000/pools/{pool}/demand")
        assert trigger["metadata"]["valueLocation"] == "workers"
        assert float(trigger["metadata"]["targetValue"]) == 1


JOB = """
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      containers:
        - name: train
          image: registry.example.org/team/train:1
"""


def test_the_overlay_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    (overlay,) = re.findall(
        r"```yaml\n# k8s/overlays/mine/kustomization.yaml\n(.*?)```", page, re.S
    )
    (more,) = re.findall(r"```toml\n# k8s/overlays/mine/carbon.toml.*?\n(.*?)```", page, re.S)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    mine = tmp_path / "k8s/overlays/mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(overlay)
    (mine / "carbon.toml").write_text((ROOT / "k8s/base/carbon.toml").read_text() + more)
    (mine / "train.yaml").write_text(JOB)
    objects = kustomized(mine)
    assert {"ScaledObject", "PersistentVolumeClaim"} <= {each["kind"] for each in objects}
    (files,) = (each["data"] for each in objects if each["kind"] == "ConfigMap")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    config = load(tmp_path / "carbon.toml")
    namespaces = {name_of(each) for each in objects if each["kind"] == "Namespace"}
    assert config.kubernetes.namespace in namespaces
    assert config.types["train"].kubernetes == str(tmp_path / "train.yaml")


def test_the_role_of_the_documentation_is_the_components() -> None:
    page = (ROOT / "docs/kubernetes-jobs.md").read_text()
    (rules,) = re.findall(r"```yaml\n(rules:\n.*?)```", page, re.S)
    assert named(EVERYTHING, "Role", "worker")["rules"] == yaml.safe_load(rules)["rules"]


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, str]]]:
    """A server told what the StatefulSet tells Redis, but for where; its port, and passwords."""
    folder = tmp_path_factory.mktemp("redis")
    passwords = new_passwords()
    rules = folder / "users.acl"
    rules.write_text("".join(f"{line}\n" for line in acl("carbon", passwords)))
    places = {"/data": str(folder), "/etc/redis/users.acl": str(rules)}
    main = container(named(BASE, "StatefulSet", "redis"))
    assert main["command"] == ["redis-server"]
    told = [places.get(each, each) for each in main["args"]]
    port = free_port()
    command = [server_program(), *told, "--port", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield port, passwords
    finally:
        server.kill()
        server.wait()


async def test_the_server_lets_in_the_users_of_the_manifests(
    fenced: tuple[int, dict[str, str]],
) -> None:
    port, passwords = fenced

    def login(role: str, password: str) -> redis.Redis:
        return redis.Redis(
            port=port, username=f"carbon-{role}", password=password, retry=Retry(NoBackoff(), 0)
        )

    def answers() -> bool:
        try:
            return bool(login("reader", passwords["reader"]).ping())  # as the probe asks
        except redis.ConnectionError:
            return False

    await until(answers, timeout=20)
    for role in roles(BASE).values():
        name = container(role)["args"][0]
        with login(name, passwords[name]) as client:
            assert client.ping()
    with pytest.raises(redis.AuthenticationError):
        login("worker", passwords["router"]).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port, retry=Retry(NoBackoff(), 0)).ping()
    with login("admin", passwords["admin"]) as client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory")["maxmemory"] == str(1200 * 2**20)
