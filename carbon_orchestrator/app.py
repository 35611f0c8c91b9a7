"""`up`: the bundled server and all roles in one process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import structlog

from carbon_orchestrator.accounting.component import Accounting
from carbon_orchestrator.accounting.record_keeping import archive_directory
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.config import Config
from carbon_orchestrator.data_dir import DataDir
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.component import ScalerRole
from carbon_orchestrator.scaler.local import scaler_of_processes
from carbon_orchestrator.server_url import shown
from carbon_orchestrator.signal.publishing import SignalRole
from carbon_orchestrator.worker.component import WorkerRole
from carbon_orchestrator.worker.everywhere import workers
from carbon_orchestrator.worker.execution import meter_of
from carbon_orchestrator.worker.guardian import Guardian
from streams.embedded import EmbeddedServer

log = structlog.get_logger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` is started with."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    require_keys: bool = False
    insecure: bool = False
    redis: str | None = None
    redis_port: int = 6390
    signal: tuple[str, ...] = ("simulated",)  # the home zone's sources, in order of preference
    speed: float | None = None
    start: int | None = None  # grid ms at which a replay begins
    fsync: str = "everysec"
    config: Path | None = None  # the file, for worker processes


async def stop_on_signals(
    stop: Callable[[], None], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """Call `stop` at the first SIGINT or SIGTERM; a second one cancels everything."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        first = True
        async for number in signals:
            log.info("stopping" if first else "stopping at once", signal=number.name)
            if not first:
                raise KeyboardInterrupt
            first = False
            stop()


async def run_until_stopped(
    runtime: Runtime, *parts: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run the parts side by side until all end, which they do when told to by a signal.

    Raises Refused where the server will not have us.
    """
    async with anyio.create_task_group() as watching:
        await watching.start(_watch, runtime)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runtime.follow_clock)
            for part in parts:
                tasks.start_soon(part)
        watching.cancel_scope.cancel()
    runtime.check()


async def _watch(runtime: Runtime, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await stop_on_signals(runtime.stop.set, task_status=task_status)


async def up(config: Config, settings: Settings, ready: Callable[[str], None]) -> None:
    """Run everything until SIGINT or SIGTERM. `ready` is given the text to greet with.

    Raises DataDirError, EmbeddedError, SignalError, ConfigError, OSError where it cannot run.
    """
    data = DataDir(settings.data)
    await data.lock()
    guardian = Guardian()
    guardian.start()
    server: EmbeddedServer | None = None
    try:
        url = settings.redis
        if url is None:
            server = EmbeddedServer(
                data.path / "redis",
                port=settings.redis_port,
                fsync=settings.fsync,
                keep_fds=(data.lock_fd,),
            )
            await server.start()
            assert server.pid is not None
            guardian.watch(server.pid, signal.SIGTERM)
            url = server.url
        data.note_redis_url(url)
        # Alone on its own server, a process may take up its own pending work at once.
        await _roles(config, settings, data, guardian, url, "up" if server else "", ready)
    finally:
        with anyio.CancelScope(shield=True):
            if server is not None:
                pid = server.pid
                await server.stop()
                if pid is not None:
                    guardian.forget(pid)
            guardian.close()
            data.unlock()


async def _roles(
    config: Config,
    settings: Settings,
    data: DataDir,
    guardian: Guardian,
    url: str,
    name: str,
    ready: Callable[[str], None],
) -> None:
    runtime = Runtime(url, config, name=name)
    try:
        source = SignalRole(runtime, *settings.signal, speed=settings.speed, start=settings.start)
        if not await runtime.ready():
            return
        await source.establish_clock()
        gateway = Gateway(
            runtime,
            settings.host,
            settings.port,
            require_keys=settings.require_keys,
            insecure=settings.insecure,
            archive=archive_directory(config, data.path),
        )
        meter = meter_of(config)
        serving: list[WorkerRole | ScalerRole]
        if config.scaler.up:
            serving = [scaler_of_processes(runtime, guardian, data.path, settings.config)]
        else:
            serving = [
                worker
                for pool in POOLS
                for worker in workers(runtime, pool, data.path, guardian, meter=meter)
            ]
        routers = [Router(each) for each in runtime.each()]
        archive = archive_directory(config, data.path)
        accounting = [Accounting(each, archive) for each in runtime.each()]

        async def greet() -> None:
            with runtime.stop.cut():
                await gateway.started.wait()
                ready(_greeting(gateway, runtime, source, data))

        await run_until_stopped(
            runtime,
            source.run,
            *(router.run for router in routers),
            *(each.run for each in accounting),
            gateway.run,
            *(each.run for each in serving),
            greet,
        )
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(10):
            await runtime.aclose()


def _greeting(gateway: Gateway, runtime: Runtime, source: SignalRole, data: DataDir) -> str:
    clock, (provider, *others) = runtime.clock, source.providers
    speed = "in real time" if clock.speed == 1 else f"{clock.speed:g} times faster than real time"
    label = "SIMULATED, " if provider.simulated else ""
    others_named = "".join(f", else {each.source}" for each in others)
    host = f"http://{gateway.host}:{gateway.port}"
    return (
        f"carbon-orchestrator is up at {host}  (Ctrl-C stops it)\n"
        f"  signal   {label}{provider.source}{others_named}; the grid clock stands at"
        f" {rfc3339(runtime.now())} and runs {speed}\n"
        f"  streams  {shown(runtime.url)}\n"
        f"  data     {data.path}\n"
        f"  try      curl -X POST {host}/jobs -H 'Content-Type: application/json'"
        ' -d \'{"type": "analytics", "urgency": "normal"}\''
    )
