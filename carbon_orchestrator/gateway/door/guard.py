"""The door of the gateway: who comes in, how often, and how many at a time."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Limits
from carbon_orchestrator.gateway.door.access import (
    Caller,
    Refusal,
    is_loopback,
    presented_key,
    stranger,
)
from carbon_orchestrator.gateway.door.connections import Connection
from carbon_orchestrator.gateway.door.exposed import Exposed
from carbon_orchestrator.gateway.door.keyring import Keyring
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.door.limits import Rates
from carbon_orchestrator.gateway.intake.outcome import Refused
from carbon_orchestrator.gateway.problems import problem, refused, unavailable
from carbon_orchestrator.gateway.routes import BY_PATH, Route
from streams.stop import Stop

log = structlog.get_logger(__name__)

_CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
_OVER: web.RequestKey[Stop] = web.RequestKey("over", Stop)
_NOBODY = Caller(name="", allowed=frozenset())
_LOOPBACK = Caller()
_KEY_NEEDED = Refusal(
    401, "key-needed", "send an API key in a header: Authorization: Bearer co_..."
)
_NOTHING: Mapping[str, str] = {}
_REALM = 'Bearer realm="carbon-orchestrator"'


def caller(request: web.Request) -> Caller:
    """Who asks, once the guard has let them in."""
    return request[_CALLER]


def route_of(request: web.Request) -> Route | None:
    """The route that answers; None where there is none, and of OPTIONS."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return BY_PATH.get((method, resource.canonical))


def over(request: web.Request) -> Stop:
    """Of a request whose answer may go on for hours (Route.long): set when the client is gone,
    when its key opens nothing any more, or when the gateway stops."""
    return request[_OVER]


def denied(refusal: Refusal) -> web.Response:
    """A refusal as a response."""
    headers = None
    if refusal.status == 401:
        error = ', error="invalid_token"' if refusal.kind == "invalid-key" else ""
        headers = {"WWW-Authenticate": _REALM + error}
    return problem(refusal.status, refusal.kind, refusal.detail, headers=headers)


def _too_many(detail: str, headers: dict[str, str]) -> web.Response:
    return problem(429, "too-many-requests", detail, headers=headers)


def missing(*scopes: str) -> Refused:
    """403 for a key that has none of these scopes."""
    challenge = f'{_REALM}, error="insufficient_scope", scope="{" ".join(scopes)}"'
    return Refused(
        status=403,
        kind="scope-missing",
        detail=f"this API key needs the scope {' or '.join(scopes)}",
        more={"scopes": scopes},
        headers={"WWW-Authenticate": challenge},
    )


class Presented(NamedTuple):
    """What a request's headers say of who asks: a key, or why nobody comes in without one, if
    that is so."""

    key: str | None
    refusal: Refusal | None


class Guest(NamedTuple):
    """A request that was let in: who asks, and what headers the answer is to have besides."""

    caller: Caller
    told: Mapping[str, str]


@lru_cache(maxsize=1024)
def _holder(key_id: str, key: ApiKey) -> Caller:
    return Caller(name=key.name, key_id=key_id, allowed=key.allowed, project=key.project)


class Places:
    """How many requests of a kind are worked on; of one key at most half of all there may be."""

    def __init__(self, limit: int, what: str) -> None:
        self.limit, self.what = limit, what
        self.taken = 0
        self.of_key: Counter[str] = Counter()
        self.most_of_key = max(1, limit // 2)


class Guard:
    """Lets requests in, or says why not. `require_keys`: from loopback, too; `insecure`: nobody
    needs a key, wherever the gateway listens; `hosts`: but has to call it by one of these names."""

    def __init__(
        self,
        keyring: Keyring,
        limits: Limits,
        host: str,
        *,
        require_keys: bool,
        insecure: bool,
        hosts: Collection[str] = (),
    ) -> None:
        self._keyring = keyring
        self._limits = limits
        self._only_loopback = is_loopback(host)
        self._open = insecure or (self._only_loopback and not require_keys)
        self._insecure = insecure
        self._hosts = hosts
        self._host = host
        self._rates = Rates(limits.rate, limits.burst, time.monotonic)
        self._requests = Places(limits.requests, "requests")
        self._long = Places(limits.live, "long-lived answers")
        self._going_on: dict[Stop, str | None] = {}  # with whose key
        self._stopping = False

    def check(self) -> None:
        """Raises Exposed where others could reach the gateway and there is no key that they could
        have; warns where they need none."""
        if self._only_loopback:
            return
        if self._insecure:
            log.warning(
                "INSECURE: everybody who can reach this address may submit, see and cancel jobs",
                host=self._host,
            )
        elif not self._keyring.usable:
            raise Exposed(
                f"refusing to listen on {self._host}: there is no API key yet, so nobody could"
                " use it; make one with `carbon-orchestrator keys create NAME --scope submit"
                " --scope read`, or let everybody in with --insecure"
            )

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Asks for a key where one is needed, counts the request, and passes it on."""
        route = route_of(request)
        if route is None:
            return await handler(request)  # which says 404 or 405
        guest = self.let_in(route, self.presented(request.method, request.headers))
        if isinstance(guest, web.Response):
            return guest
        request[_CALLER] = guest.caller
        if route.long:
            handler = partial(self._until_over, handler, guest.caller.key_id)
        try:
            response = await handler(request)
        finally:
            self.let_out(route, guest)
        response.headers.update(guest.told)
        return response

    def presented(self, method: str, headers: Mapping[str, str]) -> Presented:
        """The same of the same headers, each time."""
        key = presented_key(headers)
        if key is not None:
            return Presented(key, None)
        if not self._open:
            return Presented(None, _KEY_NEEDED)
        only = self._only_loopback
        return Presented(None, stranger(method, headers, only_loopback=only, hosts=self._hosts))

    def let_in(self, route: Route, presented: Presented) -> Guest | web.Response:
        """Whoever may come in, and has a place until `let_out`; or why nobody does."""
        places = self._long if route.long else self._requests
        if not route.always and places.taken >= places.limit:
            return unavailable(f"{places.limit} {places.what} are being worked on already")
        known = self._who(presented)
        if isinstance(known, Refusal):
            if route.scopes:
                return denied(known)
            known = _NOBODY
        if route.scopes and known.allowed.isdisjoint(route.scopes):
            return refused(missing(*route.scopes))
        if known.project is not None and not route.bound:
            return problem(
                403,
                "project-bound",
                f"this API key is bound to the project {known.project}: it sees that project's"
                " /jobs and /emissions, and nothing that is about all projects",
            )
        if known.key_id is None:
            places.taken += 1
            return Guest(known, _NOTHING)
        grant = self._rates.take(known.key_id)
        told = self._rates.headers(grant)
        if not grant.allowed:
            wait = str(max(1, math.ceil(grant.wait)))
            detail = f"this API key may make {self._limits.rate:g} requests a second"
            return _too_many(detail, {"Retry-After": wait, **told})
        if places.of_key[known.key_id] >= places.most_of_key:
            detail = f"{places.most_of_key} {places.what} of this API key are being worked on"
            return _too_many(f"{detail} already", {"Retry-After": "1", **told})
        places.taken += 1
        places.of_key[known.key_id] += 1
        return Guest(known, told)

    def let_out(self, route: Route, guest: Guest) -> None:
        """The request is answered."""
        places, key_id = self._long if route.long else self._requests, guest.caller.key_id
        places.taken -= 1
        if key_id is not None:
            places.of_key[key_id] -= 1
            if not places.of_key[key_id]:
                del places.of_key[key_id]

    async def _until_over(
        self, handler: Handler, key_id: str | None, request: web.Request
    ) -> web.StreamResponse:
        request[_OVER] = stop = Stop()
        if self._stopping:
            stop.set()
        self._going_on[stop] = key_id
        if isinstance(request.protocol, Connection):
            request.protocol.over = stop
        try:
            return await handler(request)
        finally:
            del self._going_on[stop]

    def end_long(self) -> None:
        """End the answers that go on: the gateway stops."""
        self._stopping = True
        for each in list(self._going_on):
            each.set()

    def _who(self, presented: Presented) -> Caller | Refusal:
        if presented.key is None:
            return presented.refusal or _LOOPBACK
        key_id = self._keyring.identify(presented.key)
        if key_id is None:
            return Refusal(401, "invalid-key", "no API key of ours, or expired or revoked")
        return _holder(key_id, self._keyring.keys[key_id])

    def forget(self) -> None:
        """Drop what is counted of keys that are gone, and end what goes on with such a key."""
        keys, now = self._keyring.keys, wall_ms()
        self._rates.keep(keys)
        for stop, key_id in list(self._going_on.items()):
            if key_id is not None and not (key_id in keys and keys[key_id].usable(now)):
                stop.set()
