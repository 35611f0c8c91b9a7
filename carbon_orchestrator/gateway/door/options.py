"""OPTIONS of every path, and which sites' pages a browser lets read the answers (the CORS of the
Fetch standard): none, unless the operator names them."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.gateway.door.access import presented_key
from carbon_orchestrator.gateway.door.negotiation import vary
from carbon_orchestrator.gateway.routes import ROUTES

_EXPOSED = (
    "ETag, Location, Retry-After, WWW-Authenticate, Carbon-Log-Offset, RateLimit, RateLimit-Policy"
)
_HEADERS = (
    "Authorization, X-API-Key, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID,"
    " traceparent"
)
_SECONDS = "600"  # for which a browser need not ask again


def allowed_methods(path: str) -> str:
    """The value of `Allow` for a route's path."""
    methods = {each.method for each in ROUTES if each.path == path}
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


class Options:
    """Answers OPTIONS, and tells browsers which sites' pages may use the gateway. `origins`: such
    as https://grid.example, exactly; none: no other site's."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def _answer(self, path: str) -> Handler:
        allow = allowed_methods(path)

        async def options(request: web.Request) -> web.Response:
            headers = {"Allow": allow}
            if self._named(request) and "Access-Control-Request-Method" in request.headers:
                headers["Access-Control-Allow-Methods"] = allow
                headers["Access-Control-Allow-Headers"] = _HEADERS
                headers["Access-Control-Max-Age"] = _SECONDS
            return web.Response(status=204, headers=headers)

        return options

    def _named(self, request: web.BaseRequest) -> bool:
        return request.headers.get("Origin") in self._origins

    async def _tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Before any answer begins, also one that goes on: who may read it."""
        headers = response.headers
        headers["Vary"] = vary(headers, "Origin")
        # That somebody without a key is on this machine is no reason to show a page what is here.
        keyed = presented_key(request.headers) is not None
        if self._named(request) and (
            keyed or request.method == "OPTIONS" or response.status in (401, 403)
        ):
            headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            headers["Access-Control-Expose-Headers"] = _EXPOSED

    def install(self, app: web.Application) -> None:
        """Nothing is said to anybody where no site is named."""
        for template, path in dict.fromkeys((each.template, each.path) for each in ROUTES):
            app.router.add_route("OPTIONS", template, self._answer(path))
        if self._origins:
            app.on_response_prepare.append(self._tell)
