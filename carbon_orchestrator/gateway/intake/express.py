"""The express lane: one job by `POST /jobs`, which is nearly all that a busy gateway is asked, is
answered ahead of the application, whose ways through routes, middlewares and headers take longer
than all else of it. Whatever is out of the ordinary goes on to the application."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from multidict import istr

from carbon_orchestrator.gateway.door.guard import Guard
from carbon_orchestrator.gateway.door.measuring import Measuring
from carbon_orchestrator.gateway.intake.posting import Posting
from carbon_orchestrator.gateway.problems import told
from carbon_orchestrator.gateway.routes import BY_PATH

_ROUTE = BY_PATH["POST", "/jobs"]
_TYPE = istr("Content-Type")
#: The application knows what these ask for.
_ORIGIN, _EXPECT = istr("Origin"), istr("Expect")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Express:
    """Stands before `application`. `max_body`: bytes."""

    def __init__(
        self,
        application: Handler,
        guard: Guard,
        posting: Posting,
        measuring: Measuring,
        max_body: int,
    ) -> None:
        self._application = application
        self._guard = guard
        self._posting = posting
        self._measuring = measuring
        self._max_body = max_body

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer, of whichever."""
        if not self._takes(request):
            return await self._application(request)
        began = time.perf_counter()
        self._measuring.begin(request)
        try:
            response = await self._answer(request)
        finally:
            self._measuring.end(request)
        self._measuring.answered("POST", _ROUTE.path, response.status, began)
        return response

    def _takes(self, request: web.BaseRequest) -> bool:
        """Whether it is a job in JSON that has arrived whole, by HTTP as most speak it."""
        if request.method != "POST" or request.raw_path != "/jobs":
            return False
        headers, content = request.headers, request.content
        return (
            headers.get(_TYPE) == "application/json"
            and content.is_eof()
            and content.total_bytes <= self._max_body
            and request.keep_alive
            and request.version == (1, 1)
            and _ORIGIN not in headers
            and _EXPECT not in headers
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        guest = self._guard.let_in(_ROUTE, "POST", request.headers)
        if isinstance(guest, web.Response):
            return guest
        try:
            body = request.content.read_nowait()
            return await self._posting.plain(body, request.headers, guest)
        except Exception as error:
            response = told(request, error)
            response.headers.update(guest.told)
            return response
        finally:
            self._guard.let_out(_ROUTE, guest)
