"""One request to a gateway, answered: sent again while it may help, never for ever.

Whatever goes through here may be sent twice: reading changes nothing, a cancellation is the same
twice, and a submission carries an idempotency key.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from carbon_orchestrator import __version__
from carbon_orchestrator.client.errors import OrchestratorError, Unavailable, of_problem
from carbon_orchestrator.redaction import text as redacted
from streams.retry import backoff

DEFAULT_URL = "http://127.0.0.1:8000"
_MOST_BYTES = 64 << 20
_AGAIN = (429, 502, 503, 504)
_STRANGER_SECONDS = 1.0
_FAULTS = (aiohttp.ClientError, TimeoutError, OSError)

Query = Sequence[tuple[str, str]]


class Answer(msgspec.Struct, frozen=True):
    """An answer as it came. `retry_after` in seconds."""

    status: int
    kind: str
    body: bytes
    retry_after: float | None = None


class Flow(msgspec.Struct, frozen=True):
    """An answer that goes on: its headers, and its bytes as they come."""

    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Retries:
    """Waits before one thing is tried again, until `patience` seconds have passed since it was
    begun, or last came on."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.came_on()

    def came_on(self) -> None:
        """It is not over, but all is well for now."""
        self._began = asyncio.get_running_loop().time()
        self._waits = backoff(0.1, 3.0)

    async def wait(self, error: OrchestratorError, patience: float | None = None) -> None:
        """The next wait. Raises `error` where it would end too late."""
        wait, loop = next(self._waits), asyncio.get_running_loop()
        if isinstance(error, Unavailable) and error.retry_after is not None:
            # Spread, as all are told the same.
            wait = max(wait, error.retry_after * random.uniform(1, 1.25))
        patience = self._patience if patience is None else patience
        if loop.time() + wait > self._began + patience:
            raise error
        await asyncio.sleep(wait)


class Transport:
    """Keeps connections to one gateway; of one event loop.

    `url`: $CARBON_URL by default; `api_key`: $CARBON_API_KEY. `timeout`: seconds for one answer;
    `patience`: seconds for which a request is sent again while the gateway is away or says that
    it has no room. Raises ValueError for a URL or key that cannot be one.
    """

    def __init__(
        self, url: str | None, api_key: str | None, *, timeout: float, patience: float
    ) -> None:
        self._base = _address(url or os.environ.get("CARBON_URL") or DEFAULT_URL)
        #: As it may be shown: without a login for a proxy.
        self.url = str(URL(self._base).with_user(None)).rstrip("/")
        key = os.environ.get("CARBON_API_KEY", "") if api_key is None else api_key
        self._headers = {"User-Agent": f"carbon-orchestrator/{__version__}", **_bearer(key.strip())}
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._met = False

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        results: bool = False,
    ) -> Any:
        """The decoded JSON of the answer. Raises OrchestratorError. `results`: JSON is what was
        asked for whatever the status, as it has one for each part of the request."""
        session, retries, lost = self._open(), self.retries(), False
        while True:
            error: OrchestratorError
            try:
                answer = await self._once(session, method, path, query, body, headers)
            except _FAULTS as fault:
                lost = lost or not isinstance(fault, aiohttp.ClientConnectorError)
                error = self._away(fault)
                error.lost = lost
            else:
                self._met = True
                if 200 <= answer.status < 300 or (results and answer.kind == "application/json"):
                    return self._decoded(method, path, answer)
                error = self._refused(method, path, answer)
                if answer.status not in _AGAIN:
                    raise error
            await retries.wait(error, self._patience if self._met else _stranger(self._patience))

    def retries(self) -> Retries:
        """For one thing that may have to be tried again."""
        return Retries(self._patience)

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Query = (), headers: Mapping[str, str] = {}, quiet: float
    ) -> AsyncIterator[Flow]:
        """An answer that may go on for ever, tried once; it is broken off after `quiet` seconds
        without a byte. Raises OrchestratorError, Unavailable wherever it breaks off."""
        session = self._open()
        url = URL(self._base + path, encoded=True).with_query(query)
        timeout = aiohttp.ClientTimeout(sock_connect=self._timeout.total, sock_read=quiet)
        try:
            async with session.get(
                url, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                self._met = True
                if response.status != 200:
                    raise self._refused("GET", path, await _read(response))
                yield Flow(response.headers, response.content.iter_any())
        except _FAULTS as fault:
            raise self._away(fault, quiet) from None

    async def _once(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        query: Query,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        url = URL(self._base + path, encoded=True).with_query(query)
        async with session.request(
            method, url, data=body, headers=headers, allow_redirects=False
        ) as response:
            return await _read(response)

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError(
                "a Client belongs to the event loop that first used it: make one within each"
                " asyncio.run, or use SyncClient"
            )
        if self._session.closed:
            raise RuntimeError("this client has been closed")
        return self._session

    def _away(self, fault: BaseException, within: float | None = None) -> Unavailable:
        if isinstance(fault, aiohttp.ClientSSLError):
            return Unavailable(f"no trusted connection to {self.url}: {fault}")
        if isinstance(fault, aiohttp.ClientConnectorError):
            code = fault.os_error.errno
            why = os.strerror(code) if code else fault.os_error.strerror or str(fault.os_error)
            return Unavailable(
                f"no gateway at {self.url} ({why}): start one with `carbon-orchestrator up`,"
                " or say where it is: $CARBON_URL, --url or url="
            )
        if isinstance(fault, TimeoutError):
            return Unavailable(f"{self.url} gave no answer in {within or self._timeout.total:g} s")
        return Unavailable(f"{self.url} broke off ({str(fault) or type(fault).__name__})")

    def _refused(self, method: str, path: str, answer: Answer) -> OrchestratorError:
        try:
            problem = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = {}
        if answer.kind != "application/problem+json" or not problem:
            if answer.status in _AGAIN:  # of a proxy before it
                return Unavailable(
                    f"{self.url} answers with {answer.status}",
                    status=answer.status,
                    retry_after=answer.retry_after,
                )
            return self._foreign(method, path, answer)
        submitting = method == "POST" and path == "/jobs"
        return of_problem(answer.status, problem, answer.retry_after, submitting=submitting)

    def _decoded(self, method: str, path: str, answer: Answer) -> Any:
        try:
            return msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._foreign(method, path, answer) from None

    def _foreign(self, method: str, path: str, answer: Answer) -> OrchestratorError:
        return OrchestratorError(
            f"{self.url} answers {method} {path} with {answer.status} {answer.kind}, which no"
            " gateway of ours does; look at $CARBON_URL, --url or url=",
            status=answer.status,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


async def _read(response: aiohttp.ClientResponse) -> Answer:
    """The whole answer. Raises OrchestratorError where it is too long."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        content += chunk
        if len(content) > _MOST_BYTES:
            raise OrchestratorError(f"the answer is over {_MOST_BYTES >> 20} MiB")
    return Answer(
        response.status,
        response.content_type,
        bytes(content),
        retry_seconds(response.headers.get("Retry-After")),
    )


def _stranger(patience: float) -> float:
    """Whom nobody ever heard of is not waited for as long as one who is away."""
    return min(patience, _STRANGER_SECONDS)


def retry_seconds(header: str | None) -> float | None:
    """A Retry-After in seconds; dates are not understood, as no gateway of ours sends them."""
    try:
        value = math.nan if header is None else float(header)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _address(url: str) -> str:
    try:
        parsed = URL(url)
        known = parsed.scheme in ("http", "https") and bool(parsed.host)
    except ValueError:
        known = False
    if not known or parsed.query_string or parsed.fragment:
        raise ValueError(f"{redacted(url)!r} is no gateway's address; write it like {DEFAULT_URL}")
    return str(parsed).rstrip("/")


def _bearer(key: str) -> dict[str, str]:
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("the API key has characters that no key has")  # which it does not quote
    return {"Authorization": f"Bearer {key}"}
