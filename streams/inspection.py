"""What state the streams and their groups are in, for health checks and operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError


class GroupState(msgspec.Struct, frozen=True):
    """One consumer group. `lag` is None where the server cannot tell it (after deletes)."""

    stream: str
    group: str
    lag: int | None
    pending: int
    consumers: int
    live: int  # consumers that were heard of within the given time


async def group_states(redis: Redis, stream: str, live_ms: int = 15_000) -> list[GroupState]:
    """The groups of a stream; an absent stream has none."""
    try:
        groups = await redis.xinfo_groups(stream)
        states = []
        for group in groups:
            name = group["name"].decode()
            consumers = await redis.xinfo_consumers(stream, name)
            live = sum(consumer["idle"] <= live_ms for consumer in consumers)
            lag = group.get("lag")
            states.append(
                GroupState(
                    stream,
                    name,
                    None if lag is None else int(lag),
                    int(group["pending"]),
                    len(consumers),
                    live,
                )
            )
        return states
    except ResponseError as error:
        if "no such key" in str(error):
            return []
        raise


def pending_ids(reply: Iterable[Any]) -> frozenset[str]:
    """The ids of entries in the reply to XPENDING stream group start end count, as a client of
    ours (`connect`) gets it, raw."""
    return frozenset(row[0].decode() for row in reply)
