"""One reader of the event stream: what it wants, how far it has read, and how it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from aiohttp import web

from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.gateway.live import server_sent
from carbon_orchestrator.gateway.live.feeds import Feeds
from carbon_orchestrator.gateway.live.occurrence import Occurrence
from carbon_orchestrator.gateway.live.position import Place, Position, Positions
from carbon_orchestrator.gateway.live.tail import TURN, Told

HEARTBEAT_SECONDS = 15.0
#: Written at once, about.
_CHUNK_BYTES = 256 << 10
_GONE = "events after the position are no longer in these streams; the archive has them"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What one wants: None is all. `project`: may be one that a key is bound to, so that of others
    nothing is told."""

    types: frozenset[str] | None = None
    job: str | None = None
    project: str | None = None

    def may_fit(self, each: Occurrence) -> bool:
        """Whether it fits, but for a project that is told by the job only."""
        if self.types is not None and each.type not in self.types:
            return False
        if self.job is not None and each.job != self.job:
            return False
        if self.project is None or each.project is not None:
            return self.project in (None, each.project)
        return each.job is not None


class Subscriber:
    """`position`: up to where it has been told; it is told each event once."""

    def __init__(
        self,
        response: web.StreamResponse,
        wanted: Wanted,
        position: Position,
        positions: Positions,
        projects: Feeds,
    ) -> None:
        self._response = response
        self._wanted = wanted
        self._places = list(position)
        self._positions = positions
        self._projects = projects
        self._now = asyncio.get_running_loop().time
        self._wrote = self._now()

    @property
    def position(self) -> Position:
        return tuple(self._places)

    def quiet_for(self) -> float:
        """Seconds until it is to be given a sign of life."""
        return self._wrote + HEARTBEAT_SECONDS - self._now()

    async def live(self) -> None:
        """Give a sign of life, if there has been none for long."""
        if self.quiet_for() <= 0:
            await self.write(server_sent.heartbeat(self._positions.text(self.position)))

    async def write(self, data: bytes) -> None:
        """Raises ConnectionResetError."""
        await self._response.write(data)
        self._wrote = self._now()

    async def miss(self, gone: Mapping[int, Place]) -> None:
        """Say that something is gone from these streams, by number, and go on there."""
        for rank, place in gone.items():
            self._places[rank] = place
        names = [self._positions.streams[rank] for rank in gone]
        data = msgspec.json.encode({"streams": names, "detail": _GONE}).decode()
        await self.write(self._at() + server_sent.event("gap", data))

    async def take(self, some: Sequence[Told]) -> None:
        """Tell of these, as far as they have not been told and are wanted. Raises what the
        connection to the stream server raises, before anything of them was told."""
        projects = await self._projects_of(some)
        chunks: list[bytes] = []
        size = events = 0
        for entry in some:
            for each in entry.occurrences:
                if self._is_new(entry, each) and self._fits(each, projects):
                    self._places[entry.rank] = each.after
                    chunks += [self._at(), self._frame(each)]
                    size += len(chunks[-1])
            self._places[entry.rank] = max(self._places[entry.rank], entry.whole)
            if size >= _CHUNK_BYTES:
                await self.write(b"".join(chunks))
                chunks, size = [], 0
            events += len(entry.occurrences)
            if events >= TURN:
                events = 0
                await asyncio.sleep(0)
        if chunks:
            await self.write(b"".join(chunks))

    def _is_new(self, entry: Told, each: Occurrence) -> bool:
        return each.place >= self._places[entry.rank]

    def _fits(self, each: Occurrence, projects: Mapping[str, str]) -> bool:
        if not self._wanted.may_fit(each):
            return False
        wanted = self._wanted.project
        return wanted is None or wanted == (each.project or projects.get(each.job or ""))

    async def _projects_of(self, some: Sequence[Told]) -> Mapping[str, str]:
        """Of the jobs whose events do not say it."""
        if self._wanted.project is None:
            return {}
        for each in _all(some):
            # A submission may name any job: whose that is, its record says.
            claimed = isinstance(each.event, JobSubmitted)
            if each.job is not None and each.project is not None and not claimed:
                self._projects.note(each.job, each.project)
        return await self._projects.of(
            each.job
            for each in _all(some)
            if each.job is not None and each.project is None and self._wanted.may_fit(each)
        )

    def _at(self) -> bytes:
        return server_sent.at(self._positions.text(self.position))

    def _frame(self, each: Occurrence) -> bytes:
        return each.frame if self._wanted.project is None else each.frame_of_project


def _all(some: Sequence[Told]) -> Iterator[Occurrence]:
    for entry in some:
        yield from entry.occurrences
