"""The scripts that deploy, with stand-ins for the cluster's programs; what they tell our own
program and the stream server is real."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from manifests import ROOT, built
from stand_ins import IMAGE_ID, Cluster
from test_manifests import YOURS, mentioned

from carbon_orchestrator.gateway.door.keyring import read_keys
from carbon_orchestrator.gateway.door.keys import ApiKey, identify, new_id, new_secret, text_of
from carbon_orchestrator.permissions import ROLES, new_passwords, user
from carbon_orchestrator.topology import Topology
from carbon_orchestrator.wall_clock import own_ms
from streams.connection import connect
from streams.embedded import free_port, server_program
from streams.keys import Partition
from streams.testing import until

ALL = ("kubectl", "kind", "docker")
K8S = ("deploy-k8s.sh", "--context", "here")
SCRIPTS = ["deploy-k8s.sh", "deploy-kind.sh", "port-forward.sh"]

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not on PATH: no overlay can be built"
)


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    """A stream server that will get to know its users from the deployment."""
    port, users = free_port(), tmp_path / "users.acl"
    users.touch()
    command = [server_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(
        [*command, "--aclfile", str(users)], stdout=subprocess.DEVNULL, cwd=tmp_path
    )

    def answers() -> bool:
        try:
            return bool(redis.Redis(port=port).ping())
        except redis.ConnectionError:
            return False

    try:
        await until(answers, timeout=20)
        yield port
    finally:
        process.kill()
        process.wait()


def passwords(cluster: Cluster) -> dict[str, str]:
    found = cluster.data("Secret", "redis-users")
    assert found is not None
    return found


async def keys(cluster: Cluster, port: int) -> dict[str, ApiKey]:
    """Those that the deployment knows, by id."""
    password = passwords(cluster)["carbon-operator"]
    async with connect(f"redis://carbon-operator:{password}@127.0.0.1:{port}") as client:
        return await read_keys(client, Topology(Partition("carbon")))


def token(cluster: Cluster, secret: str = "api-key") -> str:
    found = cluster.data("Secret", secret)
    assert found is not None
    return found["token"]


@pytest.mark.timeout(180)
async def test_kind_from_nothing_and_once_more(tmp_path: Path, server: int) -> None:
    cluster = Cluster(tmp_path, *ALL, server=server)
    done = cluster.run("deploy-kind.sh")
    assert done.returncode == 0, done.stderr
    calls = cluster.calls
    image = f"carbon-orchestrator:{IMAGE_ID[:12]}"
    assert "kind create cluster --name aiacc --wait 3m" in calls
    assert calls.index(f"kind load docker-image {image} --name aiacc") < next(
        place for place, call in enumerate(calls) if " apply " in call
    )
    role = cluster.applied("Deployment", "router")["spec"]["template"]["spec"]["containers"][0]
    assert role["image"] == image
    waited = [call.split(" rollout status ")[1].split()[0] for call in calls if "status" in call]
    assert waited[0] == "statefulset/redis"
    assert waited[-1] == "deployment/gateway", "it is there when the API is"

    # Everybody can log in who is meant to, and what was made opens the API.
    made = passwords(cluster)
    assert set(made) == {user("carbon", role) for role in ("admin", *ROLES)}
    for name, password in made.items():
        assert redis.Redis(port=server, username=name, password=password).ping()
    known = await keys(cluster, server)
    key = known[str(identify(token(cluster), known, own_ms()))]
    assert (key.name, key.scopes) == ("api-key", ("submit", "operate"))
    secrets = [*made.values(), token(cluster)]
    assert not any(secret in call for call in calls for secret in secrets), "others read arguments"
    assert not any(secret in done.stdout + done.stderr for secret in secrets)
    assert "rollout restart deployment/gateway" in "\n".join(calls)
    assert [each.name for each in tmp_path.glob("tmp.*")] == [], "nothing secret is left behind"

    before = {
        name: cluster.data("Secret", name) for name in ("redis-users", "redis-acl", "api-key")
    }
    again = cluster.run("deploy-kind.sh")
    assert again.returncode == 0, again.stderr
    calls = cluster.calls
    assert not any("create cluster" in call or "restart" in call for call in calls)
    assert {name: cluster.data("Secret", name) for name in before} == before
    assert list(await keys(cluster, server)) == list(known)


@pytest.mark.timeout(180)
async def test_what_was_lost_or_became_old_is_made_anew(tmp_path: Path, server: int) -> None:
    """The server's volume is gone with the keys, and the version before had one user less."""
    cluster = Cluster(tmp_path, "kubectl", server=server)
    before = new_passwords()
    login = {user("carbon", role): password for role, password in before.items()}
    del login["carbon-publisher"]
    cluster.keep("Secret", "redis-users", login)
    cluster.keep("Secret", "redis-acl", {"users.acl": "user default off\n"})
    lost = text_of(new_id(), new_secret())
    cluster.keep("Secret", "api-key", {"token": lost})
    done = cluster.run(*K8S, "--overlay", "keda")
    assert done.returncode == 0, done.stderr
    calls = "\n".join(cluster.calls)
    assert calls.index("restart statefulset/redis") < calls.index("restart deployment/gateway")
    after = passwords(cluster)
    assert login.items() <= after.items()
    assert len(after["carbon-publisher"]) == 64
    assert token(cluster) != lost
    scopes = {key.name: key.scopes for key in (await keys(cluster, server)).values()}
    assert scopes == {"api-key": ("submit", "operate"), "keda-api-key": ("read",)}


@pytest.mark.timeout(180)
def test_a_server_outside_is_told_of_its_users_first(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "kubectl", "docker")
    signer = tmp_path / "signer.pem"
    signer.write_text("certificates\n")
    lacking = cluster.run(*K8S, "--registry", "registry.example.org/team/", "--tag", "1.2.3")
    assert lacking.returncode == 1
    assert "--redis-ca" in lacking.stderr
    first = cluster.run(*K8S, "--redis-ca", str(signer))
    assert first.returncode == 1
    assert "get secret redis-acl" in first.stderr
    assert not (cluster.objects / "Deployment.router.json").exists()
    assert len(cluster.calls) > 0
    # No server answers here, so it ends where the first key would be made.
    pushed = cluster.run(
        *(*K8S, "--registry", "registry.example.org/team/", "--tag", "1.2.3", "--push")
    )
    assert pushed.returncode == 1
    assert "cannot be listed" in pushed.stderr
    calls = cluster.calls
    image = "registry.example.org/team/carbon-orchestrator:1.2.3"
    assert calls[0].startswith("docker build --build-arg VERSION=1.2.3 --build-arg REVISION=")
    assert calls[0].endswith(f" --tag {image} {cluster.checkout}")
    assert calls[1] == f"docker push {image}"
    role = cluster.applied("Deployment", "worker-fast")["spec"]["template"]["spec"]["containers"]
    assert role[0]["image"] == image
    assert cluster.data("ConfigMap", "redis-ca") == {"ca.crt": "certificates\n"}
    assert not any("statefulset" in call for call in calls)
    there = {tuple(each.name.split(".")[:2]) for each in cluster.objects.iterdir()}
    for each in built("overlays/production"):
        assert mentioned(each) <= there | {("Secret", each) for each in YOURS}


@pytest.mark.parametrize(
    ("script", "missing"),
    [
        *(("deploy-kind.sh", each) for each in ALL),
        ("deploy-k8s.sh", "kubectl"),
        ("deploy-k8s.sh --push", "docker"),
        ("port-forward.sh", "kubectl"),
    ],
)
def test_a_missing_program_is_named(tmp_path: Path, script: str, missing: str) -> None:
    cluster = Cluster(tmp_path, *(each for each in ALL if each != missing))
    name, *options = script.split()
    if name == "deploy-k8s.sh":
        options += ["--context", "here", "--registry", "somewhere"]
    done = cluster.run(name, *options)
    assert done.returncode == 1
    assert f"{missing} is not on PATH" in done.stderr
    assert not any("create" in call or "apply" in call for call in cluster.calls)


def test_a_docker_that_does_not_run_is_told(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, *ALL)
    (tmp_path / "no-daemon").touch()
    done = cluster.run("deploy-kind.sh")
    assert done.returncode == 1
    assert "daemon does not answer" in done.stderr
    assert cluster.calls == ["docker info"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--context is missing"),
        (("--context",), "--context needs a value"),
        (("--context", "here", "--overlay", "nowhere"), "there are keda kind production"),
        (("--context", "here", "--overlay", "../base"), "only a name"),
        (("--context", "here", "--push"), "--push needs --registry"),
        (("--frobnicate",), "what is --frobnicate?"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    cluster = Cluster(tmp_path, *ALL)
    done = cluster.run("deploy-k8s.sh", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "--redis-ca" in done.stderr, "and how it is used"
    assert cluster.calls == []


def test_the_gateway_is_forwarded(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "kubectl")
    done = cluster.run("port-forward.sh")
    assert done.returncode == 1
    assert "no gateway" in done.stderr
    (cluster.objects / "Service.gateway.json").write_text("{}")
    done = cluster.run("port-forward.sh", "--context", "there", "--port", "8123")
    assert done.returncode == 0
    assert cluster.calls[-1] == (
        "kubectl --context there --namespace carbon-orchestrator"
        " port-forward service/gateway 8123:8000"
    )
    assert "export CARBON_URL=http://127.0.0.1:8123" in done.stderr
    assert cluster.run("port-forward.sh", "--context").returncode == 2
    assert cluster.run("port-forward.sh", "away").returncode == 2


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on PATH")
def test_the_shell_has_nothing_to_say() -> None:
    files = [str(ROOT / "scripts" / each) for each in SCRIPTS]
    checked = subprocess.run(["shellcheck", *files], capture_output=True, text=True)
    assert checked.stdout + checked.stderr == ""
