"""What the jobs of these tests run: small handlers of every kind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from carbon_orchestrator.worker.context import JobContext


async def quick(payload: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Returns what it was given."""
    return {"echo": payload}


async def hold(payload: dict[str, Any], context: JobContext) -> None:
    """Runs until the test allows its end, or is cancelled."""
    context.log("holding")
    release = context.checkpoint_dir.parent.parent / "release"
    while not release.exists():
        await asyncio.sleep(0.005)


def hold_thread(payload: dict[str, Any], context: JobContext) -> None:
    """Likewise, in a thread."""
    release = context.checkpoint_dir.parent.parent / "release"
    while not release.exists() and not context.cancelled():
        time.sleep(0.005)


async def burn(payload: dict[str, Any], context: JobContext) -> None:
    """Spends some CPU time, so that there is energy to account for."""
    end = time.thread_time() + payload.get("ms", 5) / 1000
    while time.thread_time() < end:
        pass


async def broken(payload: dict[str, Any], context: JobContext) -> None:
    """Fails until the attempt given as `until`."""
    if context.attempt < payload.get("until", 100):
        raise ValueError("it broke")
