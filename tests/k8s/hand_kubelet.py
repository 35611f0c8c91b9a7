"""A kubelet played by hand: says what becomes of pods, and serves what their containers wrote."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from real_cluster import Namespace

from carbon_orchestrator.kubernetes.job_template import JOB
from streams.testing import until

IMAGE = "registry.example.org/train:1"


class Kubelet:
    """Of the pods in one name space, of which nobody else takes care; those of jobs have the
    container `main`."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._started = datetime.now(UTC) - timedelta(seconds=5)

    async def pod(self, job_id: str) -> str:
        """The name of the job's pod, once the cluster has made it."""

        async def made() -> str:
            found = await self._namespace.read("pods", f"--selector={JOB}={job_id}")
            return found["items"][0]["metadata"]["name"] if found["items"] else ""

        return str(await until(made, 20))

    async def unready(self) -> list[str]:
        """The names of pods that are not ready yet."""
        found = (await self._namespace.read("pods"))["items"]
        return [
            each["metadata"]["name"]
            for each in found
            if not any(
                (condition["type"], condition["status"]) == ("Ready", "True")
                for condition in each["status"].get("conditions", [])
            )
        ]

    async def is_ready(self, pod: str) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": _now()}
        await self._patch(pod, {"phase": "Running", "conditions": [condition]})

    async def runs(self, pod: str) -> None:
        await self._says(pod, "Running", {"running": {"startedAt": _written(self._started)}})

    async def ends(self, pod: str, exit_code: int) -> None:
        ended = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "startedAt": _written(self._started),
            "finishedAt": _now(),
        }
        await self._says(pod, "Failed" if exit_code else "Succeeded", {"terminated": ended})

    async def _says(self, pod: str, phase: str, state: dict[str, Any]) -> None:
        status = {
            "phase": phase,
            "startTime": _written(self._started),
            "containerStatuses": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "imageID": IMAGE,
                    "ready": "running" in state,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        }
        await self._patch(pod, status)

    async def _patch(self, pod: str, status: dict[str, Any]) -> None:
        patch = msgspec.json.encode({"status": status}).decode()
        await self._namespace.kubectl(
            "patch", "pod", pod, "--subresource=status", "--type=merge", f"--patch={patch}"
        )


class Node:
    """A machine of the cluster, as far as its API server asks one: for the log of `main`."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.name = f"{namespace.name}-node"
        self._lines: list[tuple[datetime, bytes]] = []
        self._more = asyncio.Condition()
        self._over = False
        self._breaks = False  # the connections that there are now
        self.followed = 0

    async def start(self, folder: Path) -> None:
        key, certificate = folder / "node.key", folder / "node.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                *("-subj", f"/CN={self.name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
            timeout=30,
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/main", self._log)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        endpoint = {"kubeletEndpoint": {"Port": self._runner.addresses[0][1]}}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name},
            "spec": {"unschedulable": True},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": endpoint,
            },
        }
        await self._namespace.kubectl(
            "create", "--filename=-", stdin=msgspec.json.encode(node).decode()
        )

    async def stop(self) -> None:
        await self._runner.cleanup()
        # Nobody else is there to say that they have ended.
        await self._namespace.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")
        await self._namespace.kubectl("delete", "node", self.name)

    async def write(self, *lines: str) -> None:
        """What the container writes now."""
        async with self._more:
            self._lines += [(datetime.now(UTC), each.encode()) for each in lines]
            self._more.notify_all()

    async def end(self) -> None:
        """The container has written all."""
        async with self._more:
            self._over = True
            self._more.notify_all()

    async def break_off(self) -> None:
        """Lose the connections of those who follow."""
        async with self._more:
            self._breaks = True
            self._more.notify_all()

    async def _log(self, request: web.Request) -> web.StreamResponse:
        """As the kubelet's: lines from `sinceTime` on, that one included."""
        since = datetime.fromisoformat(request.query.get("sinceTime", "2000-01-01T00:00:00Z"))
        follow = request.query.get("follow") == "true"
        assert request.query["timestamps"] == "true"
        self.followed += follow
        self._breaks = False
        response = web.StreamResponse()
        await response.prepare(request)
        told = 0
        while True:
            for at, line in self._lines[told:]:
                told += 1
                if at >= since:
                    stamp = _written(at, "microseconds").encode()
                    await response.write(stamp + b" " + line + b"\n")
            if not follow or self._over:
                return response
            if self._breaks:
                assert request.transport is not None
                request.transport.abort()
                return response
            await self._changed(told)

    async def _changed(self, told: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: len(self._lines) > told or self._over or self._breaks)


def _now() -> str:
    return _written(datetime.now(UTC))


def _written(moment: datetime, precision: str = "seconds") -> str:
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
