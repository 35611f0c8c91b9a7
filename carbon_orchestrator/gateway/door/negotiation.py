"""What HTTP offers of any answer: not sent again to who has it already, and compressed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from hashlib import sha256

from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.gateway.door.guard import route_of
from carbon_orchestrator.gateway.routes import Route

#: Smaller bodies gain nothing; larger ones are compressed on a thread, bytes.
_LEAST, _INLINE = 1024, 64 << 10
_LEVEL = 5
_TEXTS = ("application/", "text/")


def matches(if_none_match: str, tag: str) -> bool:
    """Whether an `If-None-Match` names this weak tag, or any (RFC 9110, section 13.1.2)."""
    given = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return "*" in given or tag.removeprefix("W/") in given


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` allows gzip (RFC 9110, section 12.5.3)."""
    quality: dict[str, float] = {}
    for each in accept_encoding.lower().split(","):
        coding, _, parameter = each.partition(";")
        name, _, value = parameter.partition("=")
        try:
            quality[coding.strip()] = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            quality[coding.strip()] = 0.0
    return quality.get("gzip", quality.get("*", 0.0)) > 0


def vary(headers: Mapping[str, str], *names: str) -> str:
    """The value of `Vary` with these names besides those that are there."""
    if (given := headers.get("Vary")) is None:
        return ", ".join(names)
    there = [each.strip() for each in given.split(",") if each.strip()]
    known = {each.lower() for each in there}
    return ", ".join([*there, *(each for each in names if each.lower() not in known)])


@web.middleware
async def negotiated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers GET and HEAD with a tag and 304 where the route asks for it, and compressed where
    the client does."""
    response = await handler(request)
    if request.method not in ("GET", "HEAD") or not isinstance(response, web.Response):
        return response
    body = response.body
    if not isinstance(body, bytes):
        return response
    route = route_of(request)
    if route is not None and route.polled and response.status == 200:
        unchanged = _tagged(request, response, route, body)
        if unchanged is not None:
            return unchanged
    if len(body) > _LEAST and response.content_type.startswith(_TEXTS):
        await _compressed(request, response, body)
    return response


def _tagged(
    request: web.Request, response: web.Response, route: Route, body: bytes
) -> web.Response | None:
    """Give the answer a tag; a 304 if that is what the client has."""
    headers = response.headers
    # Weak, for it stays the same when the body is compressed.
    headers["ETag"] = tag = f'W/"{sha256(body, usedforsecurity=False).hexdigest()[:18]}"'
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "private, no-cache" if route.scopes else "no-cache"
    if route.scopes:
        headers["Vary"] = vary(headers, "Authorization", "X-API-Key")
    given = request.headers.get("If-None-Match")
    if given is None or not matches(given, tag):
        return None
    if len(body) > _LEAST:
        headers["Vary"] = vary(headers, "Accept-Encoding")
    kept = {name: value for name, value in headers.items() if name != "Content-Type"}
    return web.Response(status=304, headers=kept)


async def _compressed(request: web.Request, response: web.Response, body: bytes) -> None:
    headers = response.headers
    if "Content-Encoding" in headers:
        return
    headers["Vary"] = vary(headers, "Accept-Encoding")
    if not takes_gzip(request.headers.get("Accept-Encoding", "")):
        return
    if len(body) > _INLINE:
        packed = await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)
    else:
        packed = gzip.compress(body, _LEVEL, mtime=0)
    response.body = packed
    headers["Content-Encoding"] = "gzip"
