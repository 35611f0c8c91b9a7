"""Python handlers whose steps are all on file, so that none can be lost or done twice unseen."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from carbon_orchestrator.worker.context import JobContext


class _Count:
    """One step after the other, each a line in the journal of the job, beside its directory. How
    far it came is in the directory, from when it is saved."""

    def __init__(self, context: JobContext) -> None:
        self._saved = context.checkpoint_dir / "count"
        self._journal = context.checkpoint_dir.parent / f"{context.job_id}.journal"
        self.began = self.steps = int(self._saved.read_text()) if self._saved.exists() else 0

    def step(self) -> None:
        self.steps += 1
        with self._journal.open("a") as journal:
            journal.write(f"{self.steps}\n")

    def save(self) -> None:
        self._saved.write_text(str(self.steps))


def _released(context: JobContext, name: str) -> Path:
    return context.checkpoint_dir.parent.parent / name


async def counts(payload: dict[str, Any], context: JobContext) -> str:
    """Counts until released, and saves when it is to pause."""
    count = _Count(context)
    try:
        while not _released(context, "release").exists():
            count.step()
            await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        if context.suspending():
            count.save()
        raise
    return f"{count.began} to {count.steps}"


def counts_in_a_thread(payload: dict[str, Any], context: JobContext) -> str | None:
    """Likewise, in a thread that looks whether it is to pause."""
    count = _Count(context)
    while not _released(context, "release").exists():
        if context.suspending():
            count.save()
            return None
        count.step()
        time.sleep(0.2)
    return f"{count.began} to {count.steps}"


async def finishes(payload: dict[str, Any], context: JobContext) -> str:
    """Counts until it may finish; keeps nothing for another attempt."""
    count = _Count(context)
    while not _released(context, "finish").exists():
        count.step()
        await asyncio.sleep(0.2)
    return f"{count.began} to {count.steps}"
