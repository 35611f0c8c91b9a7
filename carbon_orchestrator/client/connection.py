"""What all parts of the client rest on: one gateway, and its answers as typed values."""

from __future__ import annotations

from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from carbon_orchestrator.client.errors import InvalidRequest, OrchestratorError
from carbon_orchestrator.client.jobs import Job
from carbon_orchestrator.client.transport import Transport

T = TypeVar("T")


class Connection:
    """To one gateway; parameters and errors as of Client."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 15.0,
        patience: float = 30.0,
    ) -> None:
        self._transport = Transport(url, api_key, timeout=timeout, patience=patience)

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def get(self, path: str, /, **query: str | int | None) -> Any:
        """The JSON at a path of the HTTP interface, as it came; query parameters that are None
        are left out. For what has no method of its own."""
        asked = [(name, str(value)) for name, value in query.items() if value is not None]
        return await self._transport.ask("GET", path, query=asked)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def typed(kind: type[T], answer: Any) -> T:
    """An answer as what it says. Raises OrchestratorError."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise OrchestratorError(
            f"the gateway's answer is not understood ({error}): is its version ours?"
        ) from None


def id_of(job: Job | str) -> str:
    """A job's id."""
    return job if isinstance(job, str) else job.id


def path_of(job: Job | str) -> str:
    """Where a job is."""
    return f"/jobs/{quote(id_of(job), safe='')}"


def header(name: str, value: str) -> str:
    """`value`, if a header can carry it as it is. Raises InvalidRequest."""
    if not value or not value.isascii() or not value.isprintable() or value.strip() != value:
        raise InvalidRequest(f"{name} is of printable ASCII characters, no blanks at its ends")
    return value
