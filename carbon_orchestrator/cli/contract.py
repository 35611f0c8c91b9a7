"""The contract with clients, as a document: `contract`."""

from __future__ import annotations

from pathlib import Path

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure


def contract(*, write: Path | None = None) -> None:
    """Print the OpenAPI document of the HTTP interface, as `/openapi.json` serves it.

    Parameters
    ----------
    write
        A file to write it to instead.
    """
    from carbon_orchestrator.contract.openapi import text

    if write is None:
        output.write(text().rstrip("\n"))
        return
    try:
        write.write_text(text())
    except OSError as error:
        raise Failure(f"{write}: {error.strerror}", USAGE) from None
