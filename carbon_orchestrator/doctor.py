"""What `doctor` examines: facts gathered from the stream server, and judgements of them, pure.

A fact that the server would not tell (managed services forbid CONFIG) is None, and its check
is "unknown" rather than a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from carbon_orchestrator.clock import GridClock, from_fields, rfc3339, wall_ms
from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.runtime import server_time_ms
from carbon_orchestrator.scaler.holding import asleep
from carbon_orchestrator.signal.intensity_stream import latest_said, silence
from carbon_orchestrator.topology import Topology
from streams.errors import Forbidden, is_transient
from streams.inspection import GroupState, group_states

Status = Literal["ok", "warn", "fail", "unknown"]

OLDEST = {"Redis": (7, 0), "Valkey": (7, 2)}
MOST_SKEW_MS = 1000
MOST_LAG = 10_000
#: A consumer silent for longer (or than the lease, where that is longer) is taken for dead.
LIVE_MS = 15_000
#: Shares of the memory limit.
MEMORY_WARN, MEMORY_FAIL = 0.75, 0.9
_SKEW_SAMPLES = 3


class Check(msgspec.Struct, frozen=True):
    """One judgement. `remedy` says what to do unless the status is ok."""

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def of_partition(self, number: int) -> Check:
        """The same, as one of several partitions is named."""
        return msgspec.structs.replace(self, name=f"{self.name}, partition {number}")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Times are ms; `grid_now`, `signal_time` on the grid clock; sizes bytes.

    `skew_ms`: how far this machine's clock is ahead, known to ± `skew_error_ms`.
    `groups`: what the server has; consumers silent for over `silence_ms` do not count as live.
    `expected`: names of the streams that each role should read; `asleep`: the workers that their
    scaler wants none of now.
    `signal_time`: when the zone's latest intensity began; `signal_source`, `signal_degraded`: who
    said it, and why it was not the zone's first source.
    `signal_silence`: why nothing is published, while nothing is.
    """

    server: str | None = None
    version: str | None = None
    replica: bool | None = None
    aof_enabled: bool | None = None
    aof_writes_ok: bool | None = None
    aof_rewrites: int | None = None
    fsync: str | None = None
    eviction: str | None = None
    memory_used: int | None = None
    memory_limit: int | None = None
    memory_of_machine: int | None = None
    skew_ms: float | None = None
    skew_error_ms: float = 0
    silence_ms: int = LIVE_MS
    groups: tuple[GroupState, ...] = ()
    expected: Mapping[str, tuple[str, ...]] = {}
    asleep: frozenset[str] = frozenset()
    dead_letters: int = 0
    clock: GridClock = GridClock()
    grid_now: int = 0
    zone: str = "local"
    signal_time: int | None = None
    signal_source: str = ""
    signal_degraded: str | None = None
    signal_silence: str | None = None
    signal_max_age_ms: int = 3 * 3_600_000


# -- judging ---------------------------------------------------------------------------------------


def examine(facts: Facts) -> list[Check]:
    """Every check, in the order in which they matter."""
    return [
        server(facts),
        persistence(facts),
        *unclean_aof(facts),
        eviction(facts),
        memory(facts),
        skew(facts),
        *(consumers(facts, role, streams) for role, streams in facts.expected.items()),
        backlog(facts),
        dead_letters(facts),
        grid_clock(facts),
        signal(facts),
    ]


def server(facts: Facts) -> Check:
    """Right kind, version, and taking writes."""
    name = "server"
    if facts.server is None or facts.version is None:
        return Check(name, "unknown", "it answers, but does not tell its version", _allow("INFO"))
    found = f"{facts.server} {facts.version}"
    oldest = OLDEST.get(facts.server)
    if oldest is None:
        needed = " or ".join(f"{each} {_dotted(least)}" for each, least in OLDEST.items())
        return Check(name, "warn", f"{found} is not a server we know", f"use {needed} or later")
    if _version(facts.version) < oldest:
        remedy = f"upgrade it to {facts.server} {_dotted(oldest)} or later"
        return Check(name, "fail", f"{found} is too old", remedy)
    if facts.replica:
        return Check(name, "fail", f"{found}, a replica, takes no writes", "name its primary")
    return Check(name, "ok", found)


def persistence(facts: Facts) -> Check:
    """Whether accepted jobs survive a crash of the server."""
    name = "append-only file"
    if facts.aof_enabled is None:
        return Check(name, "unknown", "the server does not tell", _allow("INFO"))
    if not facts.aof_enabled:
        remedy = "set `appendonly yes` in its configuration, and now: CONFIG SET appendonly yes"
        return Check(name, "fail", "off: a crash of the server loses accepted jobs", remedy)
    if facts.aof_writes_ok is False:
        remedy = "see to its disk: full, or failing? Its log says which"
        return Check(name, "fail", "on, but the last write to it failed", remedy)
    if facts.fsync is None:
        detail = "on; how often it is synced is not told"
        return Check(name, "unknown", detail, _allow("CONFIG GET"))
    if facts.fsync == "no":
        remedy = "CONFIG SET appendfsync everysec (or always), and the same in its configuration"
        return Check(name, "warn", "on, but synced when the system likes", remedy)
    loss = {
        "everysec": "a power cut may lose the last second",
        "always": "what was accepted is on disk",
    }
    return Check(name, "ok", f"on, appendfsync {facts.fsync}: {loss.get(facts.fsync, '')}")


def unclean_aof(facts: Facts) -> Iterator[Check]:
    """Redis 7.0 alone: a file cut inside a script revives half a commit at the second restart,
    unless the file was rewritten after the first."""
    old = facts.server == "Redis" and _version(facts.version or "")[:2] == (7, 0)
    if old and facts.aof_enabled and not facts.aof_rewrites:
        yield Check(
            "Redis 7.0 restart",
            "warn",
            "the append-only file was not rewritten since the start; after an unclean stop,"
            " Redis 7.0 can bring back half a commit at the restart after this one",
            "BGREWRITEAOF now and after each unclean stop; or upgrade",
        )


def eviction(facts: Facts) -> Check:
    """Nothing may be evicted: every key is part of a promise."""
    name = "eviction policy"
    if facts.eviction is None:
        return Check(name, "unknown", "the server does not tell", _allow("INFO"))
    if facts.eviction == "noeviction":
        return Check(name, "ok", "noeviction")
    remedy = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration"
    if facts.memory_limit == 0:
        detail = f"{facts.eviction}, which would take effect with any maxmemory"
        return Check(name, "warn", detail, remedy)
    return Check(name, "fail", f"{facts.eviction}: it may delete jobs when memory is short", remedy)


def memory(facts: Facts) -> Check:
    """Use against maxmemory, or against the machine where there is no limit."""
    name = "memory"
    used, limit = facts.memory_used, facts.memory_limit or facts.memory_of_machine
    if used is None:
        return Check(name, "unknown", "the server does not tell", _allow("INFO"))
    if not limit:
        return Check(name, "ok", f"{_size(used)} used, no limit")
    of = "maxmemory" if facts.memory_limit else "the machine's, no maxmemory set"
    detail = f"{_size(used)} used, {used / limit:.0%} of {_size(limit)} ({of})"
    if used < limit * MEMORY_WARN:
        return Check(name, "ok", detail)
    remedy = "give it more, or shorten `retention` and `limits.max_waiting` in the configuration"
    return Check(name, "fail" if used >= limit * MEMORY_FAIL else "warn", detail, remedy)


def skew(facts: Facts) -> Check:
    """Deadlines are kept by each machine's clock, so the clocks must agree."""
    name = "clock skew"
    if facts.skew_ms is None:
        return Check(name, "unknown", "the server does not tell its time", _allow("TIME"))
    where = "ahead of" if facts.skew_ms >= 0 else "behind"
    detail = f"this machine is {_ms(abs(facts.skew_ms))} {where} the server"
    detail += f" (± {_ms(facts.skew_error_ms)})"
    if abs(facts.skew_ms) - facts.skew_error_ms >= MOST_SKEW_MS:
        return Check(name, "fail", detail, "run NTP (chrony, systemd-timesyncd) on both machines")
    return Check(name, "ok", detail)


def consumers(facts: Facts, role: str, streams: tuple[str, ...]) -> Check:
    """Whether a role is alive. One sign of life on any of its streams is enough: a worker
    whose slots are all taken renews its leases, but reads no stream."""
    groups = [each for each in facts.groups if each.stream in streams and _serves(role, each.group)]
    live = max((each.live for each in groups), default=0)
    if live:
        return Check(role, "ok", f"{live} alive")
    if role in facts.asleep:
        return Check(role, "ok", "none, as the scaler wants none now")
    waiting = sum((each.lag or 0) + each.pending for each in groups)
    detail = f"none alive in the last {facts.silence_ms / 1000:g} s"
    entries = f", and {waiting} entries wait for one" if waiting else ""
    remedy = f"start one: carbon-orchestrator {_command(role)}; or `up` for all roles"
    return Check(role, "fail", detail + entries, remedy)


def backlog(facts: Facts) -> Check:
    """Entries that no consumer has read (lag) or finished with (pending), per stream."""
    busy, unknown, worst = [], [], 0
    for each in facts.groups:
        worst = max(worst, each.lag or 0)
        if each.lag is None:
            unknown.append(each.stream)
        if each.lag or each.pending:
            lag = "?" if each.lag is None else each.lag
            busy.append(f"{each.stream}: lag {lag}, pending {each.pending}")
    detail = "\n".join(busy) or "nothing waits on any stream"
    if worst > MOST_LAG:
        return Check("backlog", "warn", detail, "start more of the role that reads it")
    if unknown:
        told = f"{detail}\nlag not told for {', '.join(unknown)}, since entries were deleted there"
        return Check("backlog", "unknown", told, "none needed: known again once it is read up")
    return Check("backlog", "ok", detail)


def dead_letters(facts: Facts) -> Check:
    if not facts.dead_letters:
        return Check("dead letters", "ok", "none")
    remedy = "see them with: carbon-orchestrator dead-letters list"
    return Check("dead letters", "warn", str(facts.dead_letters), remedy)


def grid_clock(facts: Facts) -> Check:
    """Which time deadlines and deferrals go by."""
    name, clock = "grid clock", facts.clock
    if not clock.origin_wall:
        detail = "not set yet: no signal role has started, so wall time holds"
        return Check(name, "warn", detail, "start one: carbon-orchestrator signal, or `up`")
    speed = "real time" if clock.speed == 1 else f"{clock.speed:g} times faster than real time"
    detail = f"{rfc3339(facts.grid_now)[:16].replace('T', ' ')} UTC, {speed}, for {clock.signal!r}"
    return Check(name, "ok", detail)


def signal(facts: Facts) -> Check:
    """Age of the latest intensity; too old counts as none, and jobs then wait by the table."""
    name, remedy = "carbon signal", "see that the signal role runs, and its log"
    why = "" if facts.signal_silence is None else f": {facts.signal_silence}"
    if facts.signal_time is None:
        return Check(name, "warn", f"none for zone {facts.zone!r} yet{why}", remedy)
    age = max(0, facts.grid_now - facts.signal_time)
    source = f", from {facts.signal_source}" if facts.signal_source else ""
    detail = f"{_span(age)} old on the grid clock{source}, zone {facts.zone!r}"
    if age > facts.signal_max_age_ms:
        limit = _span(facts.signal_max_age_ms)
        over = f"{detail}: over {limit}, so it is not used any more{why}"
        return Check(name, "warn", over, remedy)
    if facts.signal_degraded is not None:
        return Check(name, "warn", f"{detail}; {facts.signal_degraded}", remedy)
    return Check(name, "ok", detail)


def _serves(role: str, group: str) -> bool:
    return role.partition(" ")[0] == group


def _command(role: str) -> str:
    name, _, pool = role.partition(" ")
    return f"{name} --pool {pool}" if pool else name


def _version(text: str) -> tuple[int, ...]:
    parts = (part for part in text.split(".")[:3])
    return tuple(int(digits) for part in parts if (digits := part.partition("-")[0]).isdigit())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _allow(command: str) -> str:
    return f"let this user run {command}, or look at the server's own console"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.1f} ms"


def _span(ms: int) -> str:
    minutes = ms // 60_000
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} d"


# -- gathering -------------------------------------------------------------------------------------


def expected_consumers(topology: Topology) -> dict[str, tuple[str, ...]]:
    """The names of the streams that each role reads, by "router", "worker fast" and the like."""
    name = topology.partition.name
    return {role: tuple(map(name, streams)) for role, streams in topology.readers.items()}


async def gather(redis: Redis, topology: Topology, config: Config) -> Facts:
    """Ask the server for everything. Raises its connection errors; what it forbids is None."""
    info: Mapping[str, Any] = await _asked(redis.info()) or {}
    policy: Mapping[str, Any] = await _asked(redis.config_get("appendfsync")) or {}
    name = topology.partition.name
    silence_ms = max(LIVE_MS, round(config.lease_s * 1000))
    groups = [
        msgspec.structs.replace(state, stream=name(state.stream))
        for group, streams in topology.groups.items()
        for stream in streams
        for state in await _states(redis, stream, group, silence_ms)
    ]
    fields: Any = await redis.hgetall(topology.clock)
    clock = from_fields(fields)
    marks: Any = await redis.hmget(topology.signal, config.zone, silence(config.zone))
    latest, silent = marks
    said = await latest_said(redis, topology.intensity, config.zone)
    ahead, error = await _skew(redis)
    return Facts(
        server=_server_name(info),
        version=info.get("valkey_version") or info.get("redis_version"),
        replica=None if "role" not in info else info["role"] != "master",
        aof_enabled=None if "aof_enabled" not in info else bool(info["aof_enabled"]),
        aof_writes_ok=None
        if "aof_last_write_status" not in info
        else info["aof_last_write_status"] == "ok",
        aof_rewrites=info.get("aof_rewrites"),
        fsync=policy.get("appendfsync"),
        eviction=info.get("maxmemory_policy"),
        memory_used=info.get("used_memory"),
        memory_limit=info.get("maxmemory"),
        memory_of_machine=info.get("total_system_memory"),
        skew_ms=ahead,
        skew_error_ms=error,
        silence_ms=silence_ms,
        groups=tuple(groups),
        expected=expected_consumers(topology),
        asleep=await _asked(asleep(redis, topology)) or frozenset(),
        dead_letters=int(await redis.xlen(topology.dead_letters)),
        clock=clock,
        grid_now=clock.now(),
        zone=config.zone,
        signal_time=int(latest.partition(b":")[0]) if latest else None,
        signal_source="" if said is None else said.source,
        signal_degraded=None if said is None else said.degraded,
        signal_silence=None if silent is None else silent.decode("utf-8", "replace"),
        signal_max_age_ms=milliseconds(config.threshold.max_age),
    )


async def _states(redis: Redis, stream: str, group: str, silence_ms: int) -> list[GroupState]:
    """Its groups; where nobody has read it ever, all that is in it waits for `group`."""
    states: list[GroupState] | None = await _asked(group_states(redis, stream, live_ms=silence_ms))
    if states == [] and (waiting := await _asked(redis.xlen(stream))):
        return [GroupState(stream, group, waiting, 0, 0, 0)]
    return states or []


def _server_name(info: Mapping[str, Any]) -> str | None:
    """INFO's `server_name` is Valkey's alone; other forks keep calling themselves Redis."""
    if "redis_version" not in info:
        return None
    return "Valkey" if "valkey_version" in info else "Redis"


async def _skew(redis: Redis) -> tuple[float | None, float]:
    """The sample with the shortest round trip, after Cristian (1989): error is half of it."""
    best: tuple[float | None, float] = (None, float("inf"))
    for _ in range(_SKEW_SAMPLES):
        sent = wall_ms()
        told = await _asked(server_time_ms(redis))
        if told is None:
            return None, 0.0
        heard = wall_ms()
        half = max(1.0, (heard - sent) / 2)  # both clocks tell whole ms
        if half < best[1]:
            best = (sent + half - told, half)
    return best


async def _asked(answer: Any) -> Any:
    """The answer, or None where the server forbids or does not know the question."""
    try:
        return await answer
    except (ResponseError, Forbidden) as error:
        if is_transient(error):
            raise
        return None
