"""Connections to the server, set up so that nothing is sent twice behind our back."""

from __future__ import annotations

from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

log = structlog.get_logger(__name__)

#: A command that takes longer is taken for lost. Blocking reads must stay well below it.
SOCKET_TIMEOUT = 10.0
#: The longest a reader blocks in one command, in milliseconds.
BLOCK_MS = 2000

_RAW_REPLIES = ("XREADGROUP", "XREAD", "XRANGE", "XREVRANGE", "XAUTOCLAIM", "XCLAIM", "XPENDING")


def connect(url: str, *, timeout: float = SOCKET_TIMEOUT) -> Redis:
    """A client with one connection of its own.

    No automatic retry: redis-py's default resends a write whose reply was lost, which would
    publish it twice. Whoever may safely send again does so in his own loop. Replies of the
    stream commands come raw (flat lists of bytes).
    """
    client: Redis = Redis.from_url(
        url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 5.0),
        socket_keepalive=True,
        single_connection_client=True,
        protocol=2,
    )
    for command in _RAW_REPLIES:
        client.response_callbacks[command] = _raw  # type: ignore[assignment]
    return client


def _raw(reply: Any, **_: Any) -> Any:
    return reply
