"""A Kubernetes API server as far as the scaler knows one, strict about what it is sent.

It has Deployments' scales and Leases, with resource versions; a token that may be replaced; a
Role, that is, the requests that are allowed. Whatever is not as the API documents it is answered
400 and kept in `faults`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

APPS = "/apis/apps/v1/namespaces/jobs/deployments"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/jobs/leases"


class ApiServer:
    def __init__(self, token_file: Path) -> None:
        self.token = "first-token"
        self.token_file = token_file
        token_file.write_text(self.token + "\n")
        self.sizes = {"worker-fast": 0, "worker-eco": 1}
        self.leases: dict[str, dict[str, Any]] = {"scaler": {}}
        self.allowed = {
            *(("GET", f"{APPS}/{name}/scale") for name in self.sizes),
            *(("PATCH", f"{APPS}/{name}/scale") for name in self.sizes),
            *((method, f"{LEASES}/scaler") for method in ("GET", "PUT")),
        }
        self.version = 100
        self.lease_version = 100
        self.requests: list[tuple[str, str]] = []
        self.faults: list[str] = []
        #: Called before a request is answered: what happens in a cluster meanwhile.
        self.meanwhile: Callable[[str, str], None] = lambda method, path: None
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def changed(self) -> None:
        """Something about all objects, a pod's state say, has changed."""
        self.version += 1
        self.lease_version += 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.path
        self.requests.append((method, path))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return refusal(401, "Unauthorized")
        if request.headers.get("Accept") != "application/json":
            return self.fault("Accept must be application/json")
        return await self.serve(request)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer somebody who is known."""
        method, path = request.method, request.path
        if (method, path) not in self.allowed:
            return refusal(403, f'"{path}" is forbidden: User "scaler" cannot {method}')
        if path.startswith(LEASES) and path.rpartition("/")[2] not in self.leases:
            return refusal(404, "not found")
        self.meanwhile(method, path)
        body = await request.read()
        kind = request.headers.get("Content-Type", "") if body else ""
        if path.startswith(APPS):
            return self._scale(method, path.split("/")[-2], kind, body)
        return self._lease(method, path.rpartition("/")[2], kind, body)

    def _scale(self, method: str, name: str, kind: str, body: bytes) -> web.Response:
        if method == "PATCH":
            if kind != "application/merge-patch+json":
                return self.fault(f"a merge patch is not {kind}")
            patch = msgspec.json.decode(body)
            if set(patch) != {"metadata", "spec"} or set(patch["spec"]) != {"replicas"}:
                return self.fault(f"the patch is for more than replicas: {patch}")
            if set(patch["metadata"]) != {"resourceVersion"}:
                return self.fault(f"the patch is for metadata: {patch}")
            if patch["metadata"]["resourceVersion"] != str(self.version):
                return refusal(409, "the object has been modified")
            size = patch["spec"]["replicas"]
            if type(size) is not int or size < 0:
                return self.fault(f"no number of replicas: {size!r}")
            self.sizes[name] = size
            self.version += 1
        # The API leaves a zero out.
        spec = {"replicas": self.sizes[name]} if self.sizes[name] else {}
        return web.json_response(
            {
                "kind": "Scale",
                "apiVersion": "autoscaling/v1",
                "metadata": {"name": name, "resourceVersion": str(self.version)},
                "spec": spec,
                "status": {"replicas": self.sizes[name]},
            }
        )

    def _lease(self, method: str, name: str, kind: str, body: bytes) -> web.Response:
        lease = {
            "kind": "Lease",
            "apiVersion": "coordination.k8s.io/v1",
            "metadata": {"name": name, "resourceVersion": str(self.lease_version)},
            "spec": self.leases[name],
        }
        if method == "GET":
            return web.json_response(lease)
        if kind != "application/json":
            return self.fault(f"a Lease is not {kind}")
        new = msgspec.json.decode(body)
        if new.get("kind") != "Lease" or new["metadata"]["name"] != name:
            return self.fault(f"an update is of the whole object: {new}")
        if new["metadata"].get("resourceVersion") != str(self.lease_version):
            return refusal(409, "the object has been modified")
        fault = _wrong_lease(new["spec"])
        if fault:
            return self.fault(fault)
        self.leases[name] = new["spec"]
        self.lease_version += 1
        return web.json_response(
            {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.lease_version)}}
        )

    def fault(self, what: str) -> web.Response:
        self.faults.append(what)
        return refusal(400, what)


class LeaseSpec(msgspec.Struct, forbid_unknown_fields=True):
    """As coordination.k8s.io/v1 has it."""

    holderIdentity: str
    leaseDurationSeconds: int
    renewTime: str
    acquireTime: str
    leaseTransitions: int


def _wrong_lease(spec: dict[str, Any]) -> str:
    try:
        read = msgspec.convert(spec, LeaseSpec)
    except msgspec.ValidationError as error:
        return str(error)
    for time in (read.renewTime, read.acquireTime):
        if not (len(time) == len("2026-01-01T00:00:00.000000Z") and time.endswith("Z")):
            return f"{time} is no MicroTime"
    return "" if read.leaseDurationSeconds > 0 else "leaseDurationSeconds must be above 0"


def refusal(code: int, message: str) -> web.Response:
    return web.json_response(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message},
        status=code,
    )
