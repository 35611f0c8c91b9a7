"""What goes on: events as they happen, those of one job, and what a job writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from carbon_orchestrator.client.connection import Connection, id_of, path_of, typed
from carbon_orchestrator.client.errors import OrchestratorError, Unavailable
from carbon_orchestrator.client.jobs import Job
from carbon_orchestrator.client.server_sent import Frame, Frames, TooLong

#: Heartbeats come every 15 s.
_QUIET_SECONDS = 45.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `type`: such as "job.deferred"; `at`: wall time of the entry `id`
    of the stream; `job`: the job it is about, where that is known; `data`: the event as the
    contract has it; `position`: after which to go on."""

    type: str
    stream: str = ""
    id: str = ""
    at: datetime | None = None
    source: str | None = None
    job: str | None = None
    data: dict[str, Any] = {}
    position: str = ""


class LogPiece(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an attempt of a job wrote. `offset`, `end`: of its first byte and after its
    last, among all that the job wrote; what lies between two pieces is no longer kept."""

    attempt: int
    offset: int
    end: int
    text: str


class Live(Connection):
    """What a client can follow."""

    async def events(
        self,
        types: str | Iterable[str] = (),
        *,
        job: Job | str | None = None,
        project: str | None = None,
        after: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """What happens from now on, or after the `position` of an earlier event, until you leave
        the loop: of some types such as "job.completed", of one job, of one project. A connection
        that breaks is made again, and nothing is missed or told twice by that. Where the streams
        do not reach back to the position any more, an event of type "gap" says so.

        Raises Unavailable where the gateway stays away for longer than `patience`.
        """
        query = _given(
            types=types if isinstance(types, str) else ",".join(types),
            job=None if job is None else id_of(job),
            project=project,
        )
        frames = Frames(after or "")
        retries = self._transport.retries()
        while True:
            headers = {"Accept": "text/event-stream"}
            if frames.position:
                headers["Last-Event-ID"] = frames.position
            try:
                async with self._transport.stream(
                    "/events", query=query, headers=headers, quiet=_QUIET_SECONDS
                ) as flow:
                    frames = Frames(frames.position)
                    async for chunk in flow.chunks:
                        for frame in frames.feed(chunk):
                            yield _event(frame)
                        retries.came_on()  # however long that took
                broken = Unavailable(f"{self.url} ended the events")
            except Unavailable as error:
                broken = error
            except TooLong:
                raise OrchestratorError(f"{self.url} sends events that are too long") from None
            await retries.wait(broken)

    async def job_events(self, job: Job | str) -> AsyncGenerator[Event, None]:
        """All events about a job, in order, as far back as there are any: from the archive and
        the streams; an event of type "gap" says what could not be read. Raises NotFound."""
        cursor: str | None = None
        while True:
            page = typed(_Page, await self.get(f"{path_of(job)}/events", cursor=cursor))
            for each in page.events:
                yield each
            if page.incomplete:
                yield Event(type="gap", data={"detail": page.incomplete})
            if page.next is None or page.next == cursor:
                return
            cursor = page.next

    async def logs(
        self, job: Job | str, *, follow: bool = False, offset: int = 0
    ) -> AsyncGenerator[str, None]:
        """What a job has written, in pieces as they come, from a byte of its output on, as far
        as it is kept. `follow`: until the job ends. Raises NotFound.

        >>> import asyncio
        >>> from carbon_orchestrator import Client
        >>> async def main() -> None:
        ...     async with Client() as client:
        ...         job = await client.submit("training", urgency="urgent")
        ...         text = "".join([text async for text in client.logs(job, follow=True)])
        ...         print((await client.job(job)).ended)
        >>> asyncio.run(main())
        True
        """
        async with aclosing(self.log_pieces(job, follow=follow, offset=offset)) as pieces:
            async for piece in pieces:
                yield piece.text

    async def log_pieces(
        self, job: Job | str, *, follow: bool = False, offset: int = 0
    ) -> AsyncGenerator[LogPiece, None]:
        """As `logs`, with the attempt that wrote each piece, and its place. A connection that
        breaks is made again, and goes on where the last piece ended."""
        retries = self._transport.retries()
        headers = {"Accept": "application/x-ndjson"}
        while True:
            query = _given(offset=str(offset), follow="true" if follow else None)
            try:
                async with self._transport.stream(
                    f"{path_of(job)}/logs", query=query, headers=headers, quiet=_QUIET_SECONDS
                ) as flow:
                    rest = b""
                    async for chunk in flow.chunks:
                        *lines, rest = (rest + chunk).split(b"\n")
                        for line in filter(None, lines):
                            piece = _piece(line)
                            yield piece
                            offset = piece.end
                        retries.came_on()  # however long that took
                return
            except Unavailable as error:
                broken = error
            await retries.wait(broken)


class _Page(msgspec.Struct):
    events: list[Event]
    incomplete: str | None = None
    next: str | None = None


def _piece(line: bytes) -> LogPiece:
    """Raises OrchestratorError."""
    try:
        return typed(LogPiece, msgspec.json.decode(line))
    except msgspec.DecodeError:
        raise OrchestratorError(
            "this is no output of a job as a gateway of ours tells it"
        ) from None


def _given(**query: str | None) -> list[tuple[str, str]]:
    return [(name, value) for name, value in query.items() if value]


def _event(frame: Frame) -> Event:
    """Raises OrchestratorError."""
    try:
        told = msgspec.json.decode(frame.data, type=dict[str, Any])
    except msgspec.DecodeError:
        told = {"text": frame.data}
    told = told if "data" in told else {"data": told}  # of a gap
    return typed(Event, {**told, "type": frame.kind, "position": frame.position})
