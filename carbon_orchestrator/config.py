"""The operator's configuration: one TOML file, every value with a default.

Durations are numbers of seconds or text such as "90s", "1h30m", "PT6H"; they are wall time,
except under `[urgency]`, where they are grid-clock time (the same thing at speed 1).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Pool
from carbon_orchestrator.sizes import size

DEFAULT_ATTEMPTS = 3
MOST_PARTITIONS = 64
PolicyName = Literal["threshold", "greenest_window", "greenest_slots", "run_now"]
ZONE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: As browsers write them: in lower case, and without a port that is the scheme's own.
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
TYPE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class ConfigError(Exception):
    """The configuration cannot be used; the message says where and what to do."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class HandlerLimits(_Section, frozen=True):
    """Limits of each process of a command. `processes`: of all that its user runs."""

    memory: int | str | None = None  # address space, bytes or text such as "2GiB"
    cpu_time: str | float | None = None  # whole seconds, rounded up
    open_files: int | None = None
    processes: int | None = None
    file_size: int | str | None = None  # of each file written

    @property
    def empty(self) -> bool:
        return self == HandlerLimits()


class JobType(_Section, frozen=True):
    """How jobs of one type are run: exactly one of `command`, `python` and `kubernetes`.

    command: argv list, no shell; `{python}` stands for this interpreter; payload on stdin.
    python: "module:function", called as `function(payload, context)`, async or plain.
    kubernetes: file with the template of a batch/v1 Job, beside this configuration's.
    user, group: whom commands run as, if another than the worker, which then is root's.
    """

    command: list[str] | None = None
    python: str | None = None
    kubernetes: str | None = None
    timeout: str | float = "1h"
    grace: str | float = "10s"  # between SIGTERM and SIGKILL
    max_attempts: int = DEFAULT_ATTEMPTS
    expected_duration: str | float | None = None  # until it is learned
    env: dict[str, str] = {}
    gpus: list[int] = []  # NVML indices whose energy counters are this type's
    user: str | None = None
    group: str | None = None
    limits: HandlerLimits = HandlerLimits()
    description: str = ""


class PoolConfig(_Section, frozen=True):
    """One pool as seen by one worker process."""

    slots: int  # jobs run at once
    nice: int = 0
    cpus: list[int] = []  # CPU affinity; empty means all
    slowdown: float = 1.0  # expected length against FAST, until it is learned
    energy: float = 1.0  # expected energy of a job against FAST, until it is learned
    capacity: int | None = None  # jobs run at once by all workers; by default what they offer


class PowerModel(_Section, frozen=True):
    """Watts drawn per busy logical CPU, used where neither RAPL nor NVML can be read."""

    cpu_watts: float = 8.0
    uncertainty: float = 0.5  # relative
    pue: float = 1.0  # power usage effectiveness of the site
    embodied_kg: float = 0.0  # kgCO2e of making the machine that the workers of a pool run on
    lifetime: str | float = "35040h"  # for which it will be used: four years


class UrgencyConfig(_Section, frozen=True):
    """`deadline`: grid-clock time from submission for jobs that name none; "none" for none."""

    deadline: str | float = "none"


class ThresholdConfig(_Section, frozen=True):
    """Bands of `threshold`.

    mode "relative": `low` and `high` are quantiles (0-1) of the last `window` of intensities;
    mode "absolute": they are gCO2e/kWh. A band is left only when intensity passes its limit
    by `hysteresis`, a fraction of the limit.
    """

    mode: Literal["relative", "absolute"] = "relative"
    low: float = 0.35
    high: float = 0.65
    hysteresis: float = 0.03
    window: str | float = "48h"
    max_age: str | float = "3h"  # an older intensity counts as no signal


class GreenestConfig(_Section, frozen=True):
    """Parameters of `greenest_window` and `greenest_slots`.

    min_saving: the share of the emissions of running at once that every hour waited must save.
    resume_cost: running time lost by a suspension (loading a checkpoint, warming up), wall time.
    max_wait: how long a job without a deadline may be deferred, grid-clock time.
    """

    min_saving: float = 0.002
    resume_cost: str | float = "30s"
    max_wait: str | float = "24h"


class ZoneConfig(_Section, frozen=True):
    """A zone besides the home zone. `signal`: its sources in order of preference, as --signal
    takes them; `pools`: those that workers serve there."""

    signal: list[str]
    pools: tuple[Pool, ...] = ("fast", "eco")


class Limits(_Section, frozen=True):
    max_body: int = 1 << 20  # bytes of an HTTP request
    max_bulk: int = 16 << 20  # bytes of one that submits many jobs
    max_payload: int = 64 << 10  # bytes of a job's payload
    max_waiting: int = 1_000_000  # jobs not yet finished, before 503
    output_tail: int = 8 << 10  # bytes of an attempt's output kept on record
    output: int = 256 << 10  # bytes of a job's output kept beside it, and followed; 0: none
    deliveries: int = 5  # of one entry, before it becomes a dead letter
    rate: float = 100  # requests a second that one API key may make of one gateway
    burst: int = 200  # that it may make at once
    share: float = 0.5  # of max_waiting, that the unfinished jobs of one API key may take up
    requests: int = 512  # that one gateway works on at a time
    live: int = 200  # event streams and followed logs that it serves besides
    connections: int = 1024  # that one gateway keeps open
    header_timeout: str | float = "10s"  # for the headers of a request to arrive
    body_rate: int = 1000  # bytes a second at which its body must, after header_timeout
    idle_timeout: str | float = "75s"  # of a connection between two requests


class Cors(_Section, frozen=True):
    """Sites whose pages may call the gateway from a browser, with an API key, such as
    https://grid.example.org; none by default."""

    origins: list[str] = []


class Retention(_Section, frozen=True):
    jobs: str | float = "7d"  # finished job records
    streams: str | float = "1d"  # entries that every group has finished with
    max_entries: int = 1_000_000  # per stream, likewise


class Archive(_Section, frozen=True):
    """Where entries go before they are trimmed, and how often they are sealed."""

    directory: str | None = None  # by default the data directory's "archive"
    seal_every: str | float = "5s"


class ScaledPool(_Section, frozen=True):
    """How many worker processes a pool may have. `low`, `medium`, `high`: the share of `max` that
    may work while the grid is in that band."""

    min: int = 0
    max: int = 4
    low: float = 1.0
    medium: float = 0.75
    high: float = 0.5


class Scaler(_Section, frozen=True):
    """Pools that scale with carbon and backlog (scaler/deciding.py).

    A band is entered at its limit ([threshold]), and left only `leave` (a fraction of the limit)
    past it, and not before it has been there for `dwell`. `dwell` and `hold` are grid-clock time,
    the others wall time.
    """

    up: bool = False  # `up` has worker processes that come and go, instead of its own workers
    interval: str | float = "2s"  # between two looks
    leave: float = 0.05
    dwell: str | float = "15m"
    hold: str | float = "30m"  # for which a band still counts after its intensity became too old
    window: str | float = "15m"  # only what was wanted throughout it makes a pool smaller
    step: int = 4  # workers more at once, or as many as there are, if that is more
    up_every: str | float = "15s"
    down_step: int = 1  # workers fewer at once
    down_every: str | float = "15s"
    ahead: str | float = "1m"  # how long a new worker may take to be there
    jobs_per_slot: float = 1.0  # waiting jobs for which one slot is wanted
    pools: dict[Pool, ScaledPool] = {}


class Kubernetes(_Section, frozen=True):
    """The cluster where jobs of kind `kubernetes` run; by default the worker's own."""

    api_server: str | None = None  # URL
    namespace: str | None = None
    token_file: str | None = None
    ca_file: str | None = None


class Config(_Section, frozen=True):
    types: dict[str, JobType] = {}
    default_types: bool = True  # serve analytics, training, inference besides `types`
    pools: dict[Pool, PoolConfig] = {}
    urgency: dict[Literal["urgent", "normal", "flexible"], UrgencyConfig] = {}
    threshold: ThresholdConfig = ThresholdConfig()
    greenest: GreenestConfig = GreenestConfig()
    policy: PolicyName = "threshold"
    power: PowerModel = PowerModel()
    limits: Limits = Limits()
    cors: Cors = Cors()
    retention: Retention = Retention()
    archive: Archive = Archive()
    scaler: Scaler = Scaler()
    kubernetes: Kubernetes = Kubernetes()
    lease: str | float = "15s"  # a job whose worker is silent for so long is run elsewhere
    margin: str | float = "1s"  # wall time kept free before every deadline, for hand-over
    #: What stands behind a 202: "server", the server has the job; "replica", so has a replica.
    durability: Literal["server", "replica"] = "server"
    #: How long running jobs may finish after SIGTERM; interruptible ones are to pause at once.
    drain: str | float = "20s"
    retry_delay: str | float = "2s"  # before the second attempt; doubles each time, up to 1 m
    namespace: str = "carbon"
    #: Shares of the deployment that stand alone, fixed at its first start; by default as on record.
    partitions: int | None = None
    zone: str = "local"  # the home zone
    zones: dict[str, ZoneConfig] = {}  # further ones

    @property
    def site_pools(self) -> dict[str, tuple[Pool, ...]]:
        """The pools of every zone but the home zone."""
        return {name: zone.pools for name, zone in self.zones.items()}

    @property
    def lease_s(self) -> float:
        return seconds(self.lease)


def _example(module: str, description: str) -> JobType:
    return JobType(
        command=["{python}", "-m", f"carbon_orchestrator.examples.{module}"],
        description=description,
        expected_duration="2s",
        timeout="10m",
    )


DEFAULT_TYPES: dict[str, JobType] = {
    "analytics": _example("analytics", "statistics over a synthetic metering data set"),
    "training": _example("training", "trains a small neural network, with checkpoints"),
    "inference": _example("inference", "classifies points with a trained network"),
}


def default_pools() -> dict[Pool, PoolConfig]:
    """FAST: every CPU, normal priority. ECO: half the CPUs, lowest priority."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = len(cpus) or os.cpu_count() or 1
    half = max(1, count // 2)
    return {
        "fast": PoolConfig(slots=count),
        "eco": PoolConfig(slots=half, nice=10, cpus=cpus[:half], slowdown=1.5, energy=0.9),
    }


DEFAULT_URGENCY: dict[Literal["urgent", "normal", "flexible"], UrgencyConfig] = {
    "urgent": UrgencyConfig(),
    "normal": UrgencyConfig(deadline="90m"),
    "flexible": UrgencyConfig(deadline="24h"),
}


def load(path: Path | None = None) -> Config:
    """The configuration from `path`, or the defaults. Raises ConfigError."""
    if path is None:
        return complete(Config())
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return complete(_beside(path, config), str(path))


def _beside(path: Path, config: Config) -> Config:
    """`config`, with the templates' paths reckoned from the file that names them."""
    types = {
        name: each
        if each.kubernetes is None
        else msgspec.structs.replace(each, kubernetes=str(path.parent / each.kubernetes))
        for name, each in config.types.items()
    }
    return msgspec.structs.replace(config, types=types)


def complete(config: Config, origin: str = "configuration") -> Config:
    """`config` with defaults filled in and every value checked. Raises ConfigError."""
    types = {**(DEFAULT_TYPES if config.default_types else {}), **config.types}
    if not types:
        raise ConfigError(f"{origin}: no job types; add a [types.NAME] table")
    for name, job_type in types.items():
        _check_type(f"{origin}: types.{name}", name, job_type)
    pools = {**default_pools(), **config.pools}
    for pool, settings in pools.items():
        if not 1 <= settings.slots <= 10_000:
            raise ConfigError(f"{origin}: pools.{pool}.slots must be 1 to 10000")
        if not 0.1 <= settings.slowdown <= 100:
            raise ConfigError(f"{origin}: pools.{pool}.slowdown must be 0.1 to 100")
        if not 0.01 <= settings.energy <= 100:
            raise ConfigError(f"{origin}: pools.{pool}.energy must be 0.01 to 100")
        if settings.capacity is not None and settings.capacity < 1:
            raise ConfigError(f"{origin}: pools.{pool}.capacity must be 1 or more")
        if not -20 <= settings.nice <= 19:
            raise ConfigError(f"{origin}: pools.{pool}.nice must be -20 to 19")
    urgency = {**DEFAULT_URGENCY, **config.urgency}
    for level, wait in urgency.items():
        if wait.deadline != "none":
            _duration(f"{origin}: urgency.{level}.deadline", wait.deadline)
    band = config.threshold
    if not 0 <= band.low < band.high or (band.mode == "relative" and band.high > 1):
        raise ConfigError(f"{origin}: threshold needs 0 <= low < high (and <= 1 when relative)")
    for field in ("lease", "margin", "drain", "retry_delay"):
        _duration(f"{origin}: {field}", getattr(config, field))
    for field in ("jobs", "streams"):
        _duration(f"{origin}: retention.{field}", getattr(config.retention, field))
    _duration(f"{origin}: archive.seal_every", config.archive.seal_every)
    _check_limits(f"{origin}: limits", config.limits)
    _check_scaler(f"{origin}: scaler", config.scaler)
    for each in config.cors.origins:
        if not ORIGIN.fullmatch(each):
            raise ConfigError(
                f"{origin}: cors.origins: {each[:80]!r} is no origin; write scheme and host, and a"
                " port that is not the usual one, such as https://grid.example.org"
            )
    if not 0 <= config.greenest.min_saving <= 1:
        raise ConfigError(f"{origin}: greenest.min_saving must be 0 to 1 (of emissions, an hour)")
    for field in ("resume_cost", "max_wait"):
        _duration(f"{origin}: greenest.{field}", getattr(config.greenest, field))
    if not 0 <= config.power.embodied_kg <= 1e6:
        raise ConfigError(f"{origin}: power.embodied_kg must be 0 to 1000000 (kgCO2e)")
    _duration(f"{origin}: power.lifetime", config.power.lifetime)
    if seconds(config.power.lifetime) < 3600:
        raise ConfigError(f"{origin}: power.lifetime must be an hour or more")
    _check_zones(origin, config)
    for field in ("window", "max_age"):
        _duration(f"{origin}: threshold.{field}", getattr(band, field))
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", config.namespace):
        raise ConfigError(f"{origin}: namespace must be 1-32 letters, digits, '.', '_', '-'")
    in_pods = any(each.kubernetes is not None for each in types.values())
    if in_pods and not (config.namespace[0].isalnum() and config.namespace[-1].isalnum()):
        raise ConfigError(
            f"{origin}: namespace must begin and end with a letter or digit: it is a label of Jobs"
        )
    if config.partitions is not None and not 1 <= config.partitions <= MOST_PARTITIONS:
        raise ConfigError(f"{origin}: partitions must be 1 to {MOST_PARTITIONS}")
    if config.lease_s < 1:
        raise ConfigError(f"{origin}: lease must be at least 1 second")
    return msgspec.structs.replace(config, types=types, pools=pools, urgency=urgency)


def _check_limits(where: str, limits: Limits) -> None:
    if not 0 < limits.rate <= 1e6:
        raise ConfigError(f"{where}.rate must be above 0 and at most 1000000 requests a second")
    if not 0 < limits.share <= 1:
        raise ConfigError(f"{where}.share must be above 0 and at most 1")
    for field in ("burst", "requests", "live", "connections", "body_rate"):
        if not 1 <= getattr(limits, field) <= 1_000_000:
            raise ConfigError(f"{where}.{field} must be 1 to 1000000")
    for field in ("max_body", "max_bulk", "max_payload"):
        # One commit takes a job's body twice, and 16 MiB.
        most = 1 << 30 if field == "max_bulk" else 4 << 20
        if not 1 <= getattr(limits, field) <= most:
            raise ConfigError(f"{where}.{field} must be 1 to {most} bytes")
    for field in ("header_timeout", "idle_timeout"):
        _duration(f"{where}.{field}", getattr(limits, field))
        if seconds(getattr(limits, field)) < 0.1:
            raise ConfigError(f"{where}.{field} must be 0.1 seconds or more")


def _check_scaler(where: str, scaler: Scaler) -> None:
    for field in ("interval", "dwell", "hold", "window", "up_every", "down_every", "ahead"):
        _duration(f"{where}.{field}", getattr(scaler, field))
    if seconds(scaler.interval) < 0.1:
        raise ConfigError(f"{where}.interval must be 0.1 seconds or more")
    if not 0 <= scaler.leave < 1:
        raise ConfigError(f"{where}.leave must be at least 0 and below 1")
    if not 0.01 <= scaler.jobs_per_slot <= 10_000:
        raise ConfigError(f"{where}.jobs_per_slot must be 0.01 to 10000")
    for field in ("step", "down_step"):
        if not 1 <= getattr(scaler, field) <= 10_000:
            raise ConfigError(f"{where}.{field} must be 1 to 10000")
    for name, pool in scaler.pools.items():
        if not (0 <= pool.min <= pool.max and 1 <= pool.max <= 10_000):
            raise ConfigError(f"{where}.pools.{name} needs 0 <= min <= max <= 10000, max above 0")
        if not 0 <= pool.high <= pool.medium <= pool.low <= 1:
            raise ConfigError(f"{where}.pools.{name} needs 0 <= high <= medium <= low <= 1")


def _check_zones(origin: str, config: Config) -> None:
    for name in (config.zone, *config.zones):
        if not ZONE_NAME.fullmatch(name):
            raise ConfigError(f"{origin}: zone {name!r} must be 1-64 letters, digits, '_', '-'")
    for name, zone in config.zones.items():
        if name == config.zone:
            raise ConfigError(f"{origin}: zones.{name} is the home zone; give it by --signal")
        if not zone.signal:
            raise ConfigError(f"{origin}: zones.{name}.signal needs at least one source")
        if len(set(zone.pools)) != len(zone.pools) or not zone.pools:
            raise ConfigError(f"{origin}: zones.{name}.pools needs each of its pools once")


def _check_type(where: str, name: str, job_type: JobType) -> None:
    if not TYPE_NAME.fullmatch(name):
        raise ConfigError(f"{where}: a type's name is 1-64 of a-z, 0-9, '.', '_', '-'")
    kinds = (job_type.command, job_type.python, job_type.kubernetes)
    if sum(each is not None for each in kinds) != 1:
        raise ConfigError(f"{where}: give exactly one of command, python and kubernetes")
    if job_type.kubernetes is not None and job_type.gpus:
        raise ConfigError(f"{where}.gpus: are this machine's; ask for a pod's in its template")
    if job_type.command is not None and not job_type.command:
        raise ConfigError(f"{where}.command: needs at least the program")
    if job_type.python is not None and job_type.python.count(":") != 1:
        raise ConfigError(f'{where}.python: write "module:function"')
    if not 1 <= job_type.max_attempts <= 100:
        raise ConfigError(f"{where}.max_attempts must be 1 to 100")
    _check_confinement(where, job_type)
    for field in ("timeout", "grace", "expected_duration"):
        value = getattr(job_type, field)
        if value is not None:
            _duration(f"{where}.{field}", value)


def _check_confinement(where: str, job_type: JobType) -> None:
    limits = job_type.limits
    if job_type.command is None and not (limits.empty and job_type.user is None):
        other = (
            "a Python function runs in the worker itself: limit that, or make it a command"
            if job_type.kubernetes is None
            else "write a pod's securityContext and resources into its template"
        )
        raise ConfigError(f"{where}: user and limits are for commands; {other}")
    if job_type.group is not None and job_type.user is None:
        raise ConfigError(f"{where}.group: needs a user, too")
    if limits.processes is not None and job_type.user is None:
        raise ConfigError(f"{where}.limits.processes counts all of a user's: give a user, too")
    for field in ("memory", "file_size"):
        if (value := getattr(limits, field)) is not None:
            try:
                size(value)
            except ValueError as error:
                raise ConfigError(f"{where}.limits.{field}: {error}") from None
    if limits.cpu_time is not None:
        _duration(f"{where}.limits.cpu_time", limits.cpu_time)
        if seconds(limits.cpu_time) <= 0:
            raise ConfigError(f"{where}.limits.cpu_time must be above 0")
    for field, least in (("open_files", 8), ("processes", 1)):
        if (value := getattr(limits, field)) is not None and value < least:
            raise ConfigError(f"{where}.limits.{field} must be {least} or more")


def _duration(where: str, value: Any) -> None:
    try:
        seconds(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def public(config: Config) -> msgspec.Raw:
    """`config` as JSON, for the record: without what may hold secrets (commands, environments,
    sources of signals). `Config` reads it back."""
    types = {
        name: msgspec.structs.replace(
            each, command=None, python=None, kubernetes=None, env={}, description=""
        )
        for name, each in config.types.items()
    }
    zones = {name: msgspec.structs.replace(each, signal=[]) for name, each in config.zones.items()}
    shown = msgspec.structs.replace(
        config, types=types, zones=zones, archive=Archive(), kubernetes=Kubernetes()
    )
    return msgspec.Raw(msgspec.json.encode(shown))


def command_line(job_type: JobType) -> list[str]:
    """The argv of a command type, `{python}` filled in."""
    assert job_type.command is not None
    return [sys.executable if part == "{python}" else part for part in job_type.command]
