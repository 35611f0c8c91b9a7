"""A server without memory, or without disk, refuses a commit whole; the commit waits and is
done once."""

from __future__ import annotations

import asyncio
import resource
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import EmbeddedServer, server_program
from streams.errors import CommitUnknown
from streams.keys import Partition
from streams.testing import until

PARTITION = Partition("full", 0)
HASH, STREAM, ZSET, QUEUE, GROUP = (
    *(PARTITION.key(name) for name in ("totals:x", "jobs", "days", "queue")),
    "group",
)

#: A transaction: which guard comes before the four writes of `_transaction`, and their order.
shapes = st.lists(
    st.tuples(st.sampled_from(["", "field", "ack", "dropped"]), st.permutations(range(4))),
    min_size=1,
    max_size=6,
)


def _transaction(number: int, guard: str, order: Sequence[int], entry: str) -> Transaction:
    transaction = Transaction()
    if guard == "field":
        transaction.require_field(HASH, f"{number}", "")
    elif guard == "ack":
        transaction.require_ack(QUEUE, GROUP, entry)
    elif guard == "dropped":
        transaction.require_zrem(ZSET, f"old-{number}")
    writes = (
        lambda: transaction.set_fields(HASH, {f"{number}": "done"}),
        lambda: transaction.increment(HASH, "sum", 1),
        lambda: transaction.put(ZSET, 1, f"new-{number}"),
        lambda: transaction.emit(STREAM, b"{}"),
    )
    for each in order:
        writes[each]()
    return transaction


async def _prepared(client: Any, count: int) -> list[str]:
    """An empty server with what the guards ask for; the entries to acknowledge."""
    await client.flushall()
    await client.xgroup_create(QUEUE, GROUP, "0", mkstream=True)
    entries = [(await client.xadd(QUEUE, {"n": n})).decode() for n in range(count)]
    await client.execute_command(
        *("XREADGROUP", "GROUP", GROUP, "c", "COUNT", count, "STREAMS", QUEUE, ">")
    )
    await client.zadd(ZSET, {f"old-{n}": 1 for n in range(count)})
    return entries


async def _contents(client: Redis) -> Any:
    """All that transactions may change."""
    return (
        await client.hgetall(HASH),
        await client.zrange(ZSET, 0, -1, withscores=True),
        [fields for _, fields in await client.execute_command("XRANGE", STREAM, "-", "+")],
        await client.xpending(QUEUE, GROUP),
    )


@given(shapes)
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_out_of_memory_a_batch_is_done_whole_or_not_at_all(
    own_server: EmbeddedServer, batch: list[tuple[str, list[int]]]
) -> None:
    async def commit(client: Redis, *, full: bool) -> tuple[Any, bool]:
        entries = await _prepared(client, len(batch))
        transactions = [
            _transaction(number, guard, order, entry)
            for number, ((guard, order), entry) in enumerate(zip(batch, entries, strict=True))
        ]
        committer = Committer(connect(own_server.url), PARTITION, patience=0.0)
        await client.config_set("maxmemory", 1 if full else 0)
        try:
            assert all(await committer.commit(transactions))
            refused = False
        except CommitUnknown:
            refused = True
        finally:
            await client.config_set("maxmemory", 0)
            await committer.aclose()
        return await _contents(client), refused

    async def compare() -> None:
        async with connect(own_server.url) as client:
            await _prepared(client, len(batch))
            untouched = await _contents(client)
            done, _ = await commit(client, full=False)
            found, refused = await commit(client, full=True)
            assert _comparable(found) == _comparable(untouched if refused else done)

    asyncio.run(compare())


def _comparable(contents: Any) -> Any:
    """Without the ids of entries, which are times."""
    fields, members, events, pending = contents
    return fields, members, events, pending[0]


async def test_out_of_memory_a_commit_waits_and_is_done_once(own_server: EmbeddedServer) -> None:
    async with connect(own_server.url) as client:
        committer = Committer(connect(own_server.url), PARTITION, patience=20)
        await client.config_set("maxmemory", 1)
        waiting = asyncio.create_task(committer.apply(_transaction(0, "", (0, 1, 2, 3), "")))
        await until(lambda: _errors(client, "errorstat_OOM"))
        assert not waiting.done()
        assert await client.dbsize() == 0
        await client.config_set("maxmemory", 0)
        assert await waiting
        assert await client.hget(HASH, "sum") == b"1"
        await committer.aclose()


async def _errors(client: Redis, name: str) -> bool:
    return name in await client.info("errorstats")


@pytest.fixture
async def filling(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server to which a file over its limit is an error, as a full disk is, not its end."""
    program = tmp_path / "server.sh"
    program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {shlex.quote(server_program())} \"$@\"\n")
    program.chmod(0o755)
    async with EmbeddedServer(tmp_path / "data", program=str(program)) as server:
        yield server


async def test_with_a_full_disk_a_commit_waits_and_is_done_once(filling: EmbeddedServer) -> None:
    async with connect(filling.url) as client:
        committer = Committer(connect(filling.url), PARTITION, patience=20)
        assert await committer.apply(Transaction().set_fields(HASH, {"before": "1"}))
        assert filling.pid is not None
        _, hard = resource.prlimit(filling.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(filling.pid, resource.RLIMIT_FSIZE, (1, hard))
        # The first write that finds the disk full is in memory; what follows is refused.
        await committer.apply(Transaction().set_fields(HASH, {"first": "1"}))
        waiting = asyncio.create_task(committer.apply(_transaction(0, "", (0, 1, 2, 3), "")))
        await until(lambda: _errors(client, "errorstat_MISCONF"), 10)
        assert not waiting.done()
        assert not await client.exists(STREAM)
        resource.prlimit(filling.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert await waiting
        assert await client.hget(HASH, "sum") == b"1"
        await committer.aclose()
    filling.kill()
    await filling.start()
    async with connect(filling.url) as client:
        assert await client.hgetall(HASH) == {
            b"before": b"1",
            b"first": b"1",
            b"0": b"done",
            b"sum": b"1",
        }
