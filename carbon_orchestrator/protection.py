"""Who can reach the stream server, and how: facts gathered, and judgements of them, pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from carbon_orchestrator.doctor import Check
from carbon_orchestrator.server_url import is_loopback, without_login
from streams.connection import connect
from streams.errors import Refused

_ACL = "give each role its own: carbon-orchestrator doctor --acl --passwords FILE"
_PROBE_SECONDS = 5.0


class Protection(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; None where it is not told.

    `local`: we reach it on this machine; `tls`, `checked`: encrypted, and its certificate and
    name are checked; `anybody`: it answers without a login; `user`: who we are there; `bind`:
    the addresses that it listens on; `protected`: its protected mode.
    """

    local: bool = True
    tls: bool = False
    checked: bool = True
    anybody: bool | None = None
    user: str | None = None
    bind: str | None = None
    protected: bool | None = None

    @property
    def listens_locally(self) -> bool | None:
        if self.bind is None:
            return None
        addresses = [each.lstrip("-") for each in self.bind.split()]
        return bool(addresses) and all(
            each.startswith("127.") or each in ("::1", "localhost") for each in addresses
        )


def examine(found: Protection) -> list[Check]:
    """Every check."""
    return [login(found), encryption(found)]


def login(found: Protection) -> Check:
    """Whether somebody else could read and write everything."""
    name = "login"
    if found.anybody is None:
        return Check(name, "unknown", "it is not known whether it answers without a login", _ACL)
    if not found.anybody:
        if found.user == "default" and not found.local:
            detail = "asked for, but all share the default user, who may do anything"
            return Check(name, "warn", detail, _ACL)
        who = f", we are {found.user}" if found.user else ""
        return Check(name, "ok", f"asked for{who}")
    if found.listens_locally:
        return Check(name, "ok", "none, but it listens on this machine only")
    if found.local and found.protected:
        return Check(name, "ok", "none, but its protected mode refuses other machines")
    if found.local and found.bind is None:
        detail = "none, and where it listens is not told"
        return Check(name, "unknown", detail, "let this user run CONFIG GET, or see its `bind`")
    detail = "none: whoever reaches it may read, change and delete everything"
    return Check(name, "warn", detail, f"{_ACL}; or set `bind 127.0.0.1`")


def encryption(found: Protection) -> Check:
    """Whether passwords and jobs can be read, or answers forged, on the way."""
    name = "encryption"
    if found.tls and found.checked:
        return Check(name, "ok", "TLS, the server's certificate is checked")
    if found.tls:
        detail = "TLS, but the server's certificate or name is not checked: it may be anybody's"
        return Check(name, "warn", detail, "name its authority as $CARBON_REDIS_CA instead")
    if found.local:
        return Check(name, "ok", "none needed: it is on this machine")
    detail = "none: passwords and jobs cross the network in the clear"
    return Check(name, "warn", detail, "set `tls-port` on the server, and use rediss://")


async def gather(redis: Redis, url: str) -> Protection:
    """Ask the server at `url`, to which `redis` is connected. Raises its connection errors."""
    parts = urlsplit(url)
    query = {name: values[-1].lower() for name, values in parse_qs(parts.query).items()}
    unchecked = query.get("ssl_cert_reqs") in ("none", "optional") or query.get(
        "ssl_check_hostname", "true"
    ) in ("false", "0", "no", "f", "n")
    settings: Mapping[str, Any] = await _told(redis.config_get("bind", "protected-mode")) or {}
    user = await _told(redis.acl_whoami())
    return Protection(
        local=is_loopback(url),
        tls=parts.scheme.startswith("rediss"),
        checked=not unchecked,
        anybody=await _answers_anybody(url),
        user=user.decode() if isinstance(user, bytes) else user,
        bind=settings.get("bind"),
        protected=None if "protected-mode" not in settings else settings["protected-mode"] == "yes",
    )


async def _told(answer: Any) -> Any:
    """The answer, or None where the server forbids or does not know the question."""
    try:
        return await answer
    except (redis_errors.ResponseError, Refused):
        return None


async def _answers_anybody(url: str) -> bool | None:
    stranger = connect(without_login(url), timeout=_PROBE_SECONDS)
    try:
        return bool(await stranger.ping())
    except Refused:
        return False
    except (redis_errors.RedisError, OSError):
        return None
    finally:
        await stranger.aclose()
