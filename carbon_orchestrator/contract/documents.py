"""The contract with clients, as documents: made from the code, and kept beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from carbon_orchestrator.contract import asyncapi, openapi, wire

Name = Literal["openapi", "asyncapi", "schemas"]
#: The HTTP interface, the streams, and the JSON Schemas of the events on them.
DOCUMENTS: Mapping[Name, Callable[[], dict[str, Any]]] = {
    "openapi": openapi.document,
    "asyncapi": asyncapi.document,
    "schemas": wire.document,
}


def text(name: Name) -> str:
    """A document as it is kept and served."""
    made = msgspec.json.encode(DOCUMENTS[name]())
    return msgspec.json.format(made, indent=2).decode() + "\n"


def kept(name: Name) -> Path:
    """Where it is kept."""
    return Path(__file__).with_name(f"{name}.json")
