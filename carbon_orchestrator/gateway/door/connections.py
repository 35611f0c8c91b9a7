"""Connections, and the end of those that take too long: aiohttp itself waits for a request's
headers as long as for the next request, and for its body and its reader for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal, cast

import structlog
from aiohttp import web
from aiohttp.streams import StreamReader

from carbon_orchestrator.config import Limits
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.gateway.problems import problem, problem_body
from streams.stop import Stop

log = structlog.get_logger(__name__)

#: Longer request lines and headers than any client of ours sends; bytes.
LINE, FIELD, FIELDS = 8190, 8190, 64
#: A connection that has so long been sending headers gives way when there are too many, seconds.
_PATIENCE = 1.0
_LINGER_SECONDS = 2.0

Phase = Literal["idle", "headers", "request"]
#: Why a connection was ended, or not taken.
Ended = Literal["idle", "too-slow", "crowded-out", "refused"]


class Connection(web.RequestHandler):
    """One connection: what it is at, since when, and whether it is too slow at it."""

    def __init__(self, house: Connections, server: web.Server, **options: Any) -> None:
        self._now = asyncio.get_running_loop().time
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self.house = house
        self.phase: Phase = "idle"
        self.since = self._now()
        self._received = 0
        self._content: StreamReader | None = None
        self._blocked: tuple[float, int] | None = None  # since when, with how many bytes unsent
        self._refused = self._closing = False
        self._wire: asyncio.Transport | None = None  # also once aiohttp has let go of it
        self.over: Stop | None = None  # of an answer that goes on

    # -- the phases ------------------------------------------------------------------------------

    def arriving(self) -> None:
        """A part of a request is there."""
        self.phase, self.since = "headers", self._now()

    def begin(self, content: StreamReader | None) -> None:
        """The headers are there, and the body is to come, unless it is there already (None)."""
        self.phase, self.since, self._content, self._received = "request", self._now(), content, 0

    def end(self) -> None:
        """The request is answered, though the answer may still be on its way."""
        self.phase, self.since, self._content = "idle", self._now(), None
        self.over = None

    @property
    def unwilling(self) -> bool:
        """Whether nothing more is to be taken: it is to end, or the other side does not read."""
        return self._refused or self._closing or self._blocked is not None

    def overdue(self, now: float, limits: Limits) -> Ended | None:
        """Why it is to be ended, if the other side has had its time."""
        patience = seconds(limits.header_timeout)
        if self._blocked is not None and self.transport is not None:
            since, unsent = self._blocked
            sent = max(0, unsent - self.transport.get_write_buffer_size())
            return "too-slow" if now - since > patience + sent / limits.body_rate else None
        spent = now - self.since
        if self.phase == "idle":
            return "idle" if spent > seconds(limits.idle_timeout) else None
        if self.phase == "request":
            if self._content is None or self._content.is_eof():
                return None  # it is our turn
            patience += self._received / limits.body_rate
        return "too-slow" if spent > patience else None

    def cut_off(self) -> None:
        """End it; who is still sending a request is told why."""
        if self._wire is None:
            return
        if self.transport is None or self.phase == "idle" or self._blocked is not None:
            self._wire.abort()
        else:
            self._say(408, "too-slow", "the request took too long to arrive")

    def refuse(self, transport: asyncio.Transport) -> None:
        """Say that there are too many connections, and close it."""
        self._refused, self.transport, self._wire = True, transport, transport
        self._say(503, "too-many-connections", "try again in a second")

    def _say(self, status: int, kind: str, detail: str) -> None:
        assert self.transport is not None
        body = problem_body(status, kind, detail)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        # Which waits for ever for one who does not read.
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.transport.abort)

    # -- asyncio's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        if self.house.admit(self):
            self._wire = wire
            super().connection_made(transport)
        else:
            self.refuse(wire)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.house.lose(self)
        if self.over is not None:
            self.over.set()
        if self._refused:
            self.transport = None
        else:
            super().connection_lost(exc)

    def close(self) -> None:
        self._closing = True
        super().close()

    def force_close(self) -> None:
        self._closing = True
        super().force_close()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if data:  # aiohttp calls this itself to go on with what it has
            if self.phase == "idle":
                self.arriving()
            self._received += len(data)
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._blocked = (self._now(), self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._blocked = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, or too long, is neither logged nor sent back: there may be a key in
        it. A fault of ours, outside of what answers requests, is logged. Raises ConnectionError,
        which ends the connection, where an answer is on its way."""
        if request.writer.output_size:
            raise ConnectionResetError("the answer is broken off") from exc
        if status >= 500:
            log.error("answering failed", exc_info=exc)
            response = problem(status, "internal-error", "an error on our side; it has been logged")
        else:
            what = type(exc).__name__
            log.debug("not a request", error=what)
            response = problem(
                status, "bad-request", f"not a request that this server takes: {what}"
            )
        response.force_close()
        return response


class Connections:
    """All connections of one gateway: so many at most, and none that takes too long. `ended` is
    told of each that it ends."""

    def __init__(self, limits: Limits, ended: Callable[[Ended], None]) -> None:
        self._limits = limits
        self._ended = ended
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Take one more in; where there are too many, one that does nothing gives way."""
        if len(self._open) >= self._limits.connections:
            now = asyncio.get_running_loop().time()
            waiting = [each for each in self._open if each.phase == "idle"] or [
                each
                for each in self._open
                if each.phase == "headers" and now - each.since > _PATIENCE
            ]
            if not waiting:
                self._ended("refused")
                return False
            self._cut_off(min(waiting, key=lambda each: each.since), "crowded-out")
        self._open.add(connection)
        return True

    def lose(self, connection: Connection) -> None:
        self._open.discard(connection)

    def _cut_off(self, connection: Connection, why: Ended) -> None:
        self._ended(why)
        self._open.discard(connection)
        connection.cut_off()

    async def watch(self, stop: Stop) -> None:
        """End those that are too slow, until the stop."""
        shortest = min(seconds(self._limits.header_timeout), seconds(self._limits.idle_timeout))
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            now = loop.time()
            for each in list(self._open):
                if (why := each.overdue(now, self._limits)) is not None:
                    self._cut_off(each, why)
            await stop.sleep(min(1.0, shortest / 4))


class Site(web.BaseSite):
    """Where a gateway listens. `connection`: makes what aiohttp calls a protocol, of a server and
    options."""

    def __init__(
        self,
        runner: web.AppRunner,
        connection: Callable[..., Connection],
        limits: Limits,
        host: str,
        port: int,
    ) -> None:
        super().__init__(runner, backlog=1024)
        self._connection, self._host, self._port = connection, host, port
        self._options = {
            "keepalive_timeout": seconds(limits.idle_timeout),
            "max_line_size": LINE,
            "max_field_size": FIELD,
            "max_headers": FIELDS,
            "lingering_time": _LINGER_SECONDS,
            "access_log": None,
        }

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await super().start()
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._connection(server, **self._options),
            self._host,
            self._port,
            backlog=self._backlog,
        )
