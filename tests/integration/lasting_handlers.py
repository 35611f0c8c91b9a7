"""A Python handler that takes as long as it is told, over any number of pauses."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from carbon_orchestrator.worker.context import JobContext


async def lasts(payload: dict[str, Any], context: JobContext) -> None:
    """`seconds` in all; what it has done so far is its checkpoint."""
    saved = context.checkpoint_dir / "saved"
    done = float(saved.read_text()) if saved.exists() else 0.0
    began = time.monotonic()
    try:
        await asyncio.sleep(max(payload["seconds"] - done, 0.0))
    except asyncio.CancelledError:
        saved.write_text(str(done + time.monotonic() - began))
        raise
