"""Answers that are bytes already, head and all: most of what aiohttp does for an answer is putting
together headers that are the same each time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE


class Ready(web.StreamResponse):
    """Is sent as it is; the connection stays open. For requests of HTTP/1.1 that ask for no other
    (`Connection: close`)."""

    def __init__(self, status: int, message: bytes) -> None:
        super().__init__(status=status)
        self._message = message
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        if self._writer is not None:
            await self._writer.write(self._message + data)
            self._writer = None


def json_answer(status: int, headers: Mapping[str, str], body: bytes) -> Ready:
    """An answer in JSON. `headers`: of our own making only, as nobody looks at their values."""
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"{_head(status, int(time.time()))}{own}Content-Length: {len(body)}\r\n\r\n"
    return Ready(status, head.encode() + body)


@lru_cache(maxsize=16)
def _head(status: int, second: int) -> str:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: application/json\r\n"
        f"Date: {formatdate(second, usegmt=True)}\r\n"
        f"Server: {SERVER_SOFTWARE}\r\n"
    )
