"""Trimming: streams stay bounded, but nothing undelivered or pending is ever cut off."""

from __future__ import annotations

from collections.abc import Collection

from redis.asyncio import Redis

from streams.event import entry_order

#: An id as numbers; below it is what may go.
Limit = tuple[int, int]
NOTHING: Limit = (0, 0)
EVERYTHING: Limit = (2**64 - 1, 0)


def past(entry_id: str) -> Limit:
    """The limit that this entry is just below."""
    ms, sequence = entry_order(entry_id)
    return ms, sequence + 1


async def finished(redis: Redis, stream: str, groups: Collection[str] = ()) -> Limit:
    """Below it every group of the stream is done: the least of the oldest pending entry and the
    next undelivered one, of each. While one of `groups` is missing it has everything to read."""
    if not await redis.exists(stream):
        return NOTHING
    found = await redis.xinfo_groups(stream)
    if not {group["name"].decode() for group in found}.issuperset(groups):
        return NOTHING
    limit = EVERYTHING
    for group in found:
        limit = min(limit, past(group["last-delivered-id"].decode()))
        if group["pending"]:
            oldest = (await redis.execute_command("XPENDING", stream, group["name"]))[1]
            if oldest is not None:  # acknowledged meanwhile
                limit = min(limit, entry_order(oldest.decode()))
    return limit


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
    Approximate trimming never goes past the limit.
    """
    limit = await finished(redis, stream, groups)
    seconds, _ = await redis.time()
    old = (seconds * 1000 - older_than_ms, 0)
    trimmed = await _trim_below(redis, stream, min(old, limit), "~")
    surplus = await redis.xlen(stream) - max_entries
    if surplus > 0:
        trimmed += await _trim_below(redis, stream, limit, "~", "LIMIT", surplus)
    return trimmed


async def trim_archived(
    redis: Redis, stream: str, archived: str, groups: Collection[str] = ()
) -> int:
    """Trim all entries up to this id that every group is done with. Returns how many went."""
    limit = min(await finished(redis, stream, groups), past(archived))
    return await _trim_below(redis, stream, limit, "=")


async def _trim_below(
    redis: Redis, stream: str, limit: Limit, exactly: str, *options: str | int
) -> int:
    if limit <= NOTHING:
        return 0
    minimum = f"{limit[0]}-{limit[1]}"
    return int(await redis.execute_command("XTRIM", stream, "MINID", exactly, minimum, *options))
