"""scripts/deploy-k8s.sh, by the real kubectl and a real API server. What its pods would do is
played by hand: the stream server is a real one, and commands in a pod run here."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hand_kubelet import Kubelet
from real_cluster import ROOT, KubectlError, Namespace

from streams.embedded import free_port, server_program

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(240)]

#: In place of kubectl: a command in a pod runs here; all else is the real one's.
KUBECTL = """#!/bin/sh
for each; do
    if [ "$each" = exec ]; then
        while [ "$1" != -- ]; do shift; done
        shift
        exec "$@"
    fi
done
exec {kubectl} "$@"
"""


class Checkout:
    """What of the repository the script needs, with an overlay for this test's name space."""

    def __init__(self, folder: Path, namespace: Namespace, port: int) -> None:
        self.folder = folder
        self._namespace = namespace
        tools = folder / "tools"
        self._environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CARBON_REDIS_URL": f"redis://127.0.0.1:{port}",
        }
        shutil.copytree(ROOT / "k8s", folder / "k8s")
        overlay = folder / "k8s/overlays/mine/kustomization.yaml"
        overlay.parent.mkdir()
        overlay.write_text(yaml.safe_dump({"namespace": namespace.name, "resources": ["../kind"]}))
        program = f'#!/bin/sh\nexec {sys.executable} -m carbon_orchestrator "$@"\n'
        real = shutil.which("kubectl")
        for path, text in (
            (tools / "kubectl", KUBECTL.format(kubectl=real)),
            (tools / "carbon-orchestrator", program),
            (folder / ".venv/bin/carbon-orchestrator", program),
            (folder / "scripts/setup.sh", "#!/bin/sh\n"),
            (folder / "scripts/deploy-k8s.sh", (ROOT / "scripts/deploy-k8s.sh").read_text()),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    async def deploy(self) -> tuple[int, str]:
        """The script's status, and what it said."""
        context = (await self._namespace.kubectl("config", "current-context")).strip()
        process = await asyncio.create_subprocess_exec(
            *(str(self.folder / "scripts/deploy-k8s.sh"), "--context", context),
            *("--overlay", "mine", "--timeout", "90s"),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()
        return process.returncode or 0, said.decode()


async def secret(namespace: Namespace, name: str) -> dict[str, str]:
    data = (await namespace.read("secret", name))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.fixture
async def port(namespace: Namespace, tmp_path: Path) -> AsyncIterator[int]:
    """Of the stream server, which starts with the users that the deployment gives it; all other
    pods just become ready."""
    if (await namespace.read("nodes"))["items"]:
        pytest.skip("this cluster has machines of its own, which have no image to run")
    port, users = free_port(), tmp_path / "users.acl"
    command = [server_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    servers: list[subprocess.Popen[bytes]] = []
    kubelet = Kubelet(namespace)

    async def run() -> None:
        while True:
            with suppress(KubectlError):  # a pod that is replaced meanwhile
                for pod in await kubelet.unready():
                    if pod == "redis-0" and not servers:
                        users.write_text((await secret(namespace, "redis-acl"))["users.acl"])
                        servers.append(
                            subprocess.Popen(
                                [*command, "--aclfile", str(users)],
                                stdout=subprocess.DEVNULL,
                                cwd=tmp_path,
                            )
                        )
                    await kubelet.is_ready(pod)
            await asyncio.sleep(0.1)

    running = asyncio.create_task(run())
    yield port
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    for each in servers:
        each.kill()
        each.wait()


async def test_a_deployment_is_made_and_made_again(
    namespace: Namespace, tmp_path: Path, port: int
) -> None:
    checkout = Checkout(tmp_path / "checkout", namespace, port)
    status, said = await checkout.deploy()
    assert status == 0, said
    assert "scripts/port-forward.sh --context" in said
    passwords, key = await secret(namespace, "redis-users"), await secret(namespace, "api-key")
    assert len(set(passwords.values())) == len(passwords) >= 8
    users = (await secret(namespace, "redis-acl"))["users.acl"]
    assert not any(each in users for each in passwords.values()), "hashes only"
    found = await namespace.read("deployments")
    assert {each["status"].get("readyReplicas") for each in found["items"]} == {1}
    await namespace.kubectl("scale", "deployment", "worker-eco", "--replicas=3")
    status, said = await checkout.deploy()
    if status and 'conflict with "kube-controller-manager"' in said:
        pytest.skip("made once; again it needs Kubernetes 1.22, whose controllers own nothing here")
    assert status == 0, said
    assert await secret(namespace, "redis-users") == passwords
    assert await secret(namespace, "api-key") == key
    assert await namespace.replicas("worker-eco") == 3
