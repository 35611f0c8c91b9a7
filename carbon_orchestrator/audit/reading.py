"""The record as an audit reads it: archive and live streams as one, up to one moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from anyio import to_thread
from redis.asyncio import Redis

from carbon_orchestrator.audit.configurations import Configurations
from carbon_orchestrator.audit.grids import Grids, order_of, place_order
from carbon_orchestrator.events import (
    IntensityObserved,
    OperatorActed,
    Pool,
    RoleStarted,
)
from carbon_orchestrator.submission import submitted_id
from carbon_orchestrator.topology import CODEC, LANES, Topology, site
from streams.archive import Archive
from streams.connection import connect
from streams.event import Entry, Message, entry_order
from streams.history import BEGIN, History, last_of_ms
from streams.keys import Partition

JOBS = ("jobs.urgent", "jobs")
INTENSITY, OPERATIONS, LETTERS = "intensity", "operations", "dead-letters"
SCALING = "scaling"
_LAST_INDEX = (1 << 20) - 1
_LATER_MS = 3_660_000  # as streams/archiver.py waits at most, and a round of it
DEFERRALS, COMPLETIONS, EMISSIONS = "deferrals", "completions", "emissions"


class Source(msgspec.Struct, frozen=True):
    """Which record: a server, an archive's directory, or both, and of what time.

    `after`, `until`: ids of entries; "0-0" and None for all there is.
    """

    partition: Partition
    url: str | None = None
    archive: Path | None = None
    after: str = BEGIN
    until: str | None = None

    @property
    def late(self) -> bool:
        """Whether it begins after the deployment did."""
        return self.after != BEGIN


def before(entry_id: str) -> str:
    """The greatest id less than this one."""
    ms, sequence = entry_order(entry_id)
    return f"{ms}-{sequence - 1}" if sequence else last_of_ms(ms - 1)


class Reading:
    """One part of an audit's view of the record."""

    def __init__(self, source: Source, redis: Redis | None) -> None:
        self.source = source
        self.redis = redis
        self.partition = source.partition
        self.archive = None if source.archive is None else Archive(source.archive, source.partition)
        self.history = History(redis, self.archive, source.partition)
        self.configurations = Configurations()
        self.grids = Grids()
        #: Entries among the dead letters, now or once, as (stream, entry).
        self.buried: set[tuple[str, str]] = set()
        #: How many dead letters were put back, by stream.
        self.put_back: dict[str, int] = {}
        #: The hashes of dead letters that were removed, by stream and id, in order.
        self.removed: dict[tuple[str, str], bytes] = {}
        self._prepared = False
        self._followed = BEGIN  # up to there intensities have been read

    @property
    def topology(self) -> Topology:
        """With all zones that any configuration on record has."""
        return Topology(self.partition, self.configurations.zones)

    async def messages(self, stream: str, after: str = BEGIN) -> AsyncIterator[Message]:
        """The events of a stream after an id, up to where the audit goes."""
        async for page in self.history.pages(stream, after, self.source.until):
            for entry_id, fields in page:
                for message in CODEC.entry(stream, entry_id, fields).messages:
                    yield message

    async def size(self, stream: str) -> int:
        """About how many of a stream's entries are to be gone over."""
        count = 0
        if self.archive is not None:
            files = await to_thread.run_sync(self.archive.files, stream)
            count = sum(each.entries for each in files)
        if self.redis is not None:
            count += int(await self.redis.xlen(self.partition.key(stream)))
        return count

    async def entry(self, stream: str, entry_id: str) -> Entry | None:
        """One entry, None if there is none."""
        async for page in self.history.pages(stream, before(entry_id), entry_id):
            for found, fields in page:
                return CODEC.entry(stream, found, fields)
        return None

    async def prepare(self, *, intensities: bool = True) -> None:
        """Read what the rest is judged by: configurations, acts of operators, intensities. What
        was read before is not read again."""
        if not self._prepared:
            self._prepared = True
            async for message in self.messages(OPERATIONS):
                if isinstance(message.event, RoleStarted):
                    self.configurations.add(message)
                elif isinstance(message.event, OperatorActed):
                    self._acted(message.event)
            if self.redis is not None:
                await self.read_letters()
        if intensities:
            await self.follow()

    async def follow(self) -> None:
        """Read intensities on, also those that have come since the last time."""
        async for message in self.messages(INTENSITY, self._followed):
            self._followed = message.entry_id
            if isinstance(message.event, IntensityObserved):
                self.grids.add(message)
            else:  # out of place; workers have seen it nevertheless
                self.grids.known.add(f"{message.entry_id}/{message.index}")

    def reached(self, place: str) -> bool:
        """Whether intensities up to this place must be there: an archive alone ends earlier."""
        if self.redis is not None:
            return True
        try:
            return order_of(place) <= place_order(self._followed, _LAST_INDEX)
        except ValueError:
            return True

    async def removed_by_now(self) -> dict[tuple[str, str], bytes]:
        """`removed`, with what was removed meanwhile."""
        async for message in self.messages(OPERATIONS):
            if isinstance(message.event, OperatorActed) and message.event.removed is not None:
                hashed = bytes.fromhex(message.event.removed)
                self.removed[LETTERS, message.event.subject] = hashed
        return self.removed

    def _acted(self, event: OperatorActed) -> None:
        if event.removed is not None:
            self.removed[LETTERS, event.subject] = bytes.fromhex(event.removed)
        if event.action.startswith("dead-letter."):
            stream = event.detail.get("stream", "")
            self.buried.add((stream, event.detail.get("entry", "")))
            if event.action == "dead-letter.retry":
                self.put_back[stream] = self.put_back.get(stream, 0) + 1

    async def read_letters(self) -> None:
        """Read what is among the dead letters by now."""
        async for page in self.history.pages(LETTERS):
            for _, fields in page:
                named = dict(zip(fields[::2], fields[1::2], strict=False))
                stream = named.get(b"stream", b"").decode("utf-8", "replace")
                entry = named.get(b"entry", b"").decode("utf-8", "replace")
                self.buried.add((stream.rpartition("}:")[2], entry))

    def identify(self, stream: str, message: Message) -> str:
        """The id of the job that a submission is about."""
        return submitted_id(message, self.partition.number, urgent=stream == JOBS[0])

    async def dispatches(self) -> list[str]:
        """The names of all streams of dispatches."""
        found: dict[str, None] = {}
        zones: dict[str, tuple[Pool, ...]] = {"": ("fast", "eco"), **self.configurations.zones}
        for zone, pools in zones.items():
            for pool in pools:
                for lane in LANES:
                    name = f"dispatch.{site(pool, zone)}"
                    found[f"{name}.{lane}" if lane else name] = None
        if self.archive is not None:
            for name in await to_thread.run_sync(self.archive.streams):
                if name.startswith("dispatch."):
                    found[name] = None
        return list(found)

    async def edge(self, streams: list[str]) -> int | None:
        """Without a server: the order from which on some stream's entries may not be archived
        yet. None where all are there."""
        if self.archive is None or self.redis is not None:
            return None
        lasts = {
            stream: place_order((await to_thread.run_sync(self.archive.files, stream))[-1].last)
            for stream in await to_thread.run_sync(self.archive.streams)
        }
        if not lasts:
            return None
        # A stream of few entries is archived so much later than the others.
        newest = max(lasts.values()) - place_order(f"{_LATER_MS}-0")
        return min([newest, *(lasts[stream] for stream in streams if stream in lasts)])


@asynccontextmanager
async def reading(source: Source) -> AsyncIterator[Reading]:
    """A view that is closed again."""
    redis = None if source.url is None else connect(source.url, partition=source.partition.number)
    try:
        yield Reading(source, redis)
    finally:
        if redis is not None:
            await redis.aclose()
