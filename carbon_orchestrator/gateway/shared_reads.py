"""Reads of many requests in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from carbon_orchestrator.gateway.together import Together

_MOST = 200  # in one round trip
Fields = dict[bytes, bytes]


class SharedReads:
    """Reads hashes, those that are asked for at a time together."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._together: Together[str, Fields] = Together(self._read, _MOST)

    async def hash(self, key: str) -> Fields:
        """All fields of a hash; raises what the command raises."""
        return await self._together.ask(key)

    async def _read(self, keys: list[str]) -> Sequence[Fields | Exception]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            rows: list[Any] = await pipeline.execute(raise_on_error=False)
        return rows
