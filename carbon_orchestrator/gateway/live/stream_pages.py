"""Reading all streams at once from a position on, in order, and noticing what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.gateway.live.position import (
    BEGIN,
    WHOLE,
    Place,
    Position,
    entry_id,
    read_after,
)
from carbon_orchestrator.topology import Topology
from streams.connection import BLOCK_MS
from streams.event import entry_order
from streams.history import ARCHIVED
from streams.lines import RawEntry


class Page(msgspec.Struct, frozen=True):
    """What follows a position: entries by the number of their stream. `gone`: where to go on in
    streams of which something after the position is no longer there; `last`: there was no more;
    `size`: bytes of all that was read, some of which may be left for the next page."""

    entries: Sequence[tuple[int, RawEntry]]
    last: bool
    size: int
    gone: dict[int, Place] = {}


class StreamPages:
    """All streams of a partition but the seals."""

    def __init__(self, topology: Topology) -> None:
        self.keys = [each for each in topology.streams if each != topology.seals]
        self.names = [topology.partition.name(each) for each in self.keys]
        self._archived = topology.partition.key(ARCHIVED)
        #: Of these operators remove entries.
        self._removable = self.keys.index(topology.dead_letters)

    async def newest(self, redis: Redis) -> Position:
        """The position after all there is now."""
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self._archived)
            for key in self.keys:
                pipeline.execute_command("XREVRANGE", key, "+", "-", "COUNT", 1)
            archived, *rows = await pipeline.execute()
        return tuple(
            max(_place(row), _whole(archived.get(name.encode())))
            for name, row in zip(self.names, rows, strict=True)
        )

    async def after(self, redis: Redis, position: Position, count: int) -> Page:
        """What is there now, at most `count` entries of each stream."""
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(self._archived)
            pipeline.execute_command("XREAD", "COUNT", count, *self._streams(position))
            for key, place in zip(self.keys, position, strict=True):
                pipeline.execute_command("XRANGE", key, entry_id(place), "+", "COUNT", 1)
                pipeline.execute_command("XREVRANGE", key, "+", "-", "COUNT", 1)
            archived, reply, *rows = await pipeline.execute()
        gone = {}
        for rank, (name, place) in enumerate(zip(self.names, position, strict=True)):
            if rank == self._removable:
                continue
            first, newest = _place(rows[2 * rank]), _place(rows[2 * rank + 1])
            goes_on = resumed(place, first, newest, _whole(archived.get(name.encode())))
            if goes_on is not None:
                gone[rank] = goes_on
        page = self._page(reply, count)
        return msgspec.structs.replace(page, gone=gone)

    async def wait(self, redis: Redis, position: Position, count: int) -> Page:
        """What comes next; nothing, if nothing comes for a while."""
        reply = await redis.execute_command(
            "XREAD", "COUNT", count, "BLOCK", BLOCK_MS, *self._streams(position)
        )
        return self._page(reply, count)

    def _streams(self, position: Position) -> list[str]:
        return ["STREAMS", *self.keys, *map(read_after, position)]

    def _page(self, reply: Any, count: int) -> Page:
        """By the millisecond, and within it by the data path. What comes after the end of a
        stream that was cut off is left for the next page: more of that stream may belong before."""
        found = []
        ends = []
        for key, rows in reply or ():
            rank = self.keys.index(key.decode())
            for number, fields in rows:
                ms, sequence = entry_order(number.decode())
                found.append(((ms, rank, sequence), (number.decode(), tuple(fields))))
            if len(rows) == count:
                ends.append(found[-1][0])
        found.sort(key=lambda each: each[0])
        end = min(ends, default=None)
        entries = [(order[1], entry) for order, entry in found if end is None or order <= end]
        size = sum(len(each) for _, (_, fields) in found for each in fields)
        return Page(entries, end is None, size)


def resumed(place: Place, first: Place, newest: Place, archived: Place) -> Place | None:
    """Where to go on in a stream that has been read up to `place`, if something that came after
    that is gone; None if all is there. `first`: the first entry at or after the place; `newest`:
    the last one; `archived`: the last that was archived, after which it may be trimmed; each
    BEGIN if there is none."""
    if first[:2] == place[:2] and first != BEGIN:
        return None  # still there, and trimming goes from the oldest on
    on = (*first[:2], 0) if first != BEGIN else max(archived, newest)
    if archived[:2] > place[:2] or (archived[:2] == place[:2] and place[2] != WHOLE):
        return on
    if archived[:2] == place[:2]:
        return None  # trimmed up to here
    return on  # removed by hand, or the server has come back with less


def _place(rows: Any) -> Place:
    return (*entry_order(rows[0][0].decode()), WHOLE) if rows else BEGIN


def _whole(number: bytes | None) -> Place:
    return (*entry_order(number.decode()), WHOLE) if number else BEGIN
