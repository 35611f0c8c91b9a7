"""The express lane answers as the application does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from deployment import Answer, Deploy, Deployment

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Limits
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.intake.posting import Posting
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


async def test_a_body_that_comes_late_and_one_connection_for_many(
    deploy: Deploy, plain: list[bytes]
) -> None:
    house = deploy()
    await house.gateway()
    host, port = house.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(JOB).encode()
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)

    async def status() -> int:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(each for each in lines if each.lower().startswith("content-length"))
        await reader.readexactly(int(length.partition(":")[2]))
        return int(lines[0].split()[1])

    writer.write(head)
    writer.write(body[:20])
    await writer.drain()
    writer.write(body[20:] + head + body + head + body)  # and two more right behind
    assert [await status() for _ in range(3)] == [202] * 3
    assert 2 <= len(plain) <= 3
    writer.write(head.replace(b"HTTP/1.1", b"HTTP/1.0") + body)
    assert await status() == 202
    assert await reader.read() == b""  # of HTTP/1.0 the end of the connection is the end
    writer.close()
