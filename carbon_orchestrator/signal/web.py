"""JSON over HTTP from a source that may be slow, broken, closed or hostile."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from carbon_orchestrator.signal.credentials import Secret
from carbon_orchestrator.signal.provider import SignalError

T = TypeVar("T")

TIMEOUT = 20.0  # seconds for one answer, to its last byte
LARGEST = 8 * 2**20  # bytes of an answer; 14 days of NESO with its generation mix are 0.5 MB
LONGEST_QUIET = 6 * 3600.0  # seconds; beyond it a Retry-After is rather a mistake
SHORTEST_QUIET = 1.0
UNSTATED_QUIET = 60.0  # after a 429 that does not say
_REDIRECTS = 3
_REMEMBERED = 6  # answers: the newest, the last day, the forecast; not a long history
CHANGED = "its interface may have changed, use another source"
_LATER = "it is asked again later"


def base_url(source: str, variable: str, public: str, given: str | None = None) -> URL:
    """`given`, else what the environment's `variable` says, else `public`. Raises SignalError."""
    text = given or os.environ.get(variable) or public
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SignalError(f"{source}: {variable} is no URL; write http(s)://host", permanent=True)
    if url.user is not None or url.password is not None:
        raise SignalError(f"{source}: {variable} must not hold a password", permanent=True)
    return url


class WebSource:
    """Asks one source, one request at a time; what it said lately is not asked again.

    Each failure is a SignalError. After a Retry-After no request is made until it is over.
    `clock`: seconds that never go back.
    """

    def __init__(
        self,
        name: str,
        base: URL,
        *,
        refused: str = "it wants no key; a proxy may stand in between",
        unknown: str = CHANGED,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refused`, `unknown`: what the operator can do about a 401/403, and about a 400/404."""
        self.name, self.base, self.timeout = name, base, timeout
        self.clock = clock
        self._refused, self._unknown = refused, unknown
        self._session: aiohttp.ClientSession | None = None
        self._one = asyncio.Lock()
        self._answers: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[float, Any]] = {}
        self._quiet_until = 0.0

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(
        self,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[Any], T],
        *,
        headers: Mapping[str, Secret] | None = None,
        fresh: float = 0.0,
    ) -> T:
        """`parse` of the JSON at `path`, or of that seen in the last `fresh` seconds."""
        key = (path, tuple(sorted(params.items())))
        try:
            async with asyncio.timeout(self.timeout), self._one:
                now = self.clock()
                if key in self._answers and now < self._answers[key][0]:
                    known: T = self._answers[key][1]
                    return known
                parsed = parse(await self._ask(path, params, headers or {}))
        except TimeoutError:
            raise SignalError(
                f"{self.name}: no full answer within {self.timeout:g} s; {_LATER}"
            ) from None
        if fresh:
            self._answers.pop(key, None)
            while len(self._answers) >= _REMEMBERED:
                del self._answers[next(iter(self._answers))]
            self._answers[key] = (self.clock() + fresh, parsed)
        return parsed

    async def _ask(
        self, path: str, params: Mapping[str, str], headers: Mapping[str, Secret]
    ) -> Any:
        if (quiet := self._quiet_until - self.clock()) > 0:
            raise SignalError(
                f"{self.name}: asked to be left alone for {quiet:.0f} s more; {_LATER}",
                retry_after=quiet,
            )
        try:
            return await self._request(self.base.joinpath(path, encoded=False), params, headers)
        except (SignalError, TimeoutError):
            raise
        except aiohttp.ClientPayloadError:
            raise SignalError(f"{self.name}: the answer broke off; {_LATER}") from None
        except Exception as error:
            # From None, as aiohttp's frames hold the headers, and tracebacks may print them.
            reason = one_line(str(error) or type(error).__name__, headers.values())
            raise SignalError(f"{self.name}: cannot be reached: {reason}; {_LATER}") from None

    async def _request(
        self, url: URL, params: Mapping[str, str], headers: Mapping[str, Secret]
    ) -> Any:
        if self._session is None:
            # No kept connections: polls are minutes apart, and a kept one is closed by then.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=1),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self.timeout),
                headers={"User-Agent": "carbon-orchestrator", "Accept": "application/json"},
            )
        url = url.update_query(params)
        for _ in range(_REDIRECTS + 1):
            async with self._session.get(
                url,
                headers={name: secret.reveal() for name, secret in headers.items()},
                allow_redirects=False,
            ) as response:
                if response.status not in (301, 302, 303, 307, 308):
                    return await self._understand(response, headers)
                url = self._redirected(url, response.headers.get("Location", ""))
        raise SignalError(f"{self.name}: redirects without end; {_LATER}")

    def _redirected(self, url: URL, location: str) -> URL:
        target = url.join(URL(location))
        same_host = target.host == url.host and target.scheme in (url.scheme, "https")
        if not same_host or (target.scheme == url.scheme and target.port != url.port):
            raise SignalError(
                f"{self.name}: redirects to {one_line(str(target.origin()))}, which is not"
                " followed, as keys are for one host; check for a login page in between"
            )
        return target

    async def _understand(
        self, response: aiohttp.ClientResponse, headers: Mapping[str, Secret]
    ) -> Any:
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > LARGEST:
                raise SignalError(
                    f"{self.name}: the answer is larger than {LARGEST >> 20} MiB; {_LATER}"
                )
        if response.status != HTTPStatus.OK:
            raise self._failure(response, bytes(body), headers)
        if not body.strip():
            raise SignalError(f"{self.name}: the answer is empty; {self._unknown}")
        try:
            # The standard module reads NaN, which some servers write; it is skipped as a value.
            return json.loads(body)
        except (ValueError, RecursionError):
            kind = one_line(response.headers.get("Content-Type", "unnamed"))
            raise SignalError(
                f"{self.name}: the answer ({kind}) is not JSON; a proxy or a login page may"
                f" stand in between, {_LATER}"
            ) from None

    def _failure(
        self, response: aiohttp.ClientResponse, body: bytes, headers: Mapping[str, Secret]
    ) -> SignalError:
        status = response.status
        said = one_line(_said(body), headers.values())
        what = f"{self.name}: answered {status}" + (f" ({said})" if said else "")
        if status in (401, 403):
            return Refused(f"{what}; {self._refused}", status)
        if 400 <= status < 500 and status not in (408, 425, 429):
            return SignalError(f"{what}; {self._unknown}", permanent=True)
        wall = time.time()
        quiet = retry_after(response.headers.get("Retry-After"), wall)
        if quiet is None and status == HTTPStatus.TOO_MANY_REQUESTS:
            quiet = UNSTATED_QUIET
        if quiet is not None:
            self._quiet_until = self.clock() + quiet
        return SignalError(f"{what}; {_LATER}", retry_after=quiet)


class Refused(SignalError):
    """A 401 or 403 (`status`): the key is wrong, or what was asked for is not in its plan."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, permanent=True)
        self.status = status


def retry_after(text: str | None, wall: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number or an HTTP-date (RFC 9110, 10.2.3).

    `wall`: Unix time. Between SHORTEST_QUIET and LONGEST_QUIET; None for what is neither.
    """
    text = (text or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    if seconds != seconds:  # NaN
        return None
    return min(max(seconds, SHORTEST_QUIET), LONGEST_QUIET)


def one_line(text: str, secrets: Iterable[Secret] = ()) -> str:
    """`text` as one printable line of 160 characters at most, without `secrets`."""
    for secret in secrets:
        text = secret.hide_in(text)
    text = " ".join(text.split())
    text = "".join(letter for letter in text if letter.isprintable())
    return text if len(text) <= 160 else f"{text[:159]}…"


def _said(body: bytes) -> str:
    """The message in an error's JSON, wherever it stands; "" for anything else."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(found, dict):
            found = found.get(name, found)
    return found if isinstance(found, str) else ""
