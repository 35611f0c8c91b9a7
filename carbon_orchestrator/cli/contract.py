"""The contract with clients, as documents: `contract`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure


def contract(
    document: Literal["openapi", "asyncapi", "schemas"] = "openapi",
    /,
    *,
    write: Path | None = None,
) -> None:
    """Print the contract: the HTTP interface, streams, events.

    Parameters
    ----------
    document
        openapi: the HTTP interface (OpenAPI 3.1); asyncapi: the streams (AsyncAPI 3.0); schemas:
        the JSON Schema of each event. The gateway serves them as /openapi.json, /asyncapi.json
        and /schemas.json.
    write
        A file to write it to instead.
    """
    from carbon_orchestrator.contract.documents import text

    if write is None:
        output.write(text(document).rstrip("\n"))
        return
    try:
        write.write_text(text(document))
    except OSError as error:
        raise Failure(f"{write}: {error.strerror}", USAGE) from None
