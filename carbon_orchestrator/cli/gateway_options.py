"""How commands reach the gateway: options that they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from carbon_orchestrator.cli.gateway_client import GatewayClient

DEFAULT_URL = "http://127.0.0.1:8000"
Url = Annotated[str, Parameter(env_var="CARBON_URL", help="where the gateway serves")]
ApiKeyFile = Annotated[
    Path | None,
    Parameter(
        env_var="CARBON_API_KEY_FILE", help="file with an API key; else $CARBON_API_KEY is sent"
    ),
]


def gateway_client(url: str, api_key_file: Path | None) -> GatewayClient:
    """A client of the gateway. Raises Failure."""
    from carbon_orchestrator.cli.gateway_client import GatewayClient, api_key

    return GatewayClient(url, api_key(api_key_file))
