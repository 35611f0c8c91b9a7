"""Whether the past is as it was sealed: every seal, every sealed entry, archived or live.

One pass, in the order of the seals, with one page of every stream in memory.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from anyio import to_thread
from redis.exceptions import ResponseError

from streams.archive import ArchiveError
from streams.codec import Codec
from streams.event import entry_order
from streams.history import BEGIN, History
from streams.lines import RawEntry
from streams.sealing import seals_entry
from streams.seals import CHAIN, SEALS, SegmentSealed, entry_hash, seal_hash, segment_digest

#: Beyond so many findings nobody reads on.
MAX_FINDINGS = 1000

_codec = Codec([SegmentSealed])
_STREAM = re.compile(r"[A-Za-z0-9_.@-]{1,200}")
#: A file that is not as it was, or is gone; a key that is no stream any more.
_UNREADABLE = (ArchiveError, OSError, ResponseError)
_MOST_ASKED = 100
_Order = tuple[int, int]
#: (stream, id) to entry hash, in the order of deletion.
Removed = Mapping[tuple[str, str], bytes]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something that is not as it was sealed. `seal`: the number of the seal that shows it."""

    stream: str
    what: str
    seal: int | None = None
    first: str | None = None  # ids of the segment's first and last entry, as sealed
    last: str | None = None
    expected: str | None = None
    found: str | None = None
    file: str | None = None  # of the archive, where the segment is in one


class Head(msgspec.Struct, frozen=True):
    """A seal by its number and hash (hex): all that has to be kept elsewhere."""

    number: int
    hash: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What `prove` found. Without findings all `entries` of `segments` are as they were sealed."""

    findings: list[Finding]
    head: Head | None  # of the last seal
    segments: int
    entries: int
    unsealed: dict[str, int]  # entries after the last seal, by stream
    missing: dict[str, int]  # sealed segments that an archive alone does not reach, by stream


class Removals:
    """Entries that were deleted with leave."""

    def __init__(self, removed: Removed) -> None:
        self._rank = {key: rank for rank, key in enumerate(removed)}
        self._hashes = removed
        self._orders: dict[str, list[_Order]] = {}
        for stream, entry_id in removed:
            self._orders.setdefault(stream, []).append(entry_order(entry_id))
        for orders in self._orders.values():
            orders.sort()

    def fill(
        self, stream: str, after: str, last: str, found: dict[str, bytes], count: int
    ) -> dict[str, bytes]:
        """`found` (id to hash) and so many of the removed ones between the ids that there are
        `count`. A segment is read at one moment: those removed last were still in it."""
        orders = self._orders.get(stream, [])
        begin = bisect_right(orders, entry_order(after))
        end = bisect_right(orders, entry_order(last))
        keys = [(stream, f"{ms}-{sequence}") for ms, sequence in orders[begin:end]]
        gone = sorted((key for key in keys if key[1] not in found), key=self._rank.__getitem__)
        put_back = gone[max(0, len(gone) - (count - len(found))) :] if count > len(found) else []
        if not put_back:
            return found
        whole = found | {key[1]: self._hashes[key] for key in put_back}
        return dict(sorted(whole.items(), key=lambda item: entry_order(item[0])))


class _Cursor:
    """Reads a stream on and on."""

    def __init__(self, history: History, stream: str) -> None:
        self._history, self._stream = history, stream
        self._pages = self._from(BEGIN)
        self._read = BEGIN  # the last id of all that was read
        self._page: list[RawEntry] = []
        self._at = 0
        self.after = BEGIN  # the last id of the segment before
        self.end: str | None = None  # where an archive alone ends
        self.failed = False

    async def up_to(self, last: str) -> tuple[dict[str, bytes], bool]:
        """The hashes, by id, of the entries that come before one beyond this id, and whether they
        are in order. Raises one of `_UNREADABLE`."""
        hashes: dict[str, bytes] = {}
        limit, previous, orderly = entry_order(last), entry_order(self.after), True
        while True:
            while self._at < len(self._page):
                entry_id, fields = self._page[self._at]
                order = entry_order(entry_id)
                if order > limit:
                    return hashes, orderly
                orderly = orderly and order > previous
                previous = order
                hashes[entry_id] = entry_hash(entry_id, fields)
                self._at += 1
            if not await self._more():
                return hashes, orderly

    async def _more(self) -> bool:
        """Read on, also beyond what was the end at the last reading."""
        self._page, self._at = await anext(self._pages, []), 0
        if not self._page:
            self._pages = self._from(self._read)
            self._page = await anext(self._pages, [])
        if self._page:
            self._read = self._page[-1][0]
        return bool(self._page)

    def _from(self, after: str) -> AsyncGenerator[list[RawEntry], None]:
        pages = self._history.pages(self._stream, after)
        return cast(AsyncGenerator[list[RawEntry], None], pages)

    async def remaining(self) -> int:
        """How many entries are left. Raises one of `_UNREADABLE`."""
        count = len(self._page) - self._at
        self._page = []
        async for page in self._pages:
            count += len(page)
        return count

    async def close(self) -> None:
        await self._pages.aclose()


async def prove(
    history: History,
    *,
    streams: Sequence[str] = (),
    head: Head | None = None,
    removed: Removed | None = None,
    removed_by_now: Callable[[], Awaitable[Removed]] | None = None,
) -> Proof:
    """Check all that is sealed.

    `head`: a seal that was noted down elsewhere and must be in the chain. `removed`: the hashes
    of entries that were deleted with leave, by stream and id, in the order of their deletion;
    `removed_by_now` is asked for them again where one is missing: it may just have been deleted.
    `streams`: those that there are, for the count of what is not sealed yet.
    """
    proving = _Proving(history, Removals(removed or {}), removed_by_now, head)
    return await proving.run(streams)


class _Proving:
    def __init__(
        self,
        history: History,
        removals: Removals,
        by_now: Callable[[], Awaitable[Removed]] | None,
        noted: Head | None,
    ) -> None:
        self._history = history
        self._removals = removals
        self._by_now = by_now
        self._asked = 0
        self._noted = noted
        self._findings: list[Finding] = []
        self._cursors: dict[str, _Cursor] = {}
        self._head: Head | None = None
        self._segments = self._entries = 0
        self._missing: dict[str, int] = {}

    async def run(self, streams: Sequence[str]) -> Proof:
        wanted = [head for head in (await self._stored_head(), self._noted) if head]
        hashes = {head.number: "" for head in wanted}
        try:
            async for page in self._history.pages(SEALS):
                for entry_id, fields in page:
                    for seal in self._seals(entry_id, fields):
                        await self._check(seal)
                        if seal.number in hashes and self._head is not None:
                            hashes[seal.number] = self._head.hash
        except _UNREADABLE as error:
            self._unreadable(SEALS, error)
        for head in wanted:
            if hashes[head.number] != head.hash:
                found = hashes[head.number] or "no such seal"
                self._find(
                    stream=SEALS,
                    what="the chain does not contain the seal that was noted down",
                    seal=head.number,
                    expected=head.hash,
                    found=found,
                )
        unsealed = await self._unsealed({*streams, *self._cursors})
        for cursor in self._cursors.values():
            await cursor.close()
        return Proof(
            findings=self._findings,
            head=self._head,
            segments=self._segments,
            entries=self._entries,
            unsealed=unsealed,
            missing=self._missing,
        )

    async def _stored_head(self) -> Head | None:
        """The last seal as the server has it. Read before the seals, so that it is among them."""
        if self._history.redis is None:
            return None
        key = self._history.partition.key(CHAIN)
        found: Any = await self._history.redis.hmget(key, ["number", "head"])
        number, head = found
        if number is None or head is None:
            return None
        return Head(int(number) if number.isdigit() else 0, head.decode("utf-8", "replace"))

    def _seals(self, entry_id: str, fields: tuple[bytes, ...]) -> list[SegmentSealed]:
        seals = [each.event for each in _codec.entry(SEALS, entry_id, fields).messages]
        if not seals or fields != seals_entry(seals):
            self._find(stream=SEALS, what=f"entry {entry_id} is not as seals are written")
        return seals

    async def _check(self, seal: SegmentSealed) -> None:
        number, previous = (self._head.number, self._head.hash) if self._head else (0, "")
        if seal.number != number + 1 or seal.previous != previous:
            self._find(
                stream=SEALS,
                what=f"seal {seal.number} does not follow seal {number}",
                seal=seal.number,
                expected=previous or None,
                found=seal.previous,
            )
        self._head = Head(seal.number, seal_hash(seal))
        if not _STREAM.fullmatch(seal.stream):
            self._find(stream=SEALS, what="a seal of no stream", seal=seal.number)
            return
        cursor = self._cursors.get(seal.stream)
        if cursor is None:
            cursor = self._cursors[seal.stream] = _Cursor(self._history, seal.stream)
        if cursor.failed:
            return
        try:
            await self._segment(seal, cursor)
        except _UNREADABLE as error:
            cursor.failed = True
            self._unreadable(seal.stream, error, seal)

    async def _segment(self, seal: SegmentSealed, cursor: _Cursor) -> None:
        after = cursor.after
        if not _follows(after, seal):
            self._find(
                stream=seal.stream,
                what=f"segment {seal.number} is not after the one before",
                seal=seal.number,
                expected=after,
                found=f"{seal.first} to {seal.last}",
            )
            return
        if await self._beyond(seal, cursor):
            self._missing[seal.stream] = self._missing.get(seal.stream, 0) + 1
            return
        found, orderly = await cursor.up_to(seal.last)
        cursor.after = seal.last
        self._segments += 1
        self._entries += len(found)
        whole = self._removals.fill(seal.stream, after, seal.last, found, seal.entries)
        if len(whole) < seal.entries and self._by_now is not None and self._asked < _MOST_ASKED:
            self._asked += 1
            self._removals = Removals(await self._by_now())
            whole = self._removals.fill(seal.stream, after, seal.last, found, seal.entries)
        ends = (next(iter(whole), ""), next(reversed(whole), ""))
        if len(whole) != seal.entries:
            expected, there = f"{seal.entries} entries", f"{len(whole)} entries"
            await self._differs(seal, "has another number of entries", expected, there)
        elif not orderly:
            await self._differs(seal, "is in another order")
        elif (digest := segment_digest(whole.values())) != seal.digest:
            await self._differs(seal, "has another digest", seal.digest, digest)
        elif ends != (seal.first, seal.last):
            expected, there = f"{seal.first} to {seal.last}", " to ".join(ends)
            await self._differs(seal, "begins or ends elsewhere", expected, there)

    async def _beyond(self, seal: SegmentSealed, cursor: _Cursor) -> bool:
        """Whether an archive alone ends before the end of this segment."""
        if self._history.redis is not None or self._history.archive is None:
            return False
        if cursor.end is None:
            files = await to_thread.run_sync(self._history.archive.files, seal.stream)
            cursor.end = files[-1].last if files else BEGIN
        return entry_order(seal.last) > entry_order(cursor.end)

    async def _unsealed(self, streams: set[str]) -> dict[str, int]:
        counts = {}
        for stream in sorted(streams):
            cursor = self._cursors.get(stream) or _Cursor(self._history, stream)
            if cursor.failed:
                continue
            try:
                counts[stream] = await cursor.remaining()
                if strays := await self._history.strays(stream):
                    self._find(
                        stream=stream,
                        what="live entries among those that are archived, which are others",
                        first=strays[0],
                        last=strays[-1],
                    )
            except _UNREADABLE as error:
                self._unreadable(stream, error)
        return counts

    async def _differs(
        self, seal: SegmentSealed, how: str, expected: str = "", found: str = ""
    ) -> None:
        file = await self._history.file_of(seal.stream, seal.last)
        self._find(
            stream=seal.stream,
            what=f"segment {seal.number} {how}",
            seal=seal.number,
            first=seal.first,
            last=seal.last,
            expected=expected or None,
            found=found or None,
            file=str(file) if file else None,
        )

    def _unreadable(self, stream: str, error: Exception, seal: SegmentSealed | None = None) -> None:
        path: Any = getattr(error, "path", None) or getattr(error, "filename", None)
        self._find(
            stream=stream,
            what=str(error),
            seal=seal.number if seal else None,
            file=str(path) if path else None,
        )

    def _find(self, **fields: Any) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(Finding(**fields))


def _follows(after: str, seal: SegmentSealed) -> bool:
    try:
        return entry_order(after) < entry_order(seal.first) <= entry_order(seal.last)
    except ValueError:
        return False
