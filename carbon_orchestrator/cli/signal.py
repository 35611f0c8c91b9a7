"""`signal`: the role that publishes the grid's carbon intensity, and `signal backfill`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from cyclopts import App, Parameter

from carbon_orchestrator import logs
from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.cli.progress import progress
from carbon_orchestrator.cli.roles import (
    DEFAULT_REDIS,
    SIMULATED,
    ConfigFile,
    LogLevel,
    ProbePort,
    Redis,
    Signals,
    point_in_time,
    redis_url,
    run_async,
    serve,
)
from carbon_orchestrator.cli.stream_server import Data, ServerUrl, with_server
from carbon_orchestrator.config import load
from carbon_orchestrator.runtime import Runtime

if TYPE_CHECKING:
    from redis.asyncio import Redis as Client

signal = App(name="signal", help="Publish the grid's carbon intensity, or load its history.")


@signal.default
def publish(
    *,
    redis: Redis = DEFAULT_REDIS,
    signal: Signals = None,
    speed: float | None = None,
    start: str | None = None,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
    probe_port: ProbePort = None,
) -> None:
    """Publish the grid's carbon intensity.

    The zones of the configuration are published too, from the sources that it names.

    Parameters
    ----------
    speed
        Play it so many times faster than real time (simulated: 60).
    start
        Time in the trace at which to begin.
    """

    async def part(runtime: Runtime) -> Callable[[], Coroutine[Any, Any, None]]:
        from carbon_orchestrator.signal.publishing import SignalRole

        role = SignalRole(
            runtime, *(signal or SIMULATED), speed=speed, start=point_in_time("--start", start)
        )
        await role.establish_clock()
        return role.run

    serve(redis, config, log_level, part, probe_port=probe_port, by_the_clock=False)  # it sets it


@signal.command
def backfill(
    *,
    begin: Annotated[str, Parameter(name="--from")],
    end: Annotated[str | None, Parameter(name="--to")] = None,
    signal: str = "simulated",
    zone: str | None = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    log_level: LogLevel = "warning",
) -> None:
    """Load the history of a carbon signal, so that the first jobs have something to be judged by.

    Points that are already there are left as they are, so it can be repeated.

    Parameters
    ----------
    begin
        Time of the first point, such as 2026-01-31T00:00Z.
    end
        Time of the last point; by default now.
    signal
        Where to load from: neso, energy-charts:de and so on, as `up --signal` takes them.
    zone
        The zone that it is the history of; by default the home zone.
    """
    from carbon_orchestrator.signal.backfill import Backfill
    from carbon_orchestrator.signal.naming import parse

    logs.configure(log_level)
    url, loaded = redis_url(redis, data), load(config)
    zone = loaded.zone if zone is None else zone
    if zone not in (loaded.zone, *loaded.zones):
        known = ", ".join((loaded.zone, *loaded.zones))
        raise Failure(f"--zone {zone}: there is no such zone; the zones are {known}", USAGE)
    first, last = point_in_time("--from", begin), point_in_time("--to", end)
    assert first is not None
    provider = parse(signal, zone)

    async def use(client: Client) -> int:
        await client.ping()
        runtime = Runtime(url, loaded)
        try:
            await runtime.ready()
            title = f"{provider.source}, zone {zone}"
            with progress() as bars:
                return await Backfill(runtime, signal, provider).run(
                    first, last, lambda share: None if bars is None else bars(title, share)
                )
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await provider.aclose()
                await runtime.aclose()

    count = run_async(lambda: with_server(url, use))
    output.write(f"{count} points of {provider.source} published for zone {zone}")
