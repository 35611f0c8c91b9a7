"""A small HTTP client of the gateway, whose faults are one line that says what to do."""

from __future__ import annotations

import json
import os
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from carbon_orchestrator import __version__
from carbon_orchestrator.cli.faults import NOT_WELL, UNREACHABLE, USAGE, Failure
from carbon_orchestrator.redaction import text as redacted

_MOST_BYTES = 256 << 20
_MOST_KEY = 4096


def api_key(file: Path | None) -> str | None:
    """The API key in `file`, else in $CARBON_API_KEY; None if there is neither. Raises Failure."""
    if file is None:
        return os.environ.get("CARBON_API_KEY", "").strip() or None
    try:
        with file.open() as opened:
            key = opened.read(_MOST_KEY).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--api-key-file {file}: {error}", USAGE) from None
    if not key or not key.isascii() or not key.isprintable():
        raise Failure(f"--api-key-file {file}: there is no API key in it", USAGE)
    return key


class Unreachable(Failure):
    """Nobody answered, or nobody who could: trying again may help."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


class GatewayClient:
    """Blocking; one connection per request. Every method raises Failure.

    `url`: where the gateway serves, such as "http://127.0.0.1:8000". `key`: an API key, sent
    with every request. `timeout`: seconds without a byte before it is taken for dead.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 15.0) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise Failure(f"--url {redacted(url)}: {error}", USAGE) from None
        if parts.scheme not in ("http", "https") or not self._host:
            raise Failure(f"--url {redacted(url)}: write it like http://127.0.0.1:8000", USAGE)
        #: Without a login, as it is shown.
        self.url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self._secure = parts.scheme == "https"
        self._base = parts.path.rstrip("/")
        self._timeout = timeout
        self._key = key

    def get(self, path: str, **query: str | int | None) -> Any:
        """The decoded body; query parameters that are None are left out."""
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        return self._request("GET", f"{path}?{asked}" if asked else path)

    def job(self, job_id: str) -> Any:
        """A job with its timeline."""
        return self.get(f"/jobs/{quote(job_id, safe='')}")

    def submit(self, body: bytes, key: str) -> Any:
        """The new job's head, or the job that the idempotency key stands for already."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return self._request("POST", "/jobs", body, headers)

    def cancel(self, job_id: str) -> Any:
        """The job as it stood when its cancellation was asked for."""
        return self._request("DELETE", f"/jobs/{quote(job_id, safe='')}")

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        again = _again(headers or {})
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Unreachable(
                    f"no gateway at {self.url} ({error.strerror or error}): start one with"
                    " `carbon-orchestrator up`, or say where it is with --url or $CARBON_URL"
                ) from None
            sent = {"User-Agent": f"carbon-orchestrator/{__version__}", "Connection": "close"}
            if self._key is not None:
                sent["Authorization"] = f"Bearer {self._key}"
            connection.request(method, self._base + path, body, sent | (headers or {}))
            response = connection.getresponse()
            content = response.read(_MOST_BYTES + 1)
        except TimeoutError:
            raise Unreachable(
                f"{self.url} gave no answer in {self._timeout:g} s; {again}"
            ) from None
        except (OSError, HTTPException) as error:
            why = str(error) or type(error).__name__
            raise Unreachable(f"{self.url} broke off ({why}); {again}") from None
        except ValueError as error:  # a header or path that HTTP cannot carry
            raise Failure(str(error), USAGE) from None
        finally:
            connection.close()
        if len(content) > _MOST_BYTES:
            raise Failure(f"{method} {path}: the answer is over {_MOST_BYTES >> 20} MiB")
        return self._decoded(method, path, response.status, response.headers, content)

    def _decoded(self, method: str, path: str, status: int, headers: Any, content: bytes) -> Any:
        kind = headers.get_content_type()
        try:
            value = json.loads(content) if kind.endswith(("/json", "+json")) else None
        except (ValueError, RecursionError):
            value = None
        if 200 <= status < 300 and value is not None:
            return value
        if kind != "application/problem+json" or not isinstance(value, dict):
            raise Failure(
                f"{self.url} answers {method} {path} with {status} {kind}, which no gateway of"
                " ours does; check --url or $CARBON_URL",
                UNREACHABLE,
            )
        raise _failure(status, value, headers.get("Retry-After"))


def _again(headers: dict[str, str]) -> str:
    """What to do when the answer was lost: a key makes a second submission harmless."""
    key = headers.get("Idempotency-Key")
    if key is None:
        return "try again"
    return f"whether it took the job is unknown: submit it again with --idempotency-key {key}"


def _failure(status: int, problem: dict[str, Any], retry_after: str | None) -> Failure:
    """An RFC 9457 problem as one line."""
    text = str(problem.get("detail") or problem.get("title") or f"status {status}")
    field = problem.get("field")
    if (
        field
        and not text.startswith(str(field))
        and problem.get("type", "")[-12:] != "unknown-type"
    ):
        text = f"{field}: {text}"
    if status == 401:
        text += " (give a key in $CARBON_API_KEY or --api-key-file)"
    if status in (429, 503):
        again = f" (try again in {retry_after} s)" if retry_after else ""
        return Unreachable(f"{text}{again}")
    return Failure(text, USAGE if status in (400, 413, 415, 422) else NOT_WELL)
