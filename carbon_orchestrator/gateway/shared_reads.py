"""Reads of many requests in one round trip: sending a command costs more than all else of it."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

_MOST = 200  # in one round trip


class SharedReads:
    """Reads hashes. What is asked for while a round trip is under way goes together in the next;
    one at a time, so there are never more under way than there are requests."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: list[tuple[str, asyncio.Future[dict[bytes, bytes]]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """All fields of a hash; raises what the command raises."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        found: dict[bytes, bytes] = await future
        return found

    async def _read(self) -> None:
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                rows: list[Any]
                try:
                    async with self._redis.pipeline(transaction=False) as pipeline:
                        for key, _ in some:
                            pipeline.hgetall(key)
                        rows = await pipeline.execute(raise_on_error=False)
                except Exception as error:
                    rows = [error] * len(some)
                for (_, future), row in zip(some, rows, strict=True):
                    if future.done():
                        continue  # whoever asked has gone
                    if isinstance(row, Exception):
                        future.set_exception(row)
                    else:
                        future.set_result(row)
        finally:
            self._reader = None
