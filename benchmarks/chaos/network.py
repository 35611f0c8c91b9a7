"""The run's hold on its proxy process."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from benchmarks.chaos.proxy import Answer, Command, Conduct
from benchmarks.deployment import ROOT

_PATIENCE_SECONDS = 10.0


class Network:
    """One proxy process. Its links lead to `upstream`, until `switch`."""

    def __init__(self, seed: int, upstream: int) -> None:
        self._arguments = (str(seed), str(upstream))
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.cuts = 0

    async def start(self) -> int:
        """Start it; returns its process id."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.chaos.proxy", *self._arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return self._process.pid

    async def open(self, link: str, upstream: int | None = None) -> int:
        """Open a link; the port where clients connect. With `upstream` it leads only there."""
        fixed = upstream is not None
        command = Command(link=link, open=True, upstream=upstream, fixed=fixed)
        return (await self._tell(command)).port

    async def behave(self, link: str, conduct: Conduct, *, reset: bool = False) -> None:
        await self._tell(Command(link=link, conduct=conduct, reset=reset))

    async def switch(self, upstream: int) -> None:
        """Lead every link that follows the primary to this port; its connections are reset."""
        await self._tell(Command(upstream=upstream))

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _PATIENCE_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _tell(self, command: Command) -> Answer:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the proxy does not run")
        async with self._turn, asyncio.timeout(_PATIENCE_SECONDS):
            process.stdin.write(msgspec.json.encode(command) + b"\n")
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        answer = msgspec.json.decode(line, type=Answer)
        self.cuts = answer.cuts
        return answer
