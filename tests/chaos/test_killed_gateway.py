"""A gateway that is killed in the middle of a body has made whole jobs, and sent again to the next
gateway each line is the job that it was."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from benchmarks.deployment import Deployment
from carbon_orchestrator.topology import CODEC, Topology
from streams.connection import connect
from streams.embedded import free_port
from streams.keys import Partition
from streams.testing import until

TOPOLOGY = Topology(Partition("carbon", 0))
LINES = 10_000


def body(keyed: bool) -> bytes:
    lines = (
        {"type": "noop", "payload": {"n": n}, **({"idempotency_key": f"k{n}"} if keyed else {})}
        for n in range(LINES)
    )
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


async def send(port: int, data: bytes) -> Any:
    timeout = aiohttp.ClientTimeout(30)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=timeout) as session:
        headers = {"Content-Type": "application/x-ndjson"}
        async with session.post("/jobs", data=data, headers=headers) as response:
            return await response.json()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("keyed", [True, False])
async def test_no_line_is_half_a_job_and_none_two(keyed: bool) -> None:
    async with Deployment() as house, connect(house.server.url) as redis:
        port = free_port()
        house.start("signal", "signal", "--speed", "1")  # whoever starts first waits for the clock
        house.start("gateway", "gateway", "--port", str(port))
        await until(lambda: _serves(port), 20)
        sending = asyncio.create_task(send(port, body(keyed)))
        await until(lambda: redis.zcard(TOPOLOGY.index("submitted")), 20)
        house.kill("gateway")
        with pytest.raises(aiohttp.ClientError):
            await sending
        made = await _whole(redis)
        assert 0 < len(made) < LINES
        if keyed:
            house.respawn("gateway")
            await until(lambda: _serves(port), 20)
            answer = await send(port, body(keyed))
            assert (answer["accepted"], answer["repeated"]) == (LINES - len(made), len(made))
            again = await _whole(redis)
            assert len(again) == LINES
            assert made.items() <= again.items()
            assert sorted(again.values()) == list(range(LINES))
    house.remove()


async def _whole(redis: Any) -> dict[str, int]:
    """The number in the payload of each job: its record, its place and its event are there."""
    ids = [each.decode() for each in await redis.zrange(TOPOLOGY.index("submitted"), 0, -1)]
    rows = redis.pipeline(transaction=False)
    for job_id in ids:
        rows.hgetall(TOPOLOGY.record(job_id))
    made = {}
    for job_id, record in zip(ids, await rows.execute(), strict=True):
        assert record[b"state"] == b"submitted"
        made[job_id] = json.loads(record[b"spec"])["payload"]["n"]
    told = {}
    for entry_id, fields in await redis.xrange(TOPOLOGY.jobs):
        entry = CODEC.entry(TOPOLOGY.jobs, entry_id, tuple(fields))
        told |= {
            each.event.job_id: json.loads(bytes(each.event.payload))["n"] for each in entry.messages
        }
    assert told == made
    assert len(await redis.keys(TOPOLOGY.record("*"))) == len(made)
    return made


async def _serves(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/readyz"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
