"""Moves entries from live streams to the archive: written, said to be archived, then trimmed.

A process may die between any two of these. What it leaves half done is removed the next time, a
complete file of which the server does not know yet is recognised by its content, and trimming is
made up for: nothing is lost, nothing is there twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import msgspec
import structlog
from anyio import to_thread
from redis.asyncio import Redis

from streams.archive import Archive, ArchiveError, ArchiveFile
from streams.event import entry_order
from streams.history import ARCHIVED, BEGIN
from streams.keys import Partition
from streams.lines import RawEntry
from streams.retention import NOTHING, Limit, finished, past, trim_archived
from streams.scripts import ARCHIVED as SET_ARCHIVED
from streams.seals import CHAIN

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_PAGE = 500
_HOUR_MS = 3_600_000


class Keep(msgspec.Struct, frozen=True):
    """What stays live of a stream: the last `older_than_ms` (server clock), but no more than
    `max_entries`. What its `groups` are not done with stays in any case."""

    older_than_ms: int
    max_entries: int
    groups: Collection[str] = ()


class Due(msgspec.Struct, frozen=True):
    """What is to be archived now: the entries below `limit` that are below `old`, or among the
    first `surplus`."""

    limit: Limit
    old: Limit
    surplus: int

    def holds(self, entry_id: str, place: int) -> bool:
        """Whether the entry that comes in this place is among them."""
        order = entry_order(entry_id)
        return order < self.limit and (order < self.old or place < self.surplus)


def due(keep: Keep, limit: Limit, first: str, live: int, now_ms: int) -> Due | None:
    """What to archive of a stream that has `live` entries, the oldest of them `first`, and may be
    trimmed below `limit`. None: nothing yet, so that there are not many small files: it waits
    for a quarter of the time to keep, at most an hour, or a tenth of the number."""
    old = now_ms - keep.older_than_ms
    begin = old - min(_HOUR_MS, max(0, keep.older_than_ms) // 4)
    surplus = live - keep.max_entries
    order = entry_order(first)
    if order >= limit or (order >= (begin, 0) and surplus <= keep.max_entries // 10):
        return None
    return Due(limit, (old, 0), max(0, surplus))


class Archiver:
    """Archives and trims the streams of one partition. Any number may run at once, if they share
    the archive's directory: of those on one machine one works at a time."""

    def __init__(self, redis: Redis, archive: Archive, partition: Partition) -> None:
        """`redis`: by `connection.connect`."""
        self._redis = redis
        self._archive = archive
        self._partition = partition
        self._key = partition.key
        self._at_home = False

    async def keep(self, stream: str, keep: Keep) -> int:
        """Archive and trim what need not stay live of a stream that is sealed (streams are named
        as in their partition); returns how many entries were archived.

        Raises OSError where the archive cannot be written, and ArchiveError where it is not the
        one that holds what has been archived. Then nothing is trimmed.
        """
        moved = 0
        await self._trim(stream, keep)
        if not await self._due(stream, keep) and not await self._files(stream):
            return 0
        async with self._alone() as alone:
            if not alone:
                return 0
            if await self._recover(stream):
                await self._trim(stream, keep)
            while chosen := await self._due(stream, keep):
                file = await self._write(stream, chosen)
                if file is None or not await self._say(file):
                    break
                moved += file.entries
                await self._trim(stream, keep)
        return moved

    # -- what there is ---------------------------------------------------------------------------

    async def _archived(self, stream: str) -> str:
        found: Any = await self._redis.hget(self._key(ARCHIVED), stream)
        return found.decode() if found else BEGIN

    async def _files(self, stream: str) -> list[ArchiveFile]:
        return await to_thread.run_sync(self._archive.files, stream)

    async def _due(self, stream: str, keep: Keep) -> Due | None:
        sealed: Any = await self._redis.hget(self._key(CHAIN), stream)
        if sealed is None:
            return None
        key, archived = self._key(stream), await self._archived(stream)
        limit = min(past(sealed.decode()), await finished(self._redis, key, keep.groups))
        rows = await self._live(stream, archived, "+", 1)
        if not rows or limit == NOTHING:
            return None
        seconds, microseconds = await self._redis.time()
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        return due(keep, limit, rows[0][0], await self._redis.xlen(key), now_ms)

    async def _live(self, stream: str, after: str, until: str, count: int) -> list[RawEntry]:
        rows: Any = await self._redis.execute_command(
            "XRANGE", self._key(stream), f"({after}", until, "COUNT", count
        )
        return [(row[0].decode(), tuple(row[1])) for row in rows]

    # -- steps -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        lock = self._archive.locked()
        alone = await to_thread.run_sync(lock.__enter__)
        try:
            yield alone
        finally:
            lock.__exit__(None, None, None)

    async def _recover(self, stream: str) -> bool:
        """Bring files and server to agree on what is archived; True if the server has learned
        of a file by it."""
        await to_thread.run_sync(self._archive.sweep, stream)
        archived, files = await self._archived(stream), await self._files(stream)
        if not self._at_home or archived not in {BEGIN, *(each.last for each in files)}:
            await self._check_home()
        learned = False
        for file in files:
            if entry_order(file.last) <= entry_order(archived):
                continue
            if not await to_thread.run_sync(file.checksum.exists):
                await to_thread.run_sync(self._archive.discard, file)
            elif file.after == archived and await self._is_live(file) and await self._say(file):
                archived, learned = file.last, True
            else:
                aside = await to_thread.run_sync(self._archive.set_aside, file)
                log.warning("a file that is no part of the stream was set aside", file=str(aside))
        return learned

    async def _check_home(self) -> None:
        """Raises ArchiveError for a directory that is not where archiving has come so far."""
        rows: Any = await self._redis.hgetall(self._key(ARCHIVED))
        for name, last in rows.items():
            files = await self._files(name.decode())
            if last.decode() not in {each.last for each in files}:
                raise ArchiveError(
                    f"{self._archive.root} does not hold the entries of {name.decode()} up to"
                    f" {last.decode()}, which were archived: is it the right directory?"
                )
        self._at_home = True

    async def _is_live(self, file: ArchiveFile) -> bool:
        """Whether the file holds the very entries that are live."""
        try:
            position = file.after
            pages = self._archive.pages(file)
            while page := await to_thread.run_sync(next, pages, None):
                if page != await self._live(file.stream, position, page[-1][0], len(page) + 1):
                    return False
                position = page[-1][0]
        except ArchiveError:
            return False
        return True

    async def _write(self, stream: str, chosen: Due) -> ArchiveFile | None:
        """A file of what is due, as much as goes into one; None if nothing is, after all."""
        archived = await self._archived(stream)
        writer = await to_thread.run_sync(self._archive.writer, stream, archived)
        try:
            position, last = archived, False
            while not last and not writer.full:
                page = await self._live(stream, position, "+", _PAGE)
                taken = [
                    entry
                    for place, entry in enumerate(page, writer.entries)
                    if chosen.holds(entry[0], place)
                ]
                await to_thread.run_sync(writer.add, taken)
                last = len(taken) < _PAGE
                position = page[-1][0] if page else position
            return await to_thread.run_sync(writer.finish) if writer.entries else None
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(writer.abandon)

    async def _say(self, file: ArchiveFile) -> bool:
        """Have the server know that this file is archived; False if another one is."""
        keys = [self._key(ARCHIVED)]
        return bool(await SET_ARCHIVED(self._redis, keys, [file.stream, file.after, file.last]))

    async def _trim(self, stream: str, keep: Keep) -> None:
        archived = await self._archived(stream)
        if archived != BEGIN:
            await trim_archived(self._redis, self._key(stream), archived, keep.groups)
