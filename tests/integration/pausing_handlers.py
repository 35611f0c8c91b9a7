"""Python handlers that can be suspended, each in its own manner."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from carbon_orchestrator.worker.context import JobContext


async def saves(payload: dict[str, Any], context: JobContext) -> str:
    """Counts its attempts in a checkpoint; runs until released, and saves when cancelled."""
    saved = context.checkpoint_dir / "saved"
    before = saved.read_text() if saved.exists() else ""
    release = context.checkpoint_dir.parent.parent / "release"
    try:
        while not release.exists():
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        if context.suspending():
            saved.write_text(f"{before}{context.attempt};")
        raise
    return f"went on from {before}"


def saves_thread(payload: dict[str, Any], context: JobContext) -> str | None:
    """Likewise, in a thread that looks whether it is to pause."""
    saved = context.checkpoint_dir / "saved"
    before = saved.read_text() if saved.exists() else ""
    release = context.checkpoint_dir.parent.parent / "release"
    while not release.exists():
        if context.suspending():
            saved.write_text(f"{before}{context.attempt};")
            return None
        time.sleep(0.005)
    return f"went on from {before}"


async def finishes(payload: dict[str, Any], context: JobContext) -> str:
    """Uses its grace to get done."""
    asked = context.checkpoint_dir.parent.parent / "asked"
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        asked.touch()
    return "done in time"


def ignores(payload: dict[str, Any], context: JobContext) -> str:
    """Never asks; runs until released."""
    release = context.checkpoint_dir.parent.parent / "release"
    while not release.exists():
        time.sleep(0.005)
    return "done"
