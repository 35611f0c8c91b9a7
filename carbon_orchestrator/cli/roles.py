"""Commands that serve: `up`, and each role by itself."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import msgspec
from cyclopts import Parameter

from carbon_orchestrator import logs
from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.config import Config, PolicyName, complete, load
from carbon_orchestrator.data_dir import default_data_dir
from carbon_orchestrator.events import Pool
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.tracing import exporting

if TYPE_CHECKING:
    from carbon_orchestrator.scaler.component import ScalerRole
    from carbon_orchestrator.worker.component import WorkerRole
    from carbon_orchestrator.worker.guardian import Guardian

Redis = Annotated[str, Parameter(env_var="CARBON_REDIS_URL", help="URL of the stream server")]
ConfigFile = Annotated[
    Path | None, Parameter(name="--config", env_var="CARBON_CONFIG", help="TOML configuration")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], Parameter(help="least severe log shown")
]
Signals = Annotated[
    list[str] | None,
    Parameter(
        name="--signal",
        negative="",
        help="carbon signal: neso, neso:REGION, energy-charts:COUNTRY, electricitymaps:ZONE,"
        " watttime:REGION, csv:PATH[:COLUMN] or simulated; repeated, the next ones speak where"
        " those before fail",
    ),
]
Policy = Annotated[
    PolicyName | None, Parameter(help="when and where jobs run, instead of the configuration's")
]
Partitions = Annotated[
    list[int] | None,
    Parameter(negative="", help="partition to serve; repeated; by default all of them"),
]
RequireKeys = Annotated[
    bool,
    Parameter(negative="", help="API keys from loopback, too, as behind a proxy on this machine"),
]
Insecure = Annotated[
    bool, Parameter(negative="", help="no API keys, wherever it listens: everybody may do all")
]
Named = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="with --insecure: a name that it may be called by; repeated; by default any",
    ),
]
ProbePort = Annotated[
    int | None,
    Parameter(
        env_var="CARBON_PROBE_PORT",
        help="port for GET /livez and /readyz, on all addresses; none by default",
    ),
]
SIMULATED = ("simulated",)
DEFAULT_REDIS = "redis://127.0.0.1:6379/0"


def run_async(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run on the fast event loop."""
    # What is loaded by now stays: keep it out of every later collection, and collect less.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    return anyio.run(main, backend_options={"use_uvloop": True})


def both_ways(require_keys: bool, insecure: bool) -> None:
    """Raises Failure where keys are asked for and done without at once."""
    if require_keys and insecure:
        raise Failure("--require-keys and --insecure: give one of them", USAGE)


def point_in_time(option: str, text: str | None) -> int | None:
    """Ms since the Unix epoch of what `option` says. Raises Failure."""
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}", USAGE) from None


def up(
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    data: Path | None = None,
    redis: str | None = None,
    redis_port: int = 6390,
    partitions: int | None = None,
    signal: Signals = None,
    speed: float | None = None,
    start: str | None = None,
    policy: Policy = None,
    require_keys: RequireKeys = False,
    insecure: Insecure = False,
    config: ConfigFile = None,
    log_level: LogLevel = "warning",
) -> None:
    """Run everything on this machine, in one process.

    That is the bundled server and all roles.

    Parameters
    ----------
    port
        HTTP port.
    host
        HTTP address; one that others can reach needs an API key first (`keys create`).
    data
        Directory for the server's files and checkpoints.
    redis
        URL of a server of yours, instead of the bundled one.
    redis_port
        Port of the bundled server; another is taken if it is in use.
    partitions
        Shares of the deployment that stand alone, for a cluster; fixed at the first start.
    speed
        Play a trace, and the clock of deadlines and deferrals, so many times faster.
    start
        Time in the trace at which to begin, such as 2020-06-01T00:00Z.
    """
    from carbon_orchestrator import app
    from carbon_orchestrator.worker.confinement import give_up_privileges

    both_ways(require_keys, insecure)
    if speed is not None and not 0 < speed <= 1_000_000:
        raise Failure("--speed must be above 0 and at most 1000000", USAGE)
    logs.configure(log_level)
    give_up_privileges()
    settings = app.Settings(
        data=data or default_data_dir(),
        host=host,
        port=port,
        require_keys=require_keys,
        insecure=insecure,
        redis=redis,
        redis_port=redis_port,
        signal=tuple(signal or SIMULATED),
        speed=speed,
        start=point_in_time("--start", start),
        config=config,
    )
    loaded = with_policy(load(config), policy)
    if partitions is not None:
        loaded = complete(msgspec.structs.replace(loaded, partitions=partitions), "--partitions")

    async def main() -> None:
        await app.up(loaded, settings, _greet)

    with exporting():
        run_async(main)


def _greet(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def with_policy(config: Config, policy: PolicyName | None) -> Config:
    """`config`, with another policy if one is named."""
    return config if policy is None else msgspec.structs.replace(config, policy=policy)


def serve(
    redis: str,
    config: Path | None,
    log_level: str,
    part: Callable[[Runtime], Awaitable[Callable[[], Coroutine[Any, Any, None]]]],
    *,
    probe_port: int | None,
    by_the_clock: bool = True,
    sets_clock: bool = True,
    policy: PolicyName | None = None,
) -> None:
    """Run one role until a signal: wait for the server and, if it tells the time of jobs
    `by_the_clock`, for the clock; build the role, run it."""
    from carbon_orchestrator.app import run_until_stopped
    from carbon_orchestrator.probes import probes

    if probe_port is not None and not 1 <= probe_port <= 65_535:
        raise Failure("--probe-port must be 1 to 65535", USAGE)
    logs.configure(log_level)
    loaded = with_policy(load(config), policy)

    async def main() -> None:
        runtime = Runtime(redis, loaded)

        async def role() -> None:
            async with nullcontext() if probe_port is None else probes(runtime, probe_port):
                if await runtime.ready():
                    if by_the_clock:
                        await runtime.clock_set(claims=sets_clock)
                    await (await part(runtime))()

        try:
            await run_until_stopped(runtime, role)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await runtime.aclose()

    with exporting():
        run_async(main)


def guarded(
    guardian: Guardian, *roles: WorkerRole | ScalerRole
) -> Callable[[], Coroutine[Any, Any, None]]:
    """The roles' `run` side by side, which closes their guardian in the end."""

    async def run() -> None:
        try:
            await all_of(role.run for role in roles)()
        finally:
            guardian.close()

    return run


def all_of(
    parts: Iterable[Callable[[], Coroutine[Any, Any, None]]],
) -> Callable[[], Coroutine[Any, Any, None]]:
    """All of them side by side."""

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(part)

    return run


def gateway(
    *,
    redis: Redis = DEFAULT_REDIS,
    host: str = "127.0.0.1",
    port: int = 8000,
    require_keys: RequireKeys = False,
    insecure: Insecure = False,
    named: Named = None,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
    probe_port: ProbePort = None,
) -> None:
    """Serve HTTP and publish what comes in.

    An address that others can reach needs an API key first (`keys create`).
    """
    both_ways(require_keys, insecure)
    if named and not insecure:
        raise Failure("--named is for a gateway that asks for no keys (--insecure)", USAGE)

    async def part(runtime: Runtime) -> Callable[[], Coroutine[Any, Any, None]]:
        from carbon_orchestrator.gateway.component import Gateway

        return Gateway(
            runtime,
            host,
            port,
            require_keys=require_keys,
            insecure=insecure,
            named=named or (),
        ).run

    serve(redis, config, log_level, part, probe_port=probe_port)


def router(
    *,
    redis: Redis = DEFAULT_REDIS,
    partition: Partitions = None,
    policy: Policy = None,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
    probe_port: ProbePort = None,
) -> None:
    """Decide when and on which pool jobs run."""

    async def part(runtime: Runtime) -> Callable[[], Coroutine[Any, Any, None]]:
        from carbon_orchestrator.router.component import Router

        return all_of(Router(each).run for each in runtime.each(partition or ()))

    serve(redis, config, log_level, part, probe_port=probe_port, policy=policy)


def worker(
    *,
    pool: Pool,
    zone: str | None = None,
    slots: int | None = None,
    data: Path | None = None,
    redis: Redis = DEFAULT_REDIS,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
    probe_port: ProbePort = None,
) -> None:
    """Run jobs of one pool.

    Parameters
    ----------
    pool
        "fast" or "eco".
    zone
        Where this machine is; by default the home zone.
    slots
        Jobs run at once; by default as the configuration says.
    data
        Directory for checkpoints.
    """
    from carbon_orchestrator.worker.confinement import give_up_privileges

    if slots is not None and not 1 <= slots <= 10_000:
        raise Failure("--slots must be 1 to 10000", USAGE)
    give_up_privileges()

    async def part(runtime: Runtime) -> Callable[[], Coroutine[Any, Any, None]]:
        from carbon_orchestrator.worker.everywhere import workers
        from carbon_orchestrator.worker.guardian import Guardian

        guardian = Guardian()
        guardian.start()
        folder = data or default_data_dir()
        return guarded(guardian, *workers(runtime, pool, folder, guardian, slots=slots, zone=zone))

    serve(redis, config, log_level, part, probe_port=probe_port, sets_clock=False)


def accounting(
    *,
    archive: Path | None = None,
    redis: Redis = DEFAULT_REDIS,
    partition: Partitions = None,
    config: ConfigFile = None,
    log_level: LogLevel = "info",
    probe_port: ProbePort = None,
) -> None:
    """Sum up emissions; keep the record; keep streams bounded.

    Parameters
    ----------
    archive
        Directory that old events are moved to, shared by all roles of this kind; by default as
        configured, else the data directory's "archive".
    """

    async def part(runtime: Runtime) -> Callable[[], Coroutine[Any, Any, None]]:
        from carbon_orchestrator.accounting.component import Accounting

        return all_of(Accounting(each, archive).run for each in runtime.each(partition or ()))

    serve(redis, config, log_level, part, probe_port=probe_port, sets_clock=False)


def redis_url(redis: str | None, data: Path | None) -> str:
    """The server to talk to: as given, $CARBON_REDIS_URL, that of a running `up`, or default."""
    if given := redis or os.environ.get("CARBON_REDIS_URL"):
        return given
    try:
        return ((data or default_data_dir()) / "redis-url").read_text().strip()
    except OSError:
        return DEFAULT_REDIS
