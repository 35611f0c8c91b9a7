"""Many who read at once share round trips, and each gets his own."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ResponseError

from carbon_orchestrator.gateway.lookup.shared_reads import SharedReads
from carbon_orchestrator.topology import Topology
from streams.byte_log import Addition, append, bounds, bounds_reading
from streams.connection import connect
from streams.keys import Partition


async def test_each_gets_what_he_asked_for(server_url: str) -> None:
    topology = Topology(Partition("shared"))
    async with connect(server_url) as redis:
        ids = [str(number) for number in range(500)]
        for each in ids:
            await redis.hset(topology.record(each), "n", each)
        await redis.set(topology.record("text"), "no hash")
        reads = SharedReads(redis, topology)
        gone = asyncio.create_task(reads.job(ids[0]))
        asked = [asyncio.create_task(reads.job(each)) for each in ids]
        wrong = asyncio.create_task(reads.job("text"))
        await asyncio.sleep(0)
        gone.cancel()
        rows = await asyncio.gather(*asked)
        assert [each.record[b"n"].decode() for each in rows] == ids
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await wrong
        assert await reads.job("nobody") == ({}, None)
        await redis.delete(*(topology.record(each) for each in [*ids, "text"]))


async def test_where_output_begins_and_ends(server_url: str) -> None:
    topology = Topology(Partition("shared"))
    async with connect(server_url) as redis:
        log = topology.output("told")
        for offset, data in ((0, b"first"), (5, b"second")):
            await append(redis, [(log, Addition(1, offset, data))], 1, 60_000)
        first, last = [await redis.execute_command(*each) for each in bounds_reading(log)]
        found = await SharedReads(redis, topology).job("told")
        assert found.record == {}
        assert found.output == bounds(first, last) == (5, 11)
        await redis.delete(log)
