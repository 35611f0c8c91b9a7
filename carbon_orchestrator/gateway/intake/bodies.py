"""Large bodies: received whole or not at all, in a bounded time and a bounded memory, and worked on
a stretch at a time, so that neither other requests nor other large bodies wait for all of one."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.intake.outcome import Refused, unable

#: Bodies of the largest size that there is memory for, in all; for those of one key half of it.
_BODIES = 4
_RECEIVE_SECONDS = 60.0
#: What is read at a stretch: so many parts, or, where one is larger than that, so many bytes.
_PARTS, _BYTES = 200, 128 << 10
#: Stretches, of all bodies together, that are worked on at a time.
_STRETCHES = 8


def stretches(parts: Sequence[tuple[int, bytes]]) -> Iterator[Sequence[tuple[int, bytes]]]:
    """The numbered parts of a body, as many at a time as are to be read at a stretch."""
    for start in range(0, len(parts), _PARTS):
        some = parts[start : start + _PARTS]
        first = size = 0
        for place, (_, part) in enumerate(some):
            if place > first and size + len(part) > _BYTES:
                yield some[first:place]
                first, size = place, 0
            size += len(part)
        yield some[first:]


class Memory:
    """What bodies take up, in bytes, while they are received and worked on."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str | None] = Counter()

    def take(self, key_id: str | None, size: int) -> bool:
        """Whether there is so much, for this key; then it is taken."""
        own = self._most if key_id is None else self._most // 2
        if self._taken[key_id] + size > own or self._taken.total() + size > self._most:
            return False
        self._taken[key_id] += size
        return True

    def give_back(self, key_id: str | None, size: int) -> None:
        self._taken[key_id] -= size
        if not self._taken[key_id]:
            del self._taken[key_id]


class Bodies:
    """Receives bodies of at most `most` bytes. `places`: one for each stretch; who waited longest
    has the next."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.places = asyncio.Semaphore(_STRETCHES)
        self._memory = Memory(_BODIES * most)

    @asynccontextmanager
    async def received(
        self, request: web.Request, asking: Caller
    ) -> AsyncIterator[bytes | Refused]:
        """The body, or why it is not taken; its memory is given back at the end."""
        body = io.BytesIO()  # which gives what it holds without a copy
        try:
            yield await self._receive(request, asking, body)
        finally:
            self._memory.give_back(asking.key_id, body.tell())

    async def _receive(
        self, request: web.Request, asking: Caller, body: io.BytesIO
    ) -> bytes | Refused:
        try:
            async with asyncio.timeout(_RECEIVE_SECONDS):
                while part := await request.content.readany():
                    if body.tell() + len(part) > self._most:
                        detail = f"the body is over {self._most} bytes; send less at a time"
                        return Refused(status=413, kind="body-too-large", detail=detail)
                    if not self._memory.take(asking.key_id, len(part)):
                        return unable("too much is being submitted at once")
                    body.write(part)
        except TimeoutError:
            detail = f"the body did not arrive in {_RECEIVE_SECONDS:g} s; send less at a time"
            return Refused(status=408, kind="too-slow", detail=detail)
        return body.getvalue()
