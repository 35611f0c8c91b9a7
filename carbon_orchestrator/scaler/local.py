"""Workers of this machine as processes of ours: started, drained, and ended when we end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import structlog

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Pool
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.actuator import ActuatorError
from carbon_orchestrator.scaler.component import ScalerRole, away_zone
from carbon_orchestrator.worker.guardian import Guardian

log = structlog.get_logger(__name__)

#: What a worker needs, beside the drain time, to interrupt its jobs and leave.
_LEAVE_SECONDS = 70.0
#: A worker that ends sooner by itself has a fault that a new one will have, too.
_SHORT_SECONDS = 10.0
_LONGEST_PAUSE = 60.0
#: Of a consumer's name: worker-SITE-HOST-PID-RANDOM.
_PID = re.compile(r"-(\d+)-[0-9a-f]{6}$")


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.started = time.monotonic()
        self.leaving = False


class LocalWorkers:
    """Worker processes by pool. `url`: of the stream server; `options`: further arguments of
    `carbon-orchestrator worker`."""

    name = "local"
    shared = False
    dry = False

    def __init__(
        self, config: Config, url: str, guardian: Guardian, options: Sequence[str] = ()
    ) -> None:
        self._patience = seconds(config.drain) + _LEAVE_SECONDS
        self._url = url
        self._guardian = guardian
        self._options = list(options)
        self._workers: dict[Pool, list[_Worker]] = {}
        self._waits: set[asyncio.Task[None]] = set()
        self._faults = 0  # workers that ended at once, in a row
        self._not_before = 0.0

    @classmethod
    def options(cls, data: Path, config: Path | None, zone: str, log_level: str) -> list[str]:
        """Arguments of the workers for a data directory, configuration and zone ("": home)."""
        given = ["--data", str(data), "--log-level", log_level]
        if config is not None:
            given += ["--config", str(config)]
        return [*given, "--zone", zone] if zone else given

    async def leading(self) -> bool:
        return True

    async def size(self, pool: Pool) -> int:
        wait = self._not_before - time.monotonic()
        if wait > 0:
            raise ActuatorError(
                f"{self._faults} workers ended by themselves at once (their own lines say why);"
                f" the next try is in {wait:.0f} s"
            )
        return len(self._present(pool))

    async def scale(
        self, pool: Pool, current: int, size: int, busy: frozenset[str], reason: str
    ) -> None:
        present = self._present(pool)
        for _ in range(size - len(present)):
            # A stop in between must not leave one behind that nobody knows of.
            with anyio.CancelScope(shield=True):
                await self._start(pool)
        if size < len(present):
            for worker in leaving_first(present, busy)[: len(present) - size]:
                self._send_away(worker)

    async def stand_by(self, pools: Sequence[Pool]) -> None:
        for pool in pools:
            for worker in self._present(pool):
                self._send_away(worker)

    async def aclose(self) -> None:
        """Drain all workers, and wait for them."""
        await self.stand_by(list(self._workers))
        if self._waits:
            await asyncio.wait(self._waits, timeout=self._patience + 10)

    def _present(self, pool: Pool) -> list[_Worker]:
        return [
            worker
            for worker in self._workers.get(pool, [])
            if not worker.leaving and worker.process.returncode is None
        ]

    async def _start(self, pool: Pool) -> None:
        command = [sys.executable, "-m", "carbon_orchestrator", "worker", "--pool", pool]
        # The URL may hold a password: everybody can read arguments.
        environment = {**os.environ, "CARBON_REDIS_URL": self._url}
        environment.pop("CARBON_PROBE_PORT", None)  # it is this process's
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                *self._options,
                stdin=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ActuatorError(f"no worker can be started: {error}") from None
        self._guardian.watch(process.pid, signal.SIGTERM)
        worker = _Worker(process)
        self._workers.setdefault(pool, []).append(worker)
        wait = asyncio.create_task(self._wait(pool, worker))
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)

    async def _wait(self, pool: Pool, worker: _Worker) -> None:
        """Until it has ended, by itself or because it was sent away."""
        status = await worker.process.wait()
        self._guardian.forget(worker.process.pid)
        self._workers[pool].remove(worker)
        if worker.leaving:
            return
        log.warning("worker ended by itself", pool=pool, status=status)
        if time.monotonic() - worker.started >= _SHORT_SECONDS:
            self._faults = 0
            return
        self._faults += 1
        pause = min(2.0 ** (self._faults - 1), _LONGEST_PAUSE)
        self._not_before = time.monotonic() + pause

    def _send_away(self, worker: _Worker) -> None:
        """Let it finish or suspend its jobs and leave; end it if it takes too long."""
        worker.leaving = True
        worker.process.send_signal(signal.SIGTERM)
        wait = asyncio.create_task(self._end(worker))
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)

    async def _end(self, worker: _Worker) -> None:
        with anyio.move_on_after(self._patience):
            await worker.process.wait()
            return
        log.error("worker does not leave, ended", pid=worker.process.pid)
        try:
            os.killpg(worker.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def leaving_first(workers: Sequence[_Worker], busy: frozenset[str]) -> list[_Worker]:
    """In the order in which they should go: idle ones first, then those that came last."""
    at_work = {int(found.group(1)) for name in busy if (found := _PID.search(name)) is not None}
    return sorted(workers, key=lambda worker: (worker.process.pid in at_work, -worker.started))


def scaler_of_processes(
    runtime: Runtime,
    guardian: Guardian,
    data: Path,
    config: Path | None,
    *,
    pools: Sequence[Pool] = (),
    zone: str | None = None,
    log_level: str = "warning",
) -> ScalerRole:
    """A scaler of worker processes on this machine, which work with `data` and `config`."""
    options = LocalWorkers.options(data, config, away_zone(runtime, zone), log_level)
    workers = LocalWorkers(runtime.config, runtime.url, guardian, options)
    return ScalerRole(runtime, workers, pools=pools, zone=zone)
