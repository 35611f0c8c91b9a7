"""Jobs that write and report as the test tells them to, by files in the data directory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from carbon_orchestrator.worker.context import JobContext


def _data(context: JobContext) -> Path:
    return context.checkpoint_dir.parent.parent


async def _until_there(file: Path) -> None:
    while not file.exists():
        await asyncio.sleep(0.005)


async def talk(payload: dict[str, Any], context: JobContext) -> None:
    """Says something, how far it is, and holds; the next thing after the test allows it."""
    context.log(f"attempt {context.attempt} begins")
    context.progress(0.25, "first part")
    await _until_there(_data(context) / "go-on")
    context.log("the second part")
    context.progress(0.75, "second part")
    await _until_there(_data(context) / "release")
    if context.attempt < payload.get("until", 1):
        raise ValueError("not yet")
    context.log("bye")


async def chatter(payload: dict[str, Any], context: JobContext) -> None:
    """Writes that many bytes in lines of 100, then holds."""
    for number in range(payload["bytes"] // 100):
        context.log(f"{number:099}")
    await _until_there(_data(context) / "release")


async def unicode_text(payload: dict[str, Any], context: JobContext) -> None:
    """Writes characters of several bytes, one byte at a time, far enough apart to be told so."""
    for byte in "grün ☀\n".encode():
        context._output.write(bytes([byte]))
        await asyncio.sleep(0)
    await _until_there(_data(context) / "release")
