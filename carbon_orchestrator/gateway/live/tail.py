"""The end of all streams, followed once for everybody who listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import msgspec
import structlog
from redis.asyncio import Redis

from carbon_orchestrator.gateway.live.occurrence import Occurrence, occurrences
from carbon_orchestrator.gateway.live.position import WHOLE, Place, Position
from carbon_orchestrator.gateway.live.stream_pages import StreamPages
from streams.errors import is_transient
from streams.event import entry_order
from streams.lines import RawEntry
from streams.retry import backoff
from streams.stop import Stop

log = structlog.get_logger(__name__)

_PAGE = 100
#: What may wait for one listener: entries, and bytes of them.
_MOST = 1000
_MOST_BYTES = 4 << 20
#: Events that are decoded or told in a row, or of an entry where those are more, before others
#: have their turn.
TURN = 50


class Told(msgspec.Struct, frozen=True):
    """An entry and its events; `rank`: the number of its stream, of all partitions'."""

    rank: int
    whole: Place
    occurrences: Sequence[Occurrence]
    size: int


class Listener:
    """What one has yet to take. `ended`: why nothing is added any more: it was too much, or the
    tail was lost and one has to catch up again."""

    def __init__(self) -> None:
        self.ended: Literal["behind", "lost"] | None = None
        self._waiting: deque[Told] = deque()
        self._bytes = 0
        self._something = asyncio.Event()

    def put(self, told: Told) -> None:
        """Have it wait to be taken."""
        full = len(self._waiting) >= _MOST or (
            self._bytes > 0 and self._bytes + told.size > _MOST_BYTES
        )
        if full:
            self.end("behind")
        elif self.ended is None:
            self._waiting.append(told)
            self._bytes += told.size
            self._something.set()

    def end(self, why: Literal["behind", "lost"]) -> None:
        """Nothing is added from here on; what waits is dropped."""
        self.ended = self.ended or why
        self._waiting.clear()
        self._bytes = 0
        self._something.set()

    async def take(self, seconds: float) -> list[Told]:
        """All that waits; empty if nothing came for so long, or it has `ended`."""
        with anyio.move_on_after(seconds):
            await self._something.wait()
        self._something.clear()
        taken, self._bytes = list(self._waiting), 0
        self._waiting.clear()
        return taken


def told(pages: StreamPages, partition: int, rank: int, entry: RawEntry, first: int = 0) -> Told:
    """An entry as it is told. `first`: how many streams come before those of the partition."""
    ms, sequence = entry_order(entry[0])
    return Told(
        first + rank,
        (ms, sequence, WHOLE),
        list(occurrences(pages.names[rank], entry, partition)),
        sum(map(len, entry[1])),
    )


class Tail:
    """Reads while somebody listens. `redis`: for its own blocking reads; `asking`: for others."""

    def __init__(
        self, redis: Redis, asking: Redis, pages: StreamPages, partition: int, first: int = 0
    ) -> None:
        self._first = first
        self._redis = redis
        self._asking = asking
        self._pages = pages
        self._partition = partition
        self._listeners: set[Listener] = set()
        self._position: Position | None = None
        self._starting = asyncio.Lock()
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def listen(self, listener: Listener) -> AsyncIterator[None]:
        """Have it hear of all that is added after this has begun. Raises what the connection
        raises."""
        async with self._starting:
            if self._position is None:
                self._position = await self._pages.newest(self._asking)
            self._listeners.add(listener)
        self._wanted.set()
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def run(self, stop: Stop) -> None:
        """Until the stop."""
        waits = backoff()
        while not stop.is_set():
            try:
                with stop.cut():
                    await self._wanted.wait()
                    while self._listeners and self._position is not None:
                        await self._pass_on(self._position)
                        waits = backoff()
            except Exception as error:
                if not is_transient(error):
                    log.exception("following the streams failed, going on")
                await stop.sleep(next(waits))
            self._position = None
            self._wanted.clear()
            for listener in self._listeners:
                listener.end("lost")  # the server may be another one, or has trimmed

    async def _pass_on(self, position: Position) -> None:
        page = await self._pages.wait(self._redis, position, _PAGE)
        places = list(position)
        events = 0
        for rank, entry in page.entries:
            each = told(self._pages, self._partition, rank, entry, self._first)
            places[rank] = each.whole
            self._position = tuple(places)
            for listener in self._listeners:
                listener.put(each)
            events += len(each.occurrences)
            if events >= TURN:
                events = 0
                await asyncio.sleep(0)
