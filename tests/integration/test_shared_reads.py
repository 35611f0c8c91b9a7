"""Many who read at once share round trips, and each gets his own."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from carbon_orchestrator.gateway.shared_reads import SharedReads
from streams.connection import connect


async def test_each_gets_what_he_asked_for(server_url: str) -> None:
    async with connect(server_url) as redis:
        keys = [f"{{shared}}:{number}" for number in range(500)]
        for number, key in enumerate(keys):
            await redis.hset(key, "n", str(number))  # type: ignore[misc]
        await redis.set("{shared}:text", "no hash")
        reads = SharedReads(redis)
        gone = asyncio.create_task(reads.hash(keys[0]))
        asked = [asyncio.create_task(reads.hash(each)) for each in keys]
        wrong = asyncio.create_task(reads.hash("{shared}:text"))
        await asyncio.sleep(0)
        gone.cancel()
        rows = await asyncio.gather(*asked)
        assert [int(each[b"n"]) for each in rows] == list(range(500))
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await wrong
        assert await reads.hash("{shared}:nobody") == {}
        await redis.delete("{shared}:text", *keys)
