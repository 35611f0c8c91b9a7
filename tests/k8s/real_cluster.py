"""The cluster of $KUBECONFIG, by kubectl, and a name space in it that is this test's own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from carbon_orchestrator.kubernetes.cluster import Access

ROOT = Path(__file__).parents[2]
#: By `kustomize` name; what each is, its kustomization.yaml says.
OVERLAYS = sorted(each.parent.name for each in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))
WORKERS = ("worker-fast", "worker-eco")
LEASE = "carbon-orchestrator-scaler"
_SECONDS = 30.0
#: Controllers of old servers own of a StatefulSet what they only touch.
_APPLIED = ("--server-side", "--force-conflicts", "--filename=-")


class KubectlError(AssertionError):
    """kubectl failed; what it said."""


class Rule(NamedTuple):
    """What a Role allows; a `name` of "" is any."""

    verb: str
    group: str
    resource: str
    name: str


class Namespace:
    """A name space, and what tests do with it as the cluster's administrator."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory

    async def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints. Raises KubectlError."""
        process = await asyncio.create_subprocess_exec(
            *("kubectl", "--namespace", self.name, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {err.decode().strip()}")
        return out.decode()

    async def read(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get` finds."""
        return dict(json.loads(await self.kubectl("get", *arguments, "--output=json")))

    async def apply(self, objects: list[dict[str, Any]]) -> None:
        """Server-side, as the scripts do; a field that the server does not know is an error."""
        text = yaml.safe_dump_all(objects)
        await self.kubectl("apply", "--validate=strict", *_APPLIED, stdin=text)

    async def differences(self, objects: list[dict[str, Any]]) -> str:
        """What applying them now would change."""
        text = yaml.safe_dump_all(objects)
        return await self.kubectl("diff", *_APPLIED, stdin=text)

    async def replicas(self, deployment: str) -> int:
        """The size asked for."""
        return int((await self.read("deployment", deployment))["spec"]["replicas"])

    async def holder(self, lease: str) -> str:
        """Who holds a Lease, "" for nobody."""
        spec = (await self.read("lease", lease)).get("spec", {})
        return str(spec.get("holderIdentity", ""))

    # -- the manifests ---------------------------------------------------------------------------

    async def rendered(self, overlay: str) -> list[dict[str, Any]]:
        """The objects of an overlay, all of them in this name space."""
        directory = self._directory / f"in-{self.name}-{overlay}"
        directory.mkdir()
        base = os.path.relpath(ROOT / "k8s/overlays" / overlay, directory.resolve())
        here = {"namespace": self.name, "resources": [base]}
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(here))
        return list(yaml.safe_load_all(await self.kubectl("kustomize", str(directory))))

    async def served(self, api_version: str) -> dict[str, bool]:
        """The kinds of an API version that the cluster serves, and whether each is namespaced."""
        path = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
        try:
            found = json.loads(await self.kubectl("get", "--raw", path))
        except KubectlError as error:
            if "NotFound" in str(error):
                return {}
            raise
        return {each["kind"]: each["namespaced"] for each in found["resources"]}

    # -- who asks --------------------------------------------------------------------------------

    async def account(self, deployment: str) -> str:
        """The service account of a Deployment's pods."""
        found = await self.read("deployment", deployment)
        return str(found["spec"]["template"]["spec"]["serviceAccountName"])

    async def access(self, account: str) -> Access:
        """The API server as a service account's pods see it."""
        shown = await self.kubectl("config", "view", "--minify", "--raw", "--output=json")
        cluster = json.loads(shown)["clusters"][0]["cluster"]
        authority = self._directory / "ca.crt"
        if "certificate-authority-data" in cluster:
            authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        else:
            shutil.copy(cluster["certificate-authority"], authority)
        token = self._directory / f"{account}.token"
        token.write_text(await self.kubectl("create", "token", account, "--duration=1h"))
        return Access(cluster["server"], self.name, token, authority)


def kubeconfig() -> str:
    """$KUBECONFIG; without one, or without kubectl, the test skips."""
    named = os.environ.get("KUBECONFIG", "")
    if not named:
        pytest.skip("no $KUBECONFIG: it names a cluster in which tests may make name spaces")
    if shutil.which("kubectl") is None:
        pytest.skip("needs the kubectl program")
    return named
