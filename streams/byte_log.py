"""A byte log: what one writer after another has written, the last bytes of it, in one key.

It is a stream whose entries' ids are END-WRITER, where END counts all bytes ever written up to
the entry's last. So a reader goes on from an offset by the id alone, and a writer that others
have followed can write no more. Writers have numbers that grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from streams.scripts import APPEND

#: Bytes of one entry at most: readers get as many entries at once as they ask for.
LONGEST = 16 << 10
#: Entries that a log has at most, however few bytes are in each.
MOST_ENTRIES = 16_384
_LAST_WRITER = (1 << 64) - 1


class Addition(NamedTuple):
    """Bytes to append: the writer's number, and the offset among all that it has written."""

    writer: int
    offset: int
    data: bytes


class Piece(NamedTuple):
    """Bytes of a log. `offset`: among all that were ever written to it."""

    writer: int
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


async def append(
    redis: Redis, additions: Sequence[tuple[str, Addition]], keep: int, expiry_ms: int
) -> list[int | None]:
    """Append to logs, by key, in one call that may be repeated; of each the last `keep` bytes stay.

    The end of the log after each; None where a later writer has written. Raises what the
    connection raises.
    """
    arguments: list[Any] = [keep, MOST_ENTRIES, expiry_ms]
    for _, addition in additions:
        arguments += addition
    ends = await APPEND(redis, [key for key, _ in additions], arguments)
    return [None if end < 0 else int(end) for end in ends]


def reading(key: str, offset: int, count: int) -> tuple[Any, ...]:
    """The command that reads the next entries from an offset on."""
    return ("XRANGE", key, f"({offset}-{_LAST_WRITER}", "+", "COUNT", count)


def pieces(rows: Any, offset: int = 0) -> list[Piece]:
    """What a reply to `reading` says, from the offset on."""
    found = [_piece(entry_id, fields) for entry_id, fields in rows]
    return [
        each._replace(offset=offset, data=each.data[offset - each.offset :])
        if each.offset < offset
        else each
        for each in found
    ]


def bounds_reading(key: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The two commands whose replies `bounds` takes."""
    return ("XRANGE", key, "-", "+", "COUNT", 1), ("XREVRANGE", key, "+", "-", "COUNT", 1)


def bounds(first: Any, last: Any) -> tuple[int, int] | None:
    """The offset of the first byte that is kept, and the end; None where there is no log."""
    if not first or not last:
        return None
    return _piece(*first[0]).offset, _piece(*last[0]).end


def bounds_of(first: bytes, held: int, last: bytes) -> tuple[int, int]:
    """The same from the id of the first entry, how many bytes are in that, and the last one's."""
    return int(first.partition(b"-")[0]) - held, int(last.partition(b"-")[0])


def _piece(entry_id: bytes, fields: Sequence[bytes]) -> Piece:
    end, _, writer = entry_id.partition(b"-")
    data = fields[3]
    return Piece(int(writer), int(end) - len(data), data)
