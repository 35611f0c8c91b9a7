"""A stream's whole past: what is archived and what is live, read as one, in order."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from anyio import to_thread
from redis.asyncio import Redis

from streams.archive import Archive, ArchiveError, ArchiveFile
from streams.event import entry_order
from streams.keys import Partition
from streams.lines import RawEntry

T = TypeVar("T")

#: Name in every partition of the hash of the last archived id of every stream, by its name.
ARCHIVED = "archived"
BEGIN = "0-0"

_PAGE = 500


def last_of_ms(ms: int) -> str:
    """The greatest id that an entry added in this millisecond can have."""
    return f"{ms}-{2**64 - 1}"


class History:
    """What every stream of a partition held, whether it has been archived or not.

    `redis` (by `connection.connect`) or `archive` may be None: an archive alone, or a deployment
    of which nothing is archived. Streams are named as in their partition. Ids are whole ("ms-seq").
    """

    def __init__(self, redis: Redis | None, archive: Archive | None, partition: Partition) -> None:
        self.redis = redis
        self.archive = archive
        self.partition = partition

    async def pages(
        self, stream: str, after: str = BEGIN, until: str | None = None
    ) -> AsyncIterator[list[RawEntry]]:
        """The entries after the id `after`, up to and with `until`, none left out or told twice
        even while they are being archived; without `until`, up to the end as it is met.

        Raises ArchiveError, naming the file, where the archive is not whole, and OSError.
        """
        position = after
        while True:
            archived, rows = await self._look(stream, position, until)
            # Without a server the archive's end is the end; else it is where trimming may begin.
            if archived is None or entry_order(archived) > entry_order(position):
                async for page in self._archived(stream, position, archived, until):
                    yield page
                if archived is None or (until and entry_order(until) <= entry_order(archived)):
                    return
                position = archived
                continue
            if rows:
                yield [(row[0].decode(), tuple(row[1])) for row in rows]
                position = rows[-1][0].decode()
            if len(rows) < _PAGE:
                return

    async def entries(
        self, stream: str, after: str = BEGIN, until: str | None = None
    ) -> AsyncIterator[RawEntry]:
        """`pages`, one entry at a time."""
        async for page in self.pages(stream, after, until):
            for entry in page:
                yield entry

    async def merged(
        self,
        streams: Sequence[str],
        after: str | Mapping[str, str] = BEGIN,
        until: str | None = None,
    ) -> AsyncIterator[tuple[str, str, tuple[bytes, ...]]]:
        """The entries of several streams by id, as (stream, id, fields); of entries with the same
        id, in the order of `streams`. `after` may be one id for each. Holds one page of each."""
        begins = dict.fromkeys(streams, after) if isinstance(after, str) else after
        sources = [self.entries(stream, begins[stream], until) for stream in streams]
        try:
            heap = []
            for rank, source in enumerate(sources):
                async for entry_id, fields in source:
                    heap.append((entry_order(entry_id), rank, entry_id, fields))
                    break
            heapq.heapify(heap)
            while heap:
                _, rank, entry_id, fields = heap[0]
                yield streams[rank], entry_id, fields
                following = await anext(sources[rank], None)
                if following is None:
                    heapq.heappop(heap)
                else:
                    order = entry_order(following[0])
                    heapq.heapreplace(heap, (order, rank, *following))
        finally:
            for source in sources:
                await source.aclose()  # type: ignore[attr-defined]

    async def strays(self, stream: str) -> list[str]:
        """Ids of live entries that do not belong there: they are at or below what is archived,
        and not, as while they wait to be trimmed, the very same. At most a page of them."""
        archived, _ = await self._look(stream, BEGIN, BEGIN)
        if self.redis is None or archived in (None, BEGIN):
            return []
        rows: Any = await self.redis.execute_command(
            "XRANGE", self.partition.key(stream), "-", archived, "COUNT", _PAGE
        )
        if not rows:
            return []
        live = {row[0].decode(): tuple(row[1]) for row in rows}
        ids = list(live)
        ms, sequence = entry_order(ids[0])
        before = f"{ms}-{sequence - 1}" if sequence else last_of_ms(max(0, ms - 1))
        async for page in self._archived(stream, before, archived, ids[-1]):
            for entry_id, fields in page:
                if live.get(entry_id) == fields:
                    del live[entry_id]
        return list(live)

    async def file_of(self, stream: str, entry_id: str) -> Path | None:
        """The archive's file that an entry of this id is in, or would be."""
        if self.archive is None:
            return None
        order = entry_order(entry_id)
        for each in await to_thread.run_sync(self.archive.files, stream):
            if entry_order(each.after) < order <= entry_order(each.last):
                return each.path
        return None

    async def _look(
        self, stream: str, position: str, until: str | None
    ) -> tuple[str | None, list[Any]]:
        """Up to where is archived (None: nobody can tell), and a page of what is live, both as of
        one moment."""
        if self.redis is None:
            return None, []
        async with self.redis.pipeline(transaction=True) as both:
            both.hget(self.partition.key(ARCHIVED), stream)
            both.execute_command(
                "XRANGE",
                self.partition.key(stream),
                f"({position}",
                until or "+",
                "COUNT",
                _PAGE,
            )
            archived, rows = await both.execute()
        return (archived.decode() if archived else BEGIN), rows

    async def _archived(
        self, stream: str, after: str, archived: str | None, until: str | None
    ) -> AsyncIterator[list[RawEntry]]:
        if self.archive is None:
            if archived is None:
                return
            raise ArchiveError(
                f"the entries of {stream} up to {archived} are archived: name the archive's"
                " directory"
            )
        files = await to_thread.run_sync(self.archive.covering, stream, after, archived)
        begin, end = entry_order(after), entry_order(until) if until else None
        for file in files:
            if end is not None and entry_order(file.after) >= end:
                return
            async for page in self._file(file):
                # Most pages are wanted whole.
                if entry_order(page[0][0]) <= begin or (end and entry_order(page[-1][0]) > end):
                    page = [
                        entry
                        for entry in page
                        if begin < entry_order(entry[0])
                        and (end is None or entry_order(entry[0]) <= end)
                    ]
                if page:
                    yield page

    async def _file(self, file: ArchiveFile) -> AsyncIterator[list[RawEntry]]:
        assert self.archive is not None
        pages: Iterator[list[RawEntry]] = self.archive.pages(file)
        while page := await to_thread.run_sync(next, pages, None):
            yield page
