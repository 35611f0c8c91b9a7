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


async def stretch(payload: dict[str, Any], context: Any) -> None:
    """Take so long as told, and go on from where it was paused: payload {"seconds": s on FAST,
    "slowdown": of ECO, "resume": s that going on takes}."""
    saved = context.checkpoint_dir / "worked"
    worked = float(saved.read_text()) if saved.exists() else 0.0
    if saved.exists():
        await asyncio.sleep(payload["resume"])
    length = payload["seconds"] * (payload["slowdown"] if context.pool == "eco" else 1)
    began = time.monotonic()
    try:
        await asyncio.sleep(length * (1 - worked))
    except asyncio.CancelledError:
        saved.write_text(str(worked + (time.monotonic() - began) / length))
        raise
