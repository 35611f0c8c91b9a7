"""Handlers that do nothing, so that what is left is the orchestrator's own cost."""

from __future__ import annotations

import os
import struct
import time
from typing import Any

_LATENCIES = os.environ.get("BENCH_LATENCIES")
_file = open(_LATENCIES, "ab", buffering=0) if _LATENCIES else None  # noqa: SIM115


async def noop(payload: dict[str, Any], context: Any) -> None:
    """Return at once."""


async def stamped(payload: dict[str, Any], context: Any) -> None:
    """Write down how long ago the job was sent: payload {"sent": monotonic ns}."""
    assert _file is not None
    _file.write(struct.pack("<q", time.monotonic_ns() - payload["sent"]))
