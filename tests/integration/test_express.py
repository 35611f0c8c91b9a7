"""The express lane answers as the application does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Any

import pytest
from deployment import Answer, Deploy, Deployment

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import JobType, Limits
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.intake.express import ExpressConnection
from carbon_orchestrator.gateway.intake.posting import Posting
from carbon_orchestrator.gateway.intake.submitting import Submitting
from streams.commit import Committer
from streams.connection import connect

#: The application takes what says more than this.
EXPRESS, APPLICATION = "application/json", "application/json; charset=utf-8"
JOB: dict[str, Any] = {"type": "quick", "urgency": "flexible", "deadline": "6h"}


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that came by the express lane."""
    came: list[bytes] = []
    usual = Posting.plain

    async def noting(self: Posting, body: bytes, *rest: Any) -> Any:
        came.append(body)
        return await usual(self, body, *rest)

    monkeypatch.setattr(Posting, "plain", noting)
    return came


async def both(house: Deployment, body: bytes, **headers: str) -> tuple[Answer, Answer]:
    one, other = [
        await house.http("POST", "/jobs", data=body, headers={**headers, "Content-Type": each})
        for each in (EXPRESS, APPLICATION)
    ]
    return one, other


async def key(house: Deployment, **more: Any) -> str:
    kept = ApiKey(name="ci", scopes=("submit",), sha256="", created=wall_ms(), **more)
    async with connect(house.url) as client:
        committer = Committer(client, house.topology.partition)
        made = await create_key(committer, house.topology, "tests", kept)
        await committer.settled()
        return made


async def test_a_job_is_accepted_in_the_same_words(deploy: Deploy, plain: list[bytes]) -> None:
    house = deploy()
    await house.gateway()
    body = json.dumps(JOB).encode()
    one, other = await both(house, body)
    assert plain == [body]
    assert (one.status, other.status) == (202, 202)
    assert set(one.headers) == set(other.headers)
    changing = {"id", "submitted_at", "deadline"}
    assert list(one.body) == list(other.body)
    assert {n: v for n, v in one.body.items() if n not in changing} == {
        n: v for n, v in other.body.items() if n not in changing
    }
    for each in (one, other):
        assert each.headers["Location"] == f"/jobs/{each.body['id']}"
        assert each.headers["Content-Type"] == "application/json"
        shown = await house.http("GET", each.headers["Location"])
        assert {name: shown.body[name] for name in each.body} == each.body
    metrics = (await house.http("GET", "/metrics")).body
    assert 'carbon_http_requests_total{method="POST",route="/jobs",status="202"} 2.0' in str(
        metrics
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"type":"nosuch"}',
        b'{"type":"quick","urgncy":"urgent"}',
        b'{"type":"quick","type":"quick"}',
        b'{"type":"quick","deadline":"yesterday"}',
        b'{"type":"quick","payload":"' + b"x" * 3000 + b'"}',
    ],
)
async def test_what_is_refused_is_refused_in_the_same_words(deploy: Deploy, body: bytes) -> None:
    house = deploy(limits=Limits(max_payload=2000))
    await house.gateway()
    one, other = await both(house, body)
    assert 400 <= one.status < 500
    assert (one.status, one.body) == (other.status, other.body)
    assert set(one.headers) == set(other.headers)


async def test_a_body_that_is_too_large(deploy: Deploy, plain: list[bytes]) -> None:
    house = deploy(limits=Limits(max_body=4000))
    await house.gateway()
    one, other = await both(house, b'{"type":"quick","payload":{"a":"' + b"x" * 5000 + b'"}}')
    assert (one.status, one.body) == (other.status, other.body)
    assert one.status == 413
    assert plain == []


async def test_a_key_is_asked_for_and_told_its_rate(deploy: Deploy, plain: list[bytes]) -> None:
    house = deploy(limits=Limits(rate=0.001, burst=3))
    made = await key(house)
    await house.gateway(require_keys=True)
    body = json.dumps(JOB).encode()
    one, other = await both(house, body)
    assert (one.status, one.body) == (other.status, other.body)
    assert one.status == 401
    assert plain == []
    one, other = await both(house, body, Authorization=f"Bearer {made}")
    assert set(one.headers) == set(other.headers)
    assert one.headers["RateLimit-Policy"] == other.headers["RateLimit-Policy"]
    assert one.headers["RateLimit"].startswith('"key";r=2;')
    wrong, over = await both(house, b"{", Authorization=f"Bearer {made}")
    assert (wrong.status, over.status) == (400, 429)
    assert "RateLimit" in wrong.headers
    assert "Retry-After" in over.headers


async def test_one_key_is_one_job_whichever_way(deploy: Deploy, plain: list[bytes]) -> None:
    house = deploy()
    await house.gateway()
    one, other = await both(house, json.dumps(JOB).encode(), **{"Idempotency-Key": "k"})
    assert (one.status, other.status) == (202, 200)
    assert one.body["id"] == other.body["id"]
    again, _ = await both(house, json.dumps(JOB).encode(), **{"Idempotency-Key": "k"})
    assert (again.status, again.body["id"]) == (200, one.body["id"])
    assert len(plain) == 2


class Line:
    """A connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def says(self) -> tuple[int, bytes]:
        """The next answer's status and body."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(each for each in lines if each.lower().startswith("content-length"))
        body = await self.reader.readexactly(int(length.partition(":")[2]))
        return int(lines[0].split()[1]), body


@asynccontextmanager
async def line(house: Deployment) -> AsyncIterator[Line]:
    host, port = house.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(15):
            yield Line(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def request(body: bytes, media: str = EXPRESS) -> bytes:
    head = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def names(count: int) -> list[bytes]:
    """Bodies of jobs that can be told apart."""
    return [json.dumps({**JOB, "type": each}).encode() for each in islice(cycle(TYPES), count)]


TYPES = ("quick", "lasting")
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_the_lane_is_open_while_nothing_else_is_under_way(
    deploy: Deploy, plain: list[bytes]
) -> None:
    house = deploy()
    await house.gateway()
    body = json.dumps(JOB).encode()
    async with line(house) as one:
        for number in range(1, 4):
            one.writer.write(request(body))
            assert (await one.says())[0] == 202
            assert len(plain) == number
            one.writer.write(GET)
            assert (await one.says())[0] == 200
            one.writer.write(request(body, APPLICATION))
            assert (await one.says())[0] == 202
        one.writer.write(request(body).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await one.says())[0] == 202
        assert await one.reader.read() == b""  # of HTTP/1.0 the connection's end is the end
    assert len(plain) == 3


async def test_a_head_and_its_body_may_come_one_after_the_other(
    deploy: Deploy, plain: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy()
    await house.gateway()
    came = noting_pieces(monkeypatch)
    body = json.dumps(JOB).encode()
    whole = request(body)
    head = len(whole) - len(body)
    for cuts, by_lane in (([head], True), ([head + 5], True), ([40], False), ([head, -9], False)):
        plain.clear()
        async with line(house) as one:
            at = 0
            for cut in [*cuts, len(whole)]:
                piece = whole[at : cut if cut >= 0 else len(whole) + cut]
                at += len(piece)
                before = len(came)
                one.writer.write(piece)
                while len(came) == before:
                    await asyncio.sleep(0)
            assert (await one.says())[0] == 202
            assert plain == [body] * by_lane


async def test_what_comes_before_the_answer_waits_for_its_turn(
    deploy: Deploy, plain: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy(types={each: JobType(command=["true"]) for each in TYPES})
    await house.gateway()
    go = holding(monkeypatch)
    came = noting_pieces(monkeypatch)
    bodies = names(6)
    async with line(house) as one:
        one.writer.write(request(bodies[0]))
        while not plain:
            await asyncio.sleep(0)
        one.writer.write(b"".join(map(request, bodies[1:3])) + GET + request(bodies[3])[:50])
        while len(came) < 2:
            await asyncio.sleep(0)
        one.writer.write(request(bodies[3])[50:] + b"".join(map(request, bodies[4:])))
        go.set()
        answers = [await one.says() for _ in range(7)]
    assert [status for status, _ in answers] == [202, 202, 202, 200, 202, 202, 202]
    told = [json.loads(text)["type"] for status, text in answers if status == 202]
    assert told == [json.loads(each)["type"] for each in bodies]


async def test_a_body_is_never_taken_for_a_request(deploy: Deploy, plain: list[bytes]) -> None:
    """Of what is refused before its body is there, the body is still to come."""
    house = deploy()
    await house.gateway()
    inner = request(json.dumps(JOB).encode())
    async with line(house) as one:
        outer = request(inner, "text/plain")
        one.writer.write(outer[: -len(inner)])
        assert (await one.says())[0] == 415
        one.writer.write(inner)
        one.writer.write(GET)
        assert (await one.says())[0] == 200
    assert plain == []
    counts = (await house.http("GET", "/jobs")).body["jobs"]
    assert counts == []


async def test_a_gateway_that_ends_answers_first(
    deploy: Deploy, plain: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy()
    gateway = await house.gateway()
    go = holding(monkeypatch)
    async with line(house) as one:
        one.writer.write(request(json.dumps(JOB).encode()))
        while not plain:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(gateway.stop())
        await gateway.runtime.stop.wait()
        go.set()
        assert (await one.says())[0] == 202
        assert await one.reader.read() == b""
        await stopping
    house.parts.remove(gateway)


async def test_who_goes_before_the_answer_leaves_a_job(
    deploy: Deploy, plain: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy()
    await house.gateway()
    go = holding(monkeypatch)
    async with line(house) as one:
        one.writer.write(request(json.dumps(JOB).encode()))
        while not plain:
            await asyncio.sleep(0)
    go.set()
    while not (await house.http("GET", "/jobs")).body["jobs"]:
        await asyncio.sleep(0.01)
    assert (await house.http("GET", "/livez")).status == 200


def noting_pieces(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What connections are given from now on."""
    came: list[bytes] = []
    usual = ExpressConnection.data_received

    def noting(self: ExpressConnection, data: bytes) -> None:
        came.append(data)
        usual(self, data)

    monkeypatch.setattr(ExpressConnection, "data_received", noting)
    return came


def holding(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Jobs that are posted are answered from when this is set."""
    go, usual = asyncio.Event(), Submitting.one

    async def held(self: Submitting, *asked: Any) -> Any:
        await go.wait()
        return await usual(self, *asked)

    monkeypatch.setattr(Submitting, "one", held)
    return go
