"""Trimming: streams stay bounded, but nothing undelivered or pending is ever cut off."""

from __future__ import annotations

from redis.asyncio import Redis


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)


async def trim(redis: Redis, stream: str, *, older_than_ms: int, max_entries: int) -> int:
    """Trim entries that every group is done with, if they are older than `older_than_ms`
    (server clock) or beyond the newest `max_entries`. Returns how many went.

    The limit is the least of: the oldest pending entry and the next undelivered one, of
    every group of the stream; approximate trimming never goes past it.
    """
    if not await redis.exists(stream):
        return 0
    seconds, _ = await redis.time()
    limit = (seconds * 1000 - older_than_ms, 0)
    length = await redis.xlen(stream)
    if length > max_entries:
        # Walk to the id that leaves max_entries; bounded, the rest goes next time.
        surplus = min(length - max_entries, 20_000)
        rows = await redis.execute_command("XRANGE", stream, "-", "+", "COUNT", surplus)
        if rows:
            limit = max(limit, _order(rows[-1][0].decode()))
    for group in await redis.xinfo_groups(stream):
        ms, sequence = _order(group["last-delivered-id"].decode())
        limit = min(limit, (ms, sequence + 1))
        if group["pending"]:
            oldest = (await redis.execute_command("XPENDING", stream, group["name"]))[1]
            if oldest is not None:  # acknowledged meanwhile
                limit = min(limit, _order(oldest.decode()))
    if limit <= (0, 0):
        return 0
    return int(await redis.execute_command("XTRIM", stream, "MINID", "~", f"{limit[0]}-{limit[1]}"))
