"""How commands reach the gateway: options that they share, and the client that they use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from cyclopts import Parameter

from carbon_orchestrator.cli.faults import USAGE, Failure

if TYPE_CHECKING:
    from carbon_orchestrator import Client, SyncClient

DEFAULT_URL = "http://127.0.0.1:8000"
Url = Annotated[str, Parameter(env_var="CARBON_URL", help="where the gateway serves")]
ApiKeyFile = Annotated[
    Path | None,
    Parameter(
        env_var="CARBON_API_KEY_FILE", help="file with an API key; else $CARBON_API_KEY is sent"
    ),
]
#: Seconds for which a gateway that went away is waited for.
_PATIENCE = 10.0
_MOST_KEY = 4096


def gateway_client(url: str, api_key_file: Path | None, patience: float = _PATIENCE) -> SyncClient:
    """A client of the gateway. Raises Failure."""
    from carbon_orchestrator import SyncClient

    try:
        return SyncClient(url, api_key=api_key(api_key_file), patience=patience)
    except ValueError as error:
        raise Failure(f"--url: {error}", USAGE) from None


def async_client(url: str, api_key_file: Path | None, patience: float = _PATIENCE) -> Client:
    """The same, for commands that do several things at once. Raises Failure."""
    from carbon_orchestrator import Client

    try:
        return Client(url, api_key=api_key(api_key_file), patience=patience)
    except ValueError as error:
        raise Failure(f"--url: {error}", USAGE) from None


def api_key(file: Path | None) -> str | None:
    """The API key in `file`; None for the environment's. Raises Failure."""
    if file is None:
        return None
    try:
        with file.open() as opened:
            key = opened.read(_MOST_KEY).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--api-key-file {file}: {error}", USAGE) from None
    if not key or not key.isascii() or not key.isprintable():
        raise Failure(f"--api-key-file {file}: there is no API key in it", USAGE)
    return key


def job_path(job_id: str) -> str:
    """Where a job is."""
    return f"/jobs/{quote(job_id, safe='')}"
