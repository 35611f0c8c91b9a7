"""Requests to a Kubernetes API server: over TLS, by a token that is read anew each time."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from carbon_orchestrator.config import ConfigError

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = aiohttp.ClientTimeout(total=10)
#: Bytes of an answer that are read at most.
_LARGEST = 1 << 20

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


class ClusterError(Exception):
    """A request that the API server refused (`status`), or that did not reach it (0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Access(msgspec.Struct, frozen=True):
    """Where the API server is and how to prove who we are. Without `ca_file` the system's
    certificates count."""

    server: str
    namespace: str
    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def find(
        cls,
        server: str | None = None,
        namespace: str | None = None,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        *,
        environment: Mapping[str, str] = os.environ,
        account: Path = _ACCOUNT,
    ) -> Access:
        """As given, and for the rest as a pod finds it. ConfigError outside of a cluster."""
        if server is None:
            host = environment.get("KUBERNETES_SERVICE_HOST")
            if not host:
                raise ConfigError(
                    "this is no pod of a cluster: give --api-server (and --token-file)"
                )
            port = environment.get("KUBERNETES_SERVICE_PORT", "443")
            server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
            token_file = token_file or account / "token"
            ca_file = ca_file or account / "ca.crt"
        if namespace is None:
            try:
                namespace = (account / "namespace").read_text().strip()
            except OSError:
                namespace = "default"
        return cls(server.rstrip("/"), namespace, token_file, ca_file)


class Cluster:
    """One API server. ConfigError for files of certificates that cannot be used."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._session: aiohttp.ClientSession | None = None
        try:
            self._tls = ssl.create_default_context(
                cafile=None if access.ca_file is None else str(access.ca_file)
            )
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"{access.ca_file}: no usable certificates: {error}") from None

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = JSON
    ) -> dict[str, Any]:
        """The JSON object that the server answers. Raises ClusterError."""
        headers = {"Accept": JSON, **self._authorization()}
        data = None
        if body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(body), content_type
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._session.request(
                method,
                self.access.server + path,
                data=data,
                headers=headers,
                ssl=self._tls,
                allow_redirects=False,
            ) as response:
                raw = await response.content.read(_LARGEST)
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            what = str(error) or type(error).__name__
            raise ClusterError(0, f"the API server cannot be reached: {what}") from None
        answer = _object(raw)
        if status in (200, 201):
            return answer
        raise ClusterError(status, _explained(status, method, path, answer))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _authorization(self) -> dict[str, str]:
        # A pod's token is replaced every hour or so: the file has the one that counts.
        if self.access.token_file is None:
            return {}
        try:
            token = self.access.token_file.read_text().strip()
        except OSError as error:
            raise ClusterError(0, f"{self.access.token_file}: {error.strerror}") from None
        return {"Authorization": f"Bearer {token}"}


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _explained(status: int, method: str, path: str, answer: Mapping[str, Any]) -> str:
    said = str(answer.get("message", ""))[:500]
    what = {
        401: "the API server does not accept our token",
        403: f"our Role does not allow {method} {path}",
        404: f"there is no {path}",
        409: f"{path} was changed at the same time",
    }.get(status, f"{method} {path} was answered with {status}")
    return f"{what}: {said}" if said else what
