"""From a job as a program says it to what is sent for it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from carbon_orchestrator.client.errors import InvalidJob

#: A length of time: seconds, text such as "90s", "1h30m", "PT15M", or a timedelta.
Duration = float | str | timedelta
#: A point in time with a time zone, its RFC 3339 text, or a length of time from submission.
Deadline = Duration | datetime


def encoded(job: Mapping[str, Any]) -> bytes:
    """JSON of the fields that are given (None is not). Raises InvalidJob for what JSON cannot
    say; all else is checked by whoever accepts the job.

    >>> from datetime import timedelta
    >>> encoded({"type": "training", "deadline": timedelta(hours=8), "payload": {"lr": 0.1}})
    b'{"type":"training","deadline":28800.0,"payload":{"lr":0.1}}'
    """
    parts = [
        f'"{_field(name)}":'.encode() + _json(name, written(name, value))
        for name, value in job.items()
        if value is not None
    ]
    return b"{" + b",".join(parts) + b"}"


def _field(name: str) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise InvalidJob(f"{str(name)[:64]!r} is no field of a job")
    return name


def written(field: str, value: Any) -> Any:
    """Times as they are sent: lengths in seconds, points in RFC 3339; all else as it is. Raises
    InvalidJob."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidJob("give the time a time zone, such as tzinfo=UTC", field=field)
        return value.isoformat()
    return value


def _json(field: str, value: Any) -> bytes:
    if isinstance(value, msgspec.Raw):  # which is JSON
        return bytes(value)
    # The standard library's encoder: it refuses NaN, which msgspec would send as null.
    try:
        text = json.dumps(
            value, default=_native, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"this is nothing that JSON can say: {error}", field=field) from None


def _native(value: Any) -> Any:
    """What the standard library does not know: NumPy's numbers and arrays, dataclasses, dates,
    msgspec's structs. Raises TypeError."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return msgspec.to_builtins(value)
