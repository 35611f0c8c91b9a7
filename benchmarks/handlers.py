"""Handlers that do nothing, or what is told, so that the orchestrator's own part shows."""

from __future__ import annotations

import asyncio
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


async def nap(payload: dict[str, Any], context: Any) -> None:
    """Sleep: payload {"seconds": s}."""
    await asyncio.sleep(payload["seconds"])


async def flaky(payload: dict[str, Any], context: Any) -> None:
    """Fail in the first attempts: payload {"failures": n}."""
    if context.attempt <= payload["failures"]:
        raise RuntimeError(f"attempt {context.attempt} fails as told")
