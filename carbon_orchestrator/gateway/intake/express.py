"""The express lane: one job by `POST /jobs`, which is nearly all that a busy gateway is asked, is
read and answered on its connection, as the ways through requests, tasks, routes and middlewares
take longer than all else of it. Whatever is out of the ordinary goes to the application, unread.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpRequestParser

from carbon_orchestrator.gateway.deployment.requests import Requests
from carbon_orchestrator.gateway.door.connections import (
    FIELD,
    FIELDS,
    LINE,
    Connection,
    Connections,
)
from carbon_orchestrator.gateway.door.guard import Guard, Guest, Presented
from carbon_orchestrator.gateway.door.ready import Ready, readied
from carbon_orchestrator.gateway.intake.outcome import INTERNAL
from carbon_orchestrator.gateway.intake.posting import Posting
from carbon_orchestrator.gateway.problems import fault, refused
from carbon_orchestrator.gateway.routes import BY_PATH

log = structlog.get_logger(__name__)

_ROUTE = BY_PATH["POST", "/jobs"]
_BEGINNING, _END = b"POST /jobs HTTP/1.1\r\n", b"\r\n\r\n"
#: What comes in one piece from a socket, and is no reason to wait for more; bytes.
_MOST = 64 << 10
#: The application knows what these ask for.
_UNUSUAL = ("Origin", "Expect", "Content-Encoding", "Transfer-Encoding")
#: Heads that are remembered; none that has what is another in each request.
_HEADS = 256


class Head(NamedTuple):
    """What a request's head says. `length`: of its body, bytes; `key`: an Idempotency-Key;
    `trace`: a trace context."""

    length: int
    presented: Presented
    key: str | None
    trace: str | None


class Posted(NamedTuple):
    """A job in JSON by HTTP as most speak it; as much of it as is here."""

    head: Head
    body: bytes


class Express:
    """Knows such requests, and answers them. `max_body`: bytes."""

    def __init__(self, guard: Guard, posting: Posting, requests: Requests, max_body: int) -> None:
        self._guard = guard
        self._posting = posting
        self._requests = requests
        self._most = min(max_body, _MOST)
        # Who sends many jobs sends one head again and again, and the same bytes say the same.
        self._heads: dict[bytes, Head | None] = {}

    def posted(self, data: bytes) -> Posted | None:
        """The job, if `data` is such a request and no more, or its beginning."""
        if not data.startswith(_BEGINNING):
            return None
        text, _, body = data.partition(_END)
        try:
            head = self._heads[text]
        except KeyError:
            head = self._read(text)
        return Posted(head, body) if head is not None and len(body) <= head.length else None

    def _read(self, text: bytes) -> Head | None:
        head = self._head(text)
        if head is None or (head.key is None and head.trace is None):
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[text] = head
        return head

    def _head(self, text: bytes) -> Head | None:
        """What it says, if it is nothing unusual."""
        parser = HttpRequestParser(
            None,
            asyncio.get_running_loop(),
            _MOST,
            max_line_size=LINE,
            max_field_size=FIELD,
            max_headers=FIELDS,
        )
        try:
            ((message, _),), _, _ = parser.feed_data(text + _END)
        except (HttpProcessingError, ValueError):
            return None  # the application says what is wrong
        headers = message.headers
        length = headers.get("Content-Length", "0")
        if (
            message.should_close
            or message.upgrade
            or headers.get("Content-Type") != "application/json"
            or any(name in headers for name in _UNUSUAL)
            or not length.isdecimal()
            or not 0 < int(length) <= self._most
        ):
            return None
        return Head(
            int(length),
            self._guard.presented("POST", headers),
            headers.get("Idempotency-Key"),
            headers.get("traceparent"),
        )

    async def answer(self, posted: Posted) -> bytes:
        """The whole answer, as the application would give it."""
        began, head = time.perf_counter(), posted.head
        guest = self._guard.let_in(_ROUTE, head.presented)
        if isinstance(guest, web.Response):
            ready = readied(guest)
        else:
            try:
                ready = await self._posting.plain(posted.body, head.key, head.trace, guest)
            except Exception as error:
                ready = _told(error, guest)
            finally:
                self._guard.let_out(_ROUTE, guest)
        self._requests.answered("POST", _ROUTE.path, ready.status, time.perf_counter() - began)
        return ready.message


def _told(error: Exception, guest: Guest) -> Ready:
    refusal = fault(error)
    if refusal is INTERNAL:
        log.error("request failed", method="POST", path=_ROUTE.path, exc_info=error)
    response = refused(refusal)
    response.headers.update(guest.told)
    return readied(response)


class ExpressConnection(Connection):
    """A connection with an express lane, which is open while aiohttp has nothing: neither a part
    of a request nor an answer that is not sent."""

    def __init__(
        self, house: Connections, express: Express, server: web.Server, **options: Any
    ) -> None:
        super().__init__(house, server, **options)
        self._express = express
        self._open = True
        self._ahead = self._given = 0  # bytes that aiohttp was given since: the head, and all
        self._begun = b""  # a request whose body is still to come
        self._answering: asyncio.Task[None] | None = None
        self._held = b""  # what came before the answer was given

    def data_received(self, data: bytes) -> None:
        if not data:  # by which aiohttp goes on with what it has
            super().data_received(data)
        elif self._answering is not None:
            self._hold(data)
        elif self._open and not self.unwilling:
            self._begin(data)
        else:
            self._pass_on(data)

    def _begin(self, data: bytes) -> None:
        begun, self._begun = self._begun, b""
        data = begun + data
        posted = self._express.posted(data)
        if posted is None:
            self._pass_on(data)
        elif len(posted.body) == posted.head.length:
            self.begin(None)
            self._answering = asyncio.create_task(self._answer(posted))
        elif not begun:
            self.arriving()  # many send the head by itself
            self._begun = data
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self._open:
            self._open, self._given, self._ahead = False, 0, data.find(_END) + len(_END)
        self._given += len(data)
        super().data_received(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if self.transport is not None:
            self.transport.pause_reading()

    async def _answer(self, posted: Posted) -> None:
        try:
            answer = await self._express.answer(posted)
            if self.transport is not None:
                self.transport.write(answer)
        finally:
            self.end()
            self._answering = None
        if self._held and self.transport is not None:
            held, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(held)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As aiohttp's, which has nothing left if it was given one head and its body."""
        finished = await super().finish_response(request, resp, start_time)
        whole = self._ahead + (request.content_length or 0)
        self._open = self._ahead >= len(_END) and self._given == whole and request.content.is_eof()
        self._ahead = 0
        return finished

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """As aiohttp's; what is being answered is answered first."""
        if self._answering is not None:
            await asyncio.wait([self._answering], timeout=timeout)
        await super().shutdown(timeout)
