"""Judgements of `doctor`: one fact changed at a time in a deployment that is well."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import Config
from carbon_orchestrator.doctor import Check, Facts, examine, expected_consumers, gather
from carbon_orchestrator.topology import Topology
from streams.inspection import GroupState
from streams.keys import Partition

HOUR = 3_600_000
EXPECTED = expected_consumers(Topology(Partition()))


def groups(**changed: Any) -> tuple[GroupState, ...]:
    """One live consumer on every stream; `changed` goes for those of the FAST workers."""
    return tuple(
        msgspec.structs.replace(
            GroupState(stream, role.split()[0], lag=0, pending=0, consumers=1, live=1),
            **(changed if role == "worker fast" else {}),
        )
        for role, streams in EXPECTED.items()
        for stream in streams
    )


WELL = Facts(
    server="Valkey",
    version="8.1.0",
    replica=False,
    aof_enabled=True,
    aof_writes_ok=True,
    aof_rewrites=0,
    fsync="everysec",
    eviction="noeviction",
    memory_used=100 << 20,
    memory_limit=1 << 30,
    memory_of_machine=16 << 30,
    skew_ms=3.0,
    skew_error_ms=1.0,
    groups=groups(),
    expected=EXPECTED,
    clock=GridClock(1, 1, 60.0, "simulated x60"),
    grid_now=100 * HOUR,
    signal_time=99 * HOUR,
)


def checks(**changed: Any) -> dict[str, Check]:
    return {each.name: each for each in examine(msgspec.structs.replace(WELL, **changed))}


def test_a_deployment_that_is_well_passes_every_check() -> None:
    assert {each.status for each in checks().values()} == {"ok"}
    assert {"router", "accounting", "worker fast", "worker eco"} <= set(checks())


@pytest.mark.parametrize(
    ("changed", "name", "status"),
    [
        ({"version": None}, "server", "unknown"),
        ({"server": "Redis", "version": "6.2.14"}, "server", "fail"),
        ({"server": "Redis", "version": "7.2.5"}, "server", "ok"),
        ({"server": "Redis", "version": "10.0.0"}, "server", "ok"),
        ({"server": "Valkey", "version": "7.1.9"}, "server", "fail"),
        ({"server": "Valkey", "version": "7.2.0-rc1"}, "server", "ok"),
        ({"server": "Else", "version": "1.0"}, "server", "warn"),
        ({"replica": True}, "server", "fail"),
        ({"aof_enabled": None}, "append-only file", "unknown"),
        ({"aof_enabled": False}, "append-only file", "fail"),
        ({"aof_writes_ok": False}, "append-only file", "fail"),
        ({"fsync": None}, "append-only file", "unknown"),
        ({"fsync": "no"}, "append-only file", "warn"),
        ({"fsync": "always"}, "append-only file", "ok"),
        ({"eviction": None}, "eviction policy", "unknown"),
        ({"eviction": "volatile-lru"}, "eviction policy", "fail"),
        ({"eviction": "volatile-lru", "memory_limit": 0}, "eviction policy", "warn"),
        ({"memory_used": None}, "memory", "unknown"),
        ({"memory_used": 800 << 20}, "memory", "warn"),
        ({"memory_used": 950 << 20}, "memory", "fail"),
        ({"memory_used": 950 << 20, "memory_limit": 0}, "memory", "ok"),
        ({"memory_used": 15 << 30, "memory_limit": 0}, "memory", "fail"),
        ({"skew_ms": None}, "clock skew", "unknown"),
        ({"skew_ms": -1500.0}, "clock skew", "fail"),
        ({"skew_ms": 1500.0}, "clock skew", "fail"),
        ({"skew_ms": 1500.0, "skew_error_ms": 900.0}, "clock skew", "ok"),
        ({"groups": groups(live=0)}, "worker fast", "fail"),
        ({"groups": groups(live=0)}, "worker eco", "ok"),
        ({"groups": ()}, "router", "fail"),
        ({"groups": groups(lag=12, pending=3)}, "backlog", "ok"),
        ({"groups": groups(lag=20_000)}, "backlog", "warn"),
        ({"groups": groups(lag=None)}, "backlog", "unknown"),
        ({"dead_letters": 2}, "dead letters", "warn"),
        ({"clock": GridClock()}, "grid clock", "warn"),
        ({"signal_time": None}, "carbon signal", "warn"),
        ({"signal_time": 96 * HOUR}, "carbon signal", "warn"),
    ],
)
def test_what_is_found_is_judged(changed: dict[str, Any], name: str, status: str) -> None:
    check = checks(**changed)[name]
    assert check.status == status
    assert bool(check.remedy) == (status != "ok"), "a remedy with all but the ok, and only then"


def test_a_busy_worker_that_reads_no_stream_but_renews_its_leases_is_alive() -> None:
    only_one = tuple(
        msgspec.structs.replace(each, live=0) if each.stream.startswith("dispatch.fast.") else each
        for each in WELL.groups
    )
    assert checks(groups=only_one)["worker fast"].status == "ok"


def test_a_pool_that_its_scaler_wants_empty_misses_nobody() -> None:
    sleeping = checks(groups=groups(live=0), asleep=frozenset({"worker fast"}))["worker fast"]
    assert (sleeping.status, sleeping.detail) == ("ok", "none, as the scaler wants none now")
    other = checks(groups=groups(live=0), asleep=frozenset({"worker eco"}))["worker fast"]
    assert other.status == "fail"


def test_waiting_entries_and_the_command_to_start_are_named_where_a_role_is_missing() -> None:
    check = checks(groups=groups(live=0, lag=5, pending=2))["worker fast"]
    assert "21 entries" in check.detail  # three lanes
    assert "worker --pool fast" in check.remedy


def test_redis_7_0_is_warned_of_half_a_commit_after_an_unclean_restart() -> None:
    name = "Redis 7.0 restart"
    assert checks(server="Redis", version="7.0.15")[name].status == "warn"
    assert name not in checks(server="Redis", version="7.0.15", aof_rewrites=1)
    assert name not in checks(server="Redis", version="7.2.4")
    assert name not in checks(server="Valkey", version="8.0.1")


async def test_what_waits_for_a_role_that_never_was_is_told(
    redis: Redis, partition: Partition
) -> None:
    topology = Topology(partition)
    await redis.xadd(topology.readers["worker fast"][0], {"type": "job.dispatched"})
    facts = await gather(redis, topology, Config())
    checks = {check.name: check.detail for check in examine(facts)}
    assert "and 1 entries wait for one" in checks["worker fast"]
    assert "dispatch.fast.urgent: lag 1" in checks["backlog"]
