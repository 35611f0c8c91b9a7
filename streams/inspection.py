"""What state the streams and their groups are in, for health checks and operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from streams.connection import Client


class GroupState(msgspec.Struct, frozen=True):
    """One consumer group. `lag` is None where the server cannot tell it (after deletes)."""

    stream: str
    group: str
    lag: int | None
    pending: int
    consumers: int
    live: int  # consumers that were heard of within the given time


async def group_states(redis: Redis, *streams: str, live_ms: int = 15_000) -> list[GroupState]:
    """The groups of each stream in turn, in two round trips; an absent stream has none."""
    found = [
        (stream, group)
        for stream, groups in zip(streams, await stream_groups(redis, *streams), strict=True)
        for group in groups
    ]
    async with redis.pipeline(transaction=False) as pipeline:
        for stream, group in found:
            pipeline.xinfo_consumers(stream, group["name"])
        rows = await _told(redis, pipeline)
    return [
        GroupState(
            stream,
            group["name"].decode(),
            None if group.get("lag") is None else int(group["lag"]),
            int(group["pending"]),
            len(consumers),
            sum(consumer["idle"] <= live_ms for consumer in consumers),
        )
        for (stream, group), consumers in zip(found, rows, strict=True)
    ]


async def stream_groups(redis: Redis, *streams: str) -> list[list[dict[str, Any]]]:
    """What XINFO GROUPS tells of each stream, in one round trip; an absent stream has none."""
    async with redis.pipeline(transaction=False) as pipeline:
        for stream in streams:
            pipeline.xinfo_groups(stream)
        return await _told(redis, pipeline)


async def _told(redis: Redis, pipeline: Pipeline) -> list[Any]:
    """The replies to XINFO; empty where there is no such stream or, by now, no such group."""
    replies = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not _absent(reply):
            if isinstance(redis, Client):
                redis.check_refusal(reply, ("XINFO",))
            raise reply
    return [[] if isinstance(reply, Exception) else reply for reply in replies]


def _absent(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, ResponseError) and ("no such key" in text or "NOGROUP" in text)


def pending_ids(reply: Iterable[Any]) -> frozenset[str]:
    """The ids of entries in the reply to XPENDING stream group start end count, as a client of
    ours (`connect`) gets it, raw."""
    return frozenset(row[0].decode() for row in reply)
