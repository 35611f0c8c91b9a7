"""`carbon-orchestrator audit verify` over what a run has left."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.deployment import ROOT

_PATIENCE_SECONDS = 300.0
_SHOWN = 2000


async def verify(url: str, config: Path, archive: Path) -> str:
    """The end of what it says, if its exit status is not 0; else nothing."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "carbon_orchestrator", "audit", "verify"),
        *("--redis", url, "--config", str(config), "--archive", str(archive)),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _PATIENCE_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"no answer in {_PATIENCE_SECONDS:g} s"
    if process.returncode == 0:
        return ""
    return f"status {process.returncode}: {output.decode(errors='replace')[-_SHOWN:]}"
