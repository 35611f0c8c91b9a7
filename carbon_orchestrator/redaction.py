"""Secrets taken out of what is logged: by the name of a value, and by its form inside texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

REDACTED = "[redacted]"
_DEEPEST = 12  # a traceback's frames lie six deep

_NAMES = re.compile(
    r"passw(?:or)?d|passphrase|secret|token|authorization|api[-_]?key|credential|cookie"
    r"|private[-_]?key",
    re.IGNORECASE,
)
_TEXTS = (
    # user:password@ of a URL
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,31}://)[^/\s'\"]*@", re.IGNORECASE), rf"\1{REDACTED}@"),
    # an API key of ours (gateway/door/keys.py)
    (re.compile(r"\bco_[A-Za-z0-9]{4,32}_[A-Za-z0-9_-]{43}"), REDACTED),
    # Authorization: Bearer ...
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{6,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    # password=..., as in a URL's query or a header
    (
        re.compile(
            r"((?:passw(?:or)?d|secret|token|api[-_]?key)\w{0,20}['\"]?\s?[=:]\s?['\"]?)[^\s&'\",;}]+",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """A structlog processor; goes after those that make texts of exceptions."""
    return {name: _value(name, value, 0) for name, value in event.items()}


def text(value: str) -> str:
    """`value` without what looks like a secret."""
    for pattern, replacement in _TEXTS:
        value = pattern.sub(replacement, value)
    return value


def _value(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _NAMES.search(name):
        return REDACTED
    if isinstance(value, str):
        return text(value)
    if depth >= _DEEPEST:
        return REDACTED
    if isinstance(value, Mapping):
        return {key: _value(str(key), each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value("", each, depth + 1) for each in value]
    return text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
