"""A way through the record in search of one job's events, so far at a time."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from carbon_orchestrator.gateway.live.occurrence import Occurrence, occurrences
from carbon_orchestrator.gateway.live.position import WHOLE, read_after
from carbon_orchestrator.gateway.lookup.cursors import BadCursor
from carbon_orchestrator.gateway.lookup.whereabouts import Search, event_key
from streams.archive import ArchiveError
from streams.event import entry_order
from streams.history import ARCHIVED, BEGIN, History, last_of_ms
from streams.lines import RawEntry

#: Entries, and bytes of them, that are looked at in one go, and the seconds after which no more is
#: begun: in the archive a file is read from its beginning besides, for each thing that is sought.
BUDGET, BUDGET_BYTES, BUDGET_SECONDS = 10_000, 32 << 20, 3.0
#: Bytes that are looked at in a row, or an entry that has more, before others have their turn.
_TURN_BYTES = 64 << 10
_SUBMISSIONS = ("jobs.urgent", "jobs")
_UNREADABLE = "older events are in an archive that this gateway cannot read; see `replay`"


class _Reached(msgspec.Struct, frozen=True, array_like=True):
    """Everything up to this entry has been looked at, by id and then by stream (its number; -1:
    before all of this id). `missing`: what was to be found by then, and has not been."""

    ms: int
    sequence: int
    rank: int
    missing: tuple[str, ...] = ()

    @classmethod
    def before(cls, ms: int) -> _Reached:
        return cls(ms, 0, -1)


_decode = msgspec.json.Decoder(_Reached).decode


class Walk:
    """From where the one before has ended, by its `next`; raises BadCursor. `names`: all streams,
    in the order in which entries of one id are looked at. Afterwards `found` is what was found,
    `next` where to go on (None: there is no more), and `incomplete` says what could not be read."""

    def __init__(
        self,
        history: History,
        names: Sequence[str],
        job_id: str,
        searches: Sequence[Search],
        cursor: str | None,
    ) -> None:
        self._history = history
        self._names = names
        self._job_id = job_id
        self._reached = _Reached.before(0) if cursor is None else _parse(cursor)
        self._left = [
            each
            for each in searches
            if each.finds is None
            or each.since > self._reached.ms
            or cursor is None
            or each.finds in self._reached.missing
        ]
        self._looked_at = self._bytes = 0
        self._now = asyncio.get_running_loop().time
        self._until = self._now() + BUDGET_SECONDS
        self._archived: Mapping[str, str] | None = None  # of an archive that cannot be read
        self.found: list[Occurrence] = []
        self.next: str | None = None
        self.incomplete: str | None = None

    async def run(self, limit: int) -> None:
        """Until so many events are found, or enough was looked at."""
        while (stretch := self._stretch()) is not None:
            if self._enough(limit):
                self.next = self._cursor()
                return
            try:
                await self._go(*stretch, limit)
            except (ArchiveError, OSError) as error:
                if isinstance(error, ConnectionError | TimeoutError) or self._archived is not None:
                    raise  # not the archive's
                self.incomplete = _UNREADABLE
                await self._without_archive()

    def _stretch(self) -> tuple[list[str], int | None] | None:
        """Which streams are to be searched from here on, until which ms, or to their ends; None:
        none any more."""
        at = self._reached.ms
        self._left = [each for each in self._left if each.until is None or each.until >= at]
        ahead = [each.since for each in self._left if each.since > at]
        active = [each for each in self._left if each.since <= at]
        if not active:
            if not ahead:
                return None
            self._reached = _Reached.before(min(ahead))
            return self._stretch()
        ends = [since - 1 for since in ahead]
        ends += [each.until for each in active if each.until is not None]
        wanted = {name for each in active for name in each.streams}
        return [name for name in self._names if name in wanted], min(ends, default=None)

    async def _go(self, streams: Sequence[str], until: int | None, limit: int) -> None:
        """Up to there, or to where something else is to be searched for."""
        after = {name: self._after(name) for name in streams}
        end = None if until is None else last_of_ms(until)
        entries = self._history.merged(streams, after, end)
        turn = _TURN_BYTES
        try:
            async for name, entry_id, fields in entries:
                self._looked_at += 1
                self._bytes += (size := sum(map(len, fields)))
                if (turn := turn - size) < 0:
                    turn = _TURN_BYTES
                    await asyncio.sleep(0)
                found = self._look(name, (entry_id, fields))
                self._reached = _Reached(*entry_order(entry_id), self._names.index(name))
                if self._found(found) or self._enough(limit):
                    return
        finally:
            await entries.aclose()  # type: ignore[attr-defined]
        if until is None:
            self._left = []
        else:
            self._reached = _Reached.before(until + 1)

    def _enough(self, limit: int) -> bool:
        looked = self._looked_at >= BUDGET or self._bytes >= BUDGET_BYTES
        late = self._looked_at > 0 and self._now() >= self._until
        return looked or late or len(self.found) >= limit

    def _after(self, name: str) -> str:
        """The id up to which the stream has been looked at."""
        ms, sequence, rank = self._reached.ms, self._reached.sequence, self._reached.rank
        place = (ms, sequence, WHOLE if self._names.index(name) <= rank else 0)
        archived = BEGIN if self._archived is None else self._archived.get(name, BEGIN)
        return max(read_after(place), archived, key=entry_order)

    def _look(self, name: str, entry: RawEntry) -> list[Occurrence]:
        """The events about the job in an entry. But for submissions, of which some have their id
        from where they stand, an entry that does not quote it need not be decoded."""
        if name not in _SUBMISSIONS and not any(self._job_id.encode() in each for each in entry[1]):
            return []
        partition = self._history.partition.number
        return [each for each in occurrences(name, entry, partition) if each.job == self._job_id]

    def _found(self, found: list[Occurrence]) -> bool:
        """Take note of them; whether a search is over by that."""
        self.found += found
        keys = {event_key(each.event) for each in found}
        left = [each for each in self._left if each.finds not in keys]
        over = len(left) < len(self._left)
        self._left = left
        return over

    async def _without_archive(self) -> None:
        redis, key = self._history.redis, self._history.partition.key(ARCHIVED)
        assert redis is not None
        rows: Any = await redis.hgetall(key)
        self._archived = {name.decode(): last.decode() for name, last in rows.items()}

    def _cursor(self) -> str:
        at = self._reached
        missing = tuple(
            each.finds for each in self._left if each.finds is not None and each.since <= at.ms
        )
        raw = msgspec.json.encode(msgspec.structs.replace(at, missing=missing))
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parse(cursor: str) -> _Reached:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        reached = _decode(raw)
        if not (0 <= reached.ms < 1 << 63 and 0 <= reached.sequence < 1 << 64):
            raise ValueError
        return reached
    except (ValueError, binascii.Error, RecursionError):  # of which msgspec's errors are
        raise BadCursor("the cursor is none that was given out; start without one") from None
