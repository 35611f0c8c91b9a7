"""Requests to a Kubernetes API server: over TLS, by a token that is read anew each time."""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from carbon_orchestrator.config import ConfigError, Kubernetes

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_OVERTIME = 10.0  # seconds that a watch may end late
#: Bytes of an answer that are read at most: more than the largest object, 1.5 MiB.
_LARGEST = 4 << 20

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


class ClusterError(Exception):
    """A request that the API server refused (`status`), or that did not reach it (0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Event(msgspec.Struct, frozen=True):
    """Of a watch. `type`: "ADDED", "MODIFIED", or "DELETED", with the object as it last was."""

    type: str
    object: dict[str, Any]


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
                    "this is no pod of a cluster: give --api-server and --token-file, or in the"
                    " configuration's [kubernetes] api_server and token_file"
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

    @classmethod
    def configured(cls, settings: Kubernetes) -> Cluster:
        """As the configuration says. Raises ConfigError."""
        token, ca = settings.token_file, settings.ca_file
        return cls(
            Access.find(
                settings.api_server,
                settings.namespace,
                None if token is None else Path(token),
                None if ca is None else Path(ca),
            )
        )

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = JSON
    ) -> dict[str, Any]:
        """The JSON object that the server answers. Raises ClusterError."""
        async with self._answer(method, path, body, content_type, _TIMEOUT) as response:
            return _object(await _read(response))

    async def stream(self, path: str, silence: float) -> AsyncGenerator[bytes, None]:
        """The answer to a GET piece by piece, until the server ends it or says nothing for
        `silence` seconds. Raises ClusterError."""
        patience = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence)
        async with self._answer("GET", path, None, JSON, patience) as response:
            async for piece in response.content.iter_any():
                yield piece

    async def watch(
        self, collection: str, name: str, version: str, within: float
    ) -> AsyncGenerator[Event, None]:
        """What becomes of an object after its `version`, for `within` seconds at most. Raises
        ClusterError: with the status 410 where the version is too old to begin from."""
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": max(1, math.ceil(within)),
        }
        rest = b""
        async with aclosing(
            self.stream(f"{collection}?{urlencode(query)}", within + _OVERTIME)
        ) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = _event(line)
                    if event.type == "ERROR":
                        said = str(event.object.get("message", "the watch has ended"))
                        raise ClusterError(int(event.object.get("code", 0)), said)
                    yield event

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: Any, content_type: str, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": JSON, **self._authorization()}
        data = None
        if body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(body), content_type
        if self._session is None:
            # As many connections as there are: each Job that is watched has its own.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        try:
            async with self._session.request(
                method,
                self.access.server + path,
                data=data,
                headers=headers,
                timeout=timeout,
                ssl=self._tls,
                allow_redirects=False,
            ) as response:
                if response.status not in (200, 201, 202):
                    said = _object(await _read(response))
                    what = _explained(response.status, method, path.partition("?")[0], said)
                    raise ClusterError(response.status, what)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            what = str(getattr(error, "os_error", error)) or type(error).__name__
            raise ClusterError(0, f"the API server cannot be reached: {what}") from None

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


async def _read(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for piece in response.content.iter_any():
        raw += piece
        if len(raw) > _LARGEST:
            raise ClusterError(0, f"the API server answers with more than {_LARGEST} bytes")
    return bytes(raw)


def _event(line: bytes) -> Event:
    try:
        return msgspec.json.decode(line, type=Event)
    except msgspec.DecodeError as error:  # msgspec.ValidationError is one
        raise ClusterError(0, f"the API server's answer is no event: {error}") from None


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
