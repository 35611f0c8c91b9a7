"""Trimming: streams stay bounded, but nothing undelivered or pending is ever cut off."""

from __future__ import annotations

from collections.abc import Collection

from redis.asyncio import Redis

from streams.event import entry_order


async def trim(
    redis: Redis,
    stream: str,
    *,
    older_than_ms: int,
    max_entries: int,
    groups: Collection[str] = (),
) -> int:
    """Trim entries that every group is done with, if they are older than `older_than_ms`
    (server clock) or beyond the newest `max_entries`. Returns how many went.

    The limit is the least of: the oldest pending entry and the next undelivered one, of
    every group of the stream; approximate trimming never goes past it. While one of `groups`
    is missing nothing is trimmed: it has everything yet to read.
    """
    if not await redis.exists(stream):
        return 0
    finished: tuple[int, int] | None = None
    found = await redis.xinfo_groups(stream)
    if not {group["name"].decode() for group in found}.issuperset(groups):
        return 0
    for group in found:
        ms, sequence = entry_order(group["last-delivered-id"].decode())
        limit = (ms, sequence + 1)
        if group["pending"]:
            oldest = (await redis.execute_command("XPENDING", stream, group["name"]))[1]
            if oldest is not None:  # acknowledged meanwhile
                limit = min(limit, entry_order(oldest.decode()))
        finished = limit if finished is None else min(finished, limit)
    seconds, _ = await redis.time()
    old = (seconds * 1000 - older_than_ms, 0)
    trimmed = await _trim_below(redis, stream, old if finished is None else min(old, finished))
    surplus = await redis.xlen(stream) - max_entries
    if surplus > 0:
        everything = (seconds * 1000 + 1, 0)
        trimmed += await _trim_below(redis, stream, finished or everything, "LIMIT", surplus)
    return trimmed


async def _trim_below(
    redis: Redis, stream: str, limit: tuple[int, int], *options: str | int
) -> int:
    if limit <= (0, 0):
        return 0
    minimum = f"{limit[0]}-{limit[1]}"
    return int(await redis.execute_command("XTRIM", stream, "MINID", "~", minimum, *options))
