"""Clients that take their time, on raw sockets: cut off, while others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from deployment import Deploy, Deployment

from carbon_orchestrator.config import Limits
from carbon_orchestrator.gateway.door.connections import Connection
from streams.testing import until

QUICK = Limits(header_timeout=0.4, idle_timeout=0.6, body_rate=500)
POST = (
    b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)
GET = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def until_closed(self, timeout: float = 5.0) -> bytes:
        """All that comes until the other side closes."""
        async with asyncio.timeout(timeout):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def dribble(self, data: bytes, gap: float) -> None:
        """A byte at a time, until it is all sent or the other side has had enough."""
        with contextlib.suppress(ConnectionError):
            for byte in data:
                self.writer.write(bytes([byte]))
                await self.writer.drain()
                await asyncio.sleep(gap)

    async def answer(self) -> tuple[int, bytes]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), await self.reader.readexactly(size)


@contextlib.asynccontextmanager
async def client(house: Deployment) -> AsyncIterator[Client]:
    port = int(house.base.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def ended(house: Deployment, why: str) -> int:
    text = (await house.http("GET", "/metrics")).body.decode()
    name = f'carbon_http_connections_ended_total{{why="{why}"}} '
    return int(float(text.partition(name)[2].partition("\n")[0] or 0))


async def test_headers_that_do_not_end_are_cut_off_while_others_are_served(
    deploy: Deploy,
) -> None:
    house = deploy(limits=QUICK)
    await house.gateway()
    async with contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(client(house)) for _ in range(50)]
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for each in slow:
                tasks.create_task(each.dribble(GET[:-4] + b"\r\nX-A: b" * 3, 0.05))
            closing = [tasks.create_task(each.until_closed()) for each in slow]
            waits = []
            while not all(each.done() for each in closing):
                asked = time.monotonic()
                assert (await house.http("GET", "/jobs")).status == 200
                waits.append(time.monotonic() - asked)
        took = time.monotonic() - began
        assert 0.4 <= took < 5
        assert max(waits) < took, "nobody waited for them"
        for each in closing:
            said = each.result()
            assert not said or said.startswith(b"HTTP/1.1 408 "), said
    assert await ended(house, "too-slow") == 50


async def test_a_body_has_to_arrive_at_some_rate(deploy: Deploy) -> None:
    house = deploy(limits=QUICK)
    await house.gateway()
    async with client(house) as stopped:
        stopped.writer.write(POST % 10_000 + b"{")
        began = time.monotonic()
        said = await stopped.until_closed(10)
        assert time.monotonic() - began >= 0.4
        assert said.startswith(b"HTTP/1.1 408 ")
        assert json.loads(said.partition(b"\r\n\r\n")[2])["status"] == 408
    async with client(house) as slow:
        slow.writer.write(POST % 10_000)
        _, said = await asyncio.gather(slow.dribble(b"{" * 1000, 0.01), slow.until_closed(10))
        # Lost, where more was on its way when the connection was closed.
        assert not said or said.startswith(b"HTTP/1.1 408 ")
    # One that is slow, but not too slow, takes longer than the patience and is served.
    body = b'{"type":"quick","payload":{"x":"' + b"y" * 4000 + b'"}}'
    async with client(house) as steady:
        steady.writer.write(POST % len(body))
        began = time.monotonic()
        for start in range(0, len(body), 400):
            steady.writer.write(body[start : start + 400])
            await asyncio.sleep(0.06)
        status, _ = await steady.answer()
        assert status == 202
        assert time.monotonic() - began > 0.5
    assert await ended(house, "too-slow") == 2


async def test_one_who_does_not_read_the_answer_is_cut_off(deploy: Deploy) -> None:
    house = deploy(limits=QUICK)
    await house.gateway()
    line = b'{"type":"quick","labels":{"x":"%b"}}\n' % (b"y" * 250)
    headers = {"Content-Type": "application/x-ndjson"}
    assert (await house.http("POST", "/jobs", data=line * 300, headers=headers)).status == 202
    ask = b"GET /jobs?limit=500 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with client(house) as deaf:
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            for _ in range(400):
                deaf.writer.write(ask)

        async def cut() -> bool:
            return await ended(house, "too-slow") == 1

        await until(cut)


async def test_idle_connections_are_closed_and_used_ones_kept(deploy: Deploy) -> None:
    house = deploy(limits=QUICK)
    await house.gateway()
    async with client(house) as idle, client(house) as used:
        closing = asyncio.create_task(idle.until_closed())
        while not closing.done():
            used.writer.write(GET)
            assert (await used.answer())[0] == 200
            await asyncio.sleep(0.1)
        assert closing.result() == b"", "nothing to answer"


async def test_too_many_connections_are_refused_and_idle_ones_give_way(deploy: Deploy) -> None:
    house = deploy(limits=Limits(connections=5))
    await house.gateway()
    async with contextlib.AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(client(house)) for _ in range(4)]
        for each in busy:
            each.writer.write(POST % 30)
        idle = await stack.enter_async_context(client(house))
        idle.writer.write(GET)
        assert (await idle.answer())[0] == 200
        fifth = await stack.enter_async_context(client(house))
        fifth.writer.write(GET[:-2])  # its headers are not over
        assert await idle.until_closed() == b"", "it gave way"
        sixth = await stack.enter_async_context(client(house))
        said = await sixth.until_closed()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in said
        fifth.writer.write(b"\r\n")
        assert (await fifth.answer())[0] == 200
        for each in busy:
            each.writer.write(b'{"type":"quick"}'.ljust(30))
            assert (await each.answer())[0] == 202
    assert await ended(house, "refused") == 1
    assert await ended(house, "crowded-out") >= 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer secret" + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: secret\r\n" % n for n in range(100)) + b"\r\n",
        b"GET / HTTP/1.1\r\nsecret\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: secret\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: 3\r\n\r\nsecret",
    ],
)
async def test_what_is_no_request_is_a_problem_and_is_not_repeated(
    deploy: Deploy, sent: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    house = deploy()
    await house.gateway()
    async with client(house) as strange:
        strange.writer.write(sent)
        said = await strange.until_closed()
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split()[1] == b"400", said
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400
    out, error = capfd.readouterr()
    for told in (body.decode(), out, error, caplog.text):
        assert "secret" not in told


def _held(port: int) -> int:
    """How many connections to the port the kernel has, as the gateway's side of them."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    held = [line.split() for line in lines]
    return sum(local.endswith(f":{port:04X}") and state == "01" for _, local, _, state, *_ in held)


@pytest.mark.skipif(sys.platform != "linux", reason="counts connections as Linux tells them")
@pytest.mark.parametrize("then", [b"GET / HTT", b"GET / HTTP/9.9\r\n\r\n"])
async def test_one_who_reads_nothing_and_goes_on_asking_holds_no_connection(
    deploy: Deploy, then: bytes
) -> None:
    house = deploy(limits=QUICK)
    part = await house.gateway()
    port = part.role.port
    seen: list[Connection] = []
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.setblocking(False)
        # So many answers that some wait in the gateway, but not so many that it stops to write.
        for _ in range(500):
            deaf.send(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await asyncio.sleep(0.01)
            seen = list(part.role._connections._open)
            if seen and seen[0].transport is not None and unsent(seen[0]) > 0:
                break
        assert seen
        assert unsent(seen[0]) > 0
        deaf.send(then)

        async def gone() -> bool:
            return _held(port) == 0

        await until(gone, 10)


def unsent(connection: Connection) -> int:
    assert connection.transport is not None
    return connection.transport.get_write_buffer_size()
