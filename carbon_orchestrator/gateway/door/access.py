"""Who may do what over HTTP. Pure: from a request's headers to a caller or a refusal.

A request with a key is judged by the key alone. One without is let in where the gateway listens
on loopback only, as whoever can run a program on this machine can read the stream server as well.
That is not so of a web page in a browser on this machine, nor of what a proxy passes on, so such
a request must name a loopback host, come from no other site, and not say that it was forwarded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import ip_address

import msgspec
from multidict import istr
from yarl import URL

from carbon_orchestrator.gateway.door.keys import SCOPES, Scope

_FORWARDED = tuple(
    map(istr, ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"))
)
_READING = ("GET", "HEAD", "OPTIONS")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `key_id`: None for somebody without a key; `project`: the only one there is for
    them, None for all."""

    name: str = "loopback"
    key_id: str | None = None
    allowed: frozenset[Scope] = frozenset(SCOPES)
    project: str | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.allowed

    def sees(self, project: str) -> bool:
        """Whether what belongs to the project is there for them at all."""
        return self.project is None or self.project == project


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not answered: a status, the last part of its problem type, and words."""

    status: int
    kind: str
    detail: str


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine seen from itself only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key in `Authorization: Bearer`, else in `X-API-Key`; None if neither header is there,
    "" if only another kind of authorization is."""
    authorization = headers.get("Authorization")
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("X-API-Key", None if authorization is None else "")


def stranger(
    method: str,
    headers: Mapping[str, str],
    *,
    only_loopback: bool,
    hosts: Collection[str] = (),
) -> Refusal | None:
    """Why somebody without a key is not let in where such are. `only_loopback`: the gateway
    listens on loopback, so that nobody else comes unless through a browser or a proxy. `hosts`:
    the names that it may be called by elsewhere; none: any."""
    if only_loopback:
        for name in _FORWARDED:
            if name in headers:
                return Refusal(
                    401, "key-needed", "this request came through a proxy, so it needs an API key"
                )
        if not _names_loopback(headers.get("Host", "")):
            return Refusal(
                403,
                "foreign-host",
                "without an API key, call this gateway by a loopback name such as 127.0.0.1",
            )
    elif hosts and _host_of(headers.get("Host", "")) not in hosts:
        return Refusal(
            403,
            "foreign-host",
            f"without an API key, call this gateway by one of its names: {', '.join(hosts)}",
        )
    if method not in _READING and _from_elsewhere(headers):
        return Refusal(
            403, "cross-site", "a page of another site may not do this; send an API key instead"
        )
    return None


@lru_cache(maxsize=64)
def _names_loopback(header: str) -> bool:
    """Whether a Host header names this machine seen from itself; there is none in HTTP/1.0."""
    return not header or is_loopback(_host_of(header))


@lru_cache(maxsize=64)
def _host_of(header: str) -> str:
    """The name or address in a Host header, without the port; "" where there is none."""
    try:
        return URL(f"//{header}").host or ""
    except ValueError:
        return ""


def _from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that the request was made by another site's page."""
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != headers.get("Host")
