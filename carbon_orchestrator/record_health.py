"""Whether the record is kept: sealed as it grows, archived when it is old."""

from __future__ import annotations

from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.accounting.record_keeping import kept_live
from carbon_orchestrator.config import Config
from carbon_orchestrator.doctor import Check
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.runtime import server_time_ms
from carbon_orchestrator.topology import Topology
from streams.errors import Forbidden
from streams.event import entry_order
from streams.history import ARCHIVED, BEGIN
from streams.retention import finished, past
from streams.seals import CHAIN

#: Beyond the usual: a round of sealing, an hour in which old entries gather, may be late.
_SEAL_MS = 60_000
_ARCHIVE_MS = 2 * 3_600_000
_LOG = "see the log of the accounting role"


class StreamAge(msgspec.Struct, frozen=True):
    """Of one stream, ms: since when its oldest entry that is not sealed is there; for how long its
    oldest live entry has been due for the archive."""

    name: str
    unsealed_ms: int = 0
    overdue_ms: int = 0


def judge(ages: list[StreamAge], seal_every_ms: int, archived: str) -> list[Check]:
    """`archived`: the last id of all that are archived."""
    unsealed = max(ages, key=lambda each: each.unsealed_ms)
    overdue = max(ages, key=lambda each: each.overdue_ms)
    checks = [Check("sealing", "ok", "all is sealed but the last moments")]
    if unsealed.unsealed_ms > seal_every_ms + _SEAL_MS:
        detail = (
            f"{unsealed.name} has entries that nobody has sealed for {_span(unsealed.unsealed_ms)}"
        )
        checks = [Check("sealing", "warn", detail, f"start an accounting role, or {_LOG}")]
    if overdue.overdue_ms > _ARCHIVE_MS:
        detail = f"{overdue.name} has been due to be archived for {_span(overdue.overdue_ms)}"
        return [*checks, Check("archive", "warn", f"{detail}; streams grow", _LOG)]
    detail = "nothing had to be archived yet" if archived == BEGIN else f"up to {archived}"
    return [*checks, Check("archive", "ok", detail)]


async def record_checks(redis: Redis, topology: Topology, config: Config) -> list[Check]:
    """Ask the server, and judge; what it forbids is unknown. Raises its connection errors."""
    try:
        return await _checks(redis, topology, config)
    except Forbidden as error:
        return [Check("sealing", "unknown", str(error)), Check("archive", "unknown", str(error))]


async def _checks(redis: Redis, topology: Topology, config: Config) -> list[Check]:
    chain: Any = await redis.hgetall(topology.partition.key(CHAIN))
    rows: Any = await redis.hgetall(topology.partition.key(ARCHIVED))
    archived = max((each.decode() for each in rows.values()), key=entry_order, default=BEGIN)
    now = await server_time_ms(redis)
    ages = []
    for name, keep in kept_live(topology, config).items():
        key = topology.partition.key(name)
        sealed = chain.get(name.encode(), BEGIN.encode()).decode()
        first = await _first(redis, key, "-")
        if first is None:
            continue
        after = await _first(redis, key, f"({sealed}")
        unsealed = now - entry_order(after)[0] if after and name != "seals" else 0
        overdue = 0
        if entry_order(first) < min(past(sealed), await finished(redis, key, keep.groups)):
            overdue = now - entry_order(first)[0] - keep.older_than_ms
        ages.append(StreamAge(name, unsealed, overdue))
    return judge(ages or [StreamAge("")], milliseconds(config.archive.seal_every), archived)


async def _first(redis: Redis, key: str, start: str) -> str | None:
    rows = await redis.execute_command("XRANGE", key, start, "+", "COUNT", 1)
    return rows[0][0].decode() if rows else None


def _span(ms: int) -> str:
    minutes = ms // 60_000
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
