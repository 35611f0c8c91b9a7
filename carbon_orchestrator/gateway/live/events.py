"""`GET /events`: what happens, as it happens, and from where one has left off."""

from __future__ import annotations

import asyncio

from aiohttp import web

from carbon_orchestrator.gateway.door.guard import caller, over
from carbon_orchestrator.gateway.live import server_sent
from carbon_orchestrator.gateway.live.feeds import Feeds
from carbon_orchestrator.gateway.live.occurrence import TYPES
from carbon_orchestrator.gateway.live.position import BadPosition, Position, Positions
from carbon_orchestrator.gateway.live.subscriber import Subscriber, Wanted
from carbon_orchestrator.gateway.live.tail import TURN, Told
from carbon_orchestrator.gateway.problems import problem
from carbon_orchestrator.submission import is_name
from streams.errors import is_transient
from streams.page_size import PageSize
from streams.retry import backoff
from streams.stop import Stop

#: Entries of each stream that are read at a time by one who catches up, at most.
_PAGE = 200
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep it
}
_BEHIND = "this reader does not keep up; go on from the last id"


class BadQuery(ValueError):
    """The query asks for what there is not."""


class Live:
    """Event streams. `run` follows the streams for all of them."""

    def __init__(self, stop: Stop, feeds: Feeds) -> None:
        self._stop = stop
        self._feeds = feeds
        self._positions = Positions(feeds.names)

    async def run(self) -> None:
        """Until the stop."""
        await self._feeds.run(self._stop)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events until one of the two sides ends it."""
        try:
            wanted = self._wanted(request)
            position, lost = await self._from(request)
        except (BadQuery, BadPosition) as error:
            return problem(422, "invalid-query", str(error))
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        subscriber = Subscriber(response, wanted, position, self._positions, self._feeds)
        try:
            with over(request).cut():
                await subscriber.write(server_sent.opening(self._positions.text(position)))
                if lost:
                    await subscriber.miss(dict(enumerate(position)))
                await self._tell(subscriber)
        except ConnectionResetError:
            pass  # the client is gone
        # What one who does not read has yet to get would be waited for.
        if (wire := request.transport) is not None and wire.get_write_buffer_size():
            wire.abort()
        return response

    def _wanted(self, request: web.Request) -> Wanted:
        query, bound = request.query, caller(request).project
        types = [each for part in query.getall("types", []) for each in part.split(",") if each]
        for each in types:
            if each not in TYPES:
                raise BadQuery(f"types: no type {each[:40]!r}; known are {', '.join(TYPES)}")
        job, project = query.get("job"), query.get("project")
        if job is not None and not self._feeds.has(job):
            raise BadQuery(f"job: {job[:40]!r} is no job's id")
        if project is not None and not is_name(project):
            raise BadQuery(f"project: {project[:40]!r} is no project's name")
        if bound is not None and project not in (None, bound):
            raise BadQuery(f"project: this API key is bound to the project {bound}")
        return Wanted(
            types=frozenset(types) or None, job=job, project=project if bound is None else bound
        )

    async def _from(self, request: web.Request) -> tuple[Position, bool]:
        """Where to begin, and whether what came before that cannot be told. Raises BadPosition."""
        given = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
        position = self._positions.parse(given) if given else None
        if position is not None:
            return position, False
        return await self._feeds.newest(), bool(given)

    async def _tell(self, subscriber: Subscriber) -> None:
        """What came since its position, then what comes; until it no longer keeps up."""
        waits = backoff()
        while True:
            try:
                await self._catch_up(subscriber)
                async with self._feeds.listen() as listener:
                    await self._catch_up(subscriber)  # what came before it listened
                    waits = backoff()
                    while listener.ended is None:
                        await subscriber.take(await listener.take(subscriber.quiet_for()))
                        await subscriber.live()
                if listener.ended == "behind":
                    await subscriber.write(server_sent.comment(_BEHIND))
                    return
            except Exception as error:
                if isinstance(error, ConnectionResetError) or not is_transient(error):
                    raise
                await subscriber.live()
                await asyncio.sleep(next(waits))

    async def _catch_up(self, subscriber: Subscriber) -> None:
        """Tell it all that is there now."""
        last, size = False, PageSize(_PAGE)
        while not last:
            page = await self._feeds.after(subscriber.position, size.count)
            size.read(page.size)
            if page.gone:
                await subscriber.miss(page.gone)
            some: list[Told] = []
            for rank, entry in page.entries:
                some.append(self._feeds.told(rank, entry))
                if sum(len(each.occurrences) for each in some) >= TURN:
                    await subscriber.take(some)
                    some = []
            await subscriber.take(some)
            last = page.last and not page.gone
