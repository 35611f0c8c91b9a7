"""The streams of all partitions, read as one: those of the first partition, then of the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import anyio
from redis.asyncio import Redis

from carbon_orchestrator.gateway.live.position import Place, Position
from carbon_orchestrator.gateway.live.projects import Projects
from carbon_orchestrator.gateway.live.stream_pages import Page, StreamPages
from carbon_orchestrator.gateway.live.tail import Listener, Tail, Told, told
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.submission import partition_of
from streams.event import entry_order
from streams.lines import RawEntry
from streams.stop import Stop


class Source(NamedTuple):
    """One partition. `asking`: shared with others."""

    runtime: Runtime
    asking: Redis
    projects: Projects


class _Feed(NamedTuple):
    source: Source
    pages: StreamPages
    first: int  # how many streams come before its own
    tail: Tail

    @property
    def number(self) -> int:
        return self.source.runtime.topology.partition.number

    async def after(self, position: Position, count: int) -> Page:
        own = position[self.first : self.first + len(self.pages.keys)]
        return await self.pages.after(self.source.asking, own, count)


class Feeds:
    """Positions are of all partitions; entries of different ones are in no certain order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._feeds: list[_Feed] = []
        #: Of all streams, in the order of positions.
        self.names: list[str] = []
        for each in sources:
            pages, first = StreamPages(each.runtime.topology), len(self.names)
            number = each.runtime.topology.partition.number
            tail = Tail(each.runtime.connect(), each.asking, pages, number, first)
            self._feeds.append(_Feed(each, pages, first, tail))
            several = f"{number}:" if len(sources) > 1 else ""
            self.names += [several + name for name in pages.names]

    @property
    def tails(self) -> Sequence[Tail]:
        """One a partition."""
        return [each.tail for each in self._feeds]

    async def run(self, stop: Stop) -> None:
        """Follow the ends of all streams until the stop."""
        async with anyio.create_task_group() as tasks:
            for tail in self.tails:
                tasks.start_soon(tail.run, stop)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """Hear of all that is added after this has begun. Raises what the connections raise."""
        listener = Listener()
        async with AsyncExitStack() as all_of_them:
            for tail in self.tails:
                await all_of_them.enter_async_context(tail.listen(listener))
            yield listener

    async def newest(self) -> Position:
        """The position after all there is now."""
        found = await asyncio.gather(
            *(each.pages.newest(each.source.asking) for each in self._feeds)
        )
        return tuple(place for position in found for place in position)

    async def after(self, position: Position, count: int) -> Page:
        """What is there now after the position, at most `count` entries of each stream."""
        pages = await asyncio.gather(*(each.after(position, count) for each in self._feeds))
        if len(pages) == 1:
            return pages[0]
        entries: list[tuple[int, RawEntry]] = []
        gone: dict[int, Place] = {}
        for feed, page in zip(self._feeds, pages, strict=True):
            entries += [(feed.first + rank, entry) for rank, entry in page.entries]
            gone |= {feed.first + rank: place for rank, place in page.gone.items()}
        entries.sort(key=lambda each: entry_order(each[1][0])[0])  # stable, so each in its order
        last, size = all(each.last for each in pages), sum(each.size for each in pages)
        return Page(entries, last, size, gone)

    def told(self, rank: int, entry: RawEntry) -> Told:
        """An entry as it is told."""
        feed = next(each for each in reversed(self._feeds) if each.first <= rank)
        return told(feed.pages, feed.number, rank - feed.first, entry, feed.first)

    def has(self, job_id: str) -> bool:
        """Whether there is a partition for a job of this id."""
        return any(each.number == partition_of(job_id) for each in self._feeds)

    # -- whose each job is -----------------------------------------------------------------------

    def note(self, job_id: str, project: str) -> None:
        """It was told."""
        for each in self._feeds:
            if each.number == partition_of(job_id):
                each.source.projects.note(job_id, project)

    async def of(self, job_ids: Iterable[str]) -> Mapping[str, str]:
        """The projects of these jobs, as Projects has them."""
        ids, found = list(job_ids), dict[str, str]()
        for each in self._feeds:
            own = [job_id for job_id in ids if partition_of(job_id) == each.number]
            if own:
                found |= await each.source.projects.of(own)
        return found
