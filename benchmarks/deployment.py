"""A deployment of separate processes on a server of its own, for measuring and for chaos."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from carbon_orchestrator.worker.guardian import Guardian
from streams.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parent.parent

CONFIG = """
default_types = false
drain = "5s"
{extra}
[threshold]  # every intensity is low: the decisions are real, and go to FAST
mode = "absolute"
low = 2000
high = 3000
[pools.fast]
slots = {slots}
[pools.eco]
slots = {slots}
[types.noop]
python = "benchmarks.handlers:noop"
expected_duration = "10ms"
max_attempts = 3
[types.stamped]
python = "benchmarks.handlers:stamped"
expected_duration = "10ms"
[types.sleep]
command = ["sleep", "8"]
expected_duration = "10s"
[types.quick]
command = ["true"]
expected_duration = "100ms"
"""


class Deployment:
    """Role processes by name; all are ended, by their ids, when the context is left."""

    def __init__(
        self,
        *,
        slots: int = 200,
        extra: str = "",
        fsync: str = "everysec",
        config: str | None = None,
        program: str | None = None,
    ) -> None:
        """`config`: a whole configuration instead of CONFIG. `program`: another server than
        the bundled one (or by the environment, BENCH_SERVER)."""
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        program = program or os.environ.get("BENCH_SERVER")
        self.server = EmbeddedServer(self.directory / "redis", fsync=fsync, program=program)
        self.config = self.directory / "config.toml"
        text = CONFIG.format(slots=slots, extra=extra) if config is None else config
        self.config.write_text(text)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._guardian = Guardian()
        self._starts: dict[str, tuple[tuple[str, ...], dict[str, str] | None]] = {}
        self.log = (self.directory / "roles.log").open("ab")

    async def __aenter__(self) -> Deployment:
        # However this process ends, what it started ends with it.
        self._guardian.start()
        await self._start_server()
        return self

    async def _start_server(self) -> None:
        await self.server.start()
        assert self.server.pid is not None
        self._guardian.watch(self.server.pid)

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        await self.server.stop()
        self._guardian.close()
        self.log.close()

    def start(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        """Start a role: `start("router-1", "router")`."""
        self._starts[name] = arguments, env
        self.processes[name] = subprocess.Popen(
            self.command(name, arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self._guardian.watch(self.processes[name].pid)

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        """The command line of a role."""
        command = [sys.executable, "-m", "carbon_orchestrator", *arguments]
        command += ["--redis", self.server.url, "--config", str(self.config)]
        return [*command, "--log-level", "warning"]

    def worker(self, name: str, pool: str, env: dict[str, str] | None = None) -> None:
        """Start a worker with a data directory of its own."""
        self.start(name, "worker", "--pool", pool, "--data", str(self.directory / name), env=env)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time used so far, by process."""
        pids = {name: process.pid for name, process in self.processes.items()}
        assert self.server.pid is not None
        pids["server"] = self.server.pid
        times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
        return {name: each.user + each.system for name, each in times.items()}

    def memory(self) -> dict[str, int]:
        """Resident memory, bytes, by process."""
        pids = {name: process.pid for name, process in self.processes.items()}
        return {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self._guardian.forget(process.pid)

    def respawn(self, name: str) -> None:
        """Start a role that has ended once more, as it was started first."""
        arguments, env = self._starts[name]
        self.start(name, *arguments, env=env)

    async def restart_server(self) -> None:
        """kill -9 the server and start it again, on the same files and port."""
        port = self.server.port
        pid = self.server.pid
        self.server.kill()
        if pid is not None:
            self._guardian.forget(pid)
        await self._start_server()
        if self.server.port != port:
            raise RuntimeError(f"port {port} was taken while the server was down")

    def remove(self) -> None:
        """Delete its files, once it has ended and nothing is left to look at."""
        shutil.rmtree(self.directory, ignore_errors=True)
