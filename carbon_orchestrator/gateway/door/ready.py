"""Answers that are bytes already, head and all: most of what aiohttp does for an answer is putting
together headers that are the same each time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE


class Ready(NamedTuple):
    """An answer of HTTP/1.1 after which the connection stays open."""

    status: int
    message: bytes


def ready(
    status: int, headers: Mapping[str, str], body: bytes, *, location: str | None = None
) -> Ready:
    """An answer. `headers`, `location`: of our own making only, as nobody looks at the values."""
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if location is not None:
        own = f"{own}Location: {location}\r\n"
    head = f"{_head(status, int(time.time()))}{own}Content-Length: {len(body)}\r\n\r\n"
    return Ready(status, head.encode() + body)


def readied(response: web.Response) -> Ready:
    """The same of a response that nobody has begun to send."""
    body = response.body
    return ready(response.status, response.headers, body if isinstance(body, bytes) else b"")


@lru_cache(maxsize=16)
def _head(status: int, second: int) -> str:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n"
        f"Server: {SERVER_SOFTWARE}\r\n"
    )
