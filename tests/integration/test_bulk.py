"""Many jobs in one request: each line by itself, and all that has ever been said of one job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from deployment import Answer, Deploy, Deployment
from test_views import exactly

from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.config import Limits
from carbon_orchestrator.contract.submission_views import BulkResult
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.intake.bulk import MOST_LINES
from streams.commit import Committer
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.testing import until

NDJSON = {"Content-Type": "application/x-ndjson"}
QUICK = {"type": "quick"}


async def send(house: Deployment, lines: Iterable[Any], **headers: str) -> Answer:
    body = b"\n".join(
        each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines
    )
    return await house.http("POST", "/jobs", data=body, headers={**NDJSON, **headers})


def counts(answer: Answer) -> tuple[int, int, int]:
    body = answer.body
    exactly(body, BulkResult)
    assert body["accepted"] + body["repeated"] + body["refused"] == len(body["results"])
    return body["accepted"], body["repeated"], body["refused"]


async def test_each_line_is_a_job_that_runs(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    lines = [
        {**QUICK, "urgency": urgency, "payload": {"n": n}, "labels": {"n": str(n)}}
        for n, urgency in enumerate(["urgent", "normal", "urgent", "flexible"] * 60)
    ]
    answer = await send(house, lines, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert (answer.status, counts(answer)) == (202, (240, 0, 0))
    assert [each["line"] for each in answer.body["results"]] == list(range(1, 241))
    ids = [each["id"] for each in answer.body["results"]]
    assert len(set(ids)) == 240
    for n in (0, 3, 99, 239):
        job = await house.job(ids[n])
        assert job["payload"] == {"n": n}
        assert job["urgency"] == lines[n]["urgency"]
        assert job["submitted_at"] == answer.body["submitted_at"]
        assert json.loads(await house.field(ids[n], "spec") or "")["traceparent"][3:5] == "aa"
    await house.counted("completed", 240, timeout=20)
    await house.settled()
    assert (await house.sums())["attempts"] == 240


async def test_what_is_wrong_with_a_line_is_no_matter_to_the_others(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    answer = await send(
        house,
        [
            QUICK,
            b"",
            {"type": "nonsense"},
            b'{"type":"quick","type":"quick"}',
            {**QUICK, "dedline": "6h"},
            {**QUICK, "job_id": "x"},
            {**QUICK, "idempotency_key": ""},
            {**QUICK, "idempotency_key": "a\0b"},
            {**QUICK, "payload": {"x": "y" * 100_000}},
            b'{"type":"quick","payload":{"a":"\xff"}}',
            b"  \t\r",
            b'{"type": "quick"}\r',
            b"\xff",
            b"[]",
            {**QUICK, "deadline": "2001-01-01T00:00:00Z"},
        ],
    )
    assert (answer.status, counts(answer)) == (202, (2, 0, 11))
    told = [
        (each["line"], each["status"], each.get("problem", {}).get("type", "").rpartition(":")[2])
        for each in answer.body["results"]
    ]
    assert told == [
        (1, 202, ""),
        (3, 422, "unknown-type"),
        (4, 400, "malformed-json"),
        (5, 422, "invalid-job"),
        (6, 422, "invalid-job"),
        (7, 422, "invalid-idempotency-key"),
        (8, 422, "invalid-idempotency-key"),
        (9, 422, "invalid-job"),
        (10, 422, "invalid-job"),
        (12, 202, ""),
        (13, 400, "malformed-json"),
        (14, 422, "invalid-job"),
        (15, 422, "invalid-job"),
    ]
    fields = [each["problem"].get("field") for each in answer.body["results"] if "problem" in each]
    assert fields[3:8] == ["job_id", "idempotency_key", "idempotency_key", "payload", "payload"]
    assert len(await house.ids("submitted")) == 2


async def test_a_key_is_one_job_within_a_body_between_bodies_and_beside_single_ones(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.gateway()
    single = await house.http(
        "POST", "/jobs", json={**QUICK, "payload": {"n": 0}}, headers={"Idempotency-Key": "k0"}
    )
    lines = [
        {**QUICK, "payload": {"n": n % 500}, "idempotency_key": f"k{n % 500}"} for n in range(1000)
    ]
    first = await send(house, lines)
    assert counts(first) == (499, 501, 0)
    ids = [each["id"] for each in first.body["results"]]
    assert ids[:500] == ids[500:]
    assert ids[0] == single.body["id"]
    assert first.body["results"][500]["state"] == "submitted"
    again = await send(house, lines)
    assert (again.status, counts(again)) == (202, (0, 1000, 0))
    assert [each["id"] for each in again.body["results"]] == ids
    other = await send(house, [{**QUICK, "payload": {"n": 1}, "idempotency_key": "k0"}])
    assert (other.status, counts(other)) == (422, (0, 0, 1))
    assert "idempotency-key-reused" in other.body["results"][0]["problem"]["type"]
    assert len(await house.ids("submitted")) == 500


async def test_concurrent_bodies_with_the_same_keys_make_each_job_once(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    lines = [{**QUICK, "idempotency_key": f"k{n}"} for n in range(100)]
    answers = await asyncio.gather(*(send(house, lines) for _ in range(8)))
    assert sum(counts(each)[0] for each in answers) == 100
    assert sum(counts(each)[1] for each in answers) == 700
    assert len({each["id"] for answer in answers for each in answer.body["results"]}) == 100
    await house.counted("completed", 100)
    await house.settled()
    assert (await house.sums())["attempts"] == 100


async def test_what_came_before_is_known_though_its_deadline_is_over(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    line = {**QUICK, "deadline": rfc3339(wall_ms() + 400), "idempotency_key": "soon"}
    first = await send(house, [line])
    assert counts(first) == (1, 0, 0)

    async def over() -> Answer | None:
        answer = await send(house, [{**line, "idempotency_key": None}, line])
        return answer if counts(answer)[2] else None

    answer = await until(over)
    assert answer is not None
    assert [each["status"] for each in answer.body["results"]] == [422, 200]


async def test_a_full_queue_takes_as_many_lines_as_there_is_room_for(deploy: Deploy) -> None:
    house = deploy(limits=Limits(max_waiting=250))
    await house.gateway()
    lines = [{**QUICK, "idempotency_key": "first"}, *[QUICK] * 399]
    answer = await send(house, lines)
    assert (answer.status, counts(answer)) == (202, (250, 0, 150))
    (last,) = {each["status"] for each in answer.body["results"][250:]}
    assert last == 503
    full = await send(house, [QUICK] * 3)
    assert (full.status, counts(full)) == (503, (0, 0, 3))
    assert int(full.headers["Retry-After"]) > 0
    assert len(await house.ids("submitted")) == 250
    again = await send(house, [QUICK, lines[0]])
    assert [each["status"] for each in again.body["results"]] == [503, 200]


async def test_a_bound_key_submits_to_its_project_and_no_more_than_its_share(
    deploy: Deploy,
) -> None:
    house = deploy(limits=Limits(max_waiting=100, share=0.1))
    key = ApiKey(name="ci", scopes=("submit", "read"), sha256="", created=wall_ms(), project="own")
    async with connect(house.url) as client:
        partition = house.topology.partition
        text = await create_key(Committer(client, partition), house.topology, "ada", key)
    await house.gateway(require_keys=True)
    bearer = {"Authorization": f"Bearer {text}"}
    mixed = [QUICK, {**QUICK, "project": "own"}, {**QUICK, "project": "other"}]
    answer = await send(house, mixed, **bearer)
    assert [each["status"] for each in answer.body["results"]] == [202, 202, 403]
    for each in answer.body["results"][:2]:
        shown = await house.http("GET", f"/jobs/{each['id']}", headers=bearer)
        assert shown.body["project"] == "own"
    rest = await send(house, [QUICK] * 20, **bearer)
    assert counts(rest) == (8, 0, 12)
    assert {each["status"] for each in rest.body["results"][8:]} == {429}
    assert (await send(house, [QUICK])).status == 401


async def test_bodies_have_limits_of_their_own(deploy: Deploy) -> None:
    house = deploy(limits=Limits(max_body=2000, max_bulk=40_000))
    await house.gateway()
    lines = [{**QUICK, "payload": {"x": "y" * 400}}] * 50
    assert counts(await send(house, lines)) == (50, 0, 0)
    assert (await send(house, lines * 2)).status == 413
    long = await send(house, [QUICK, {**QUICK, "payload": {"x": "y" * 3000}}])
    assert [each["status"] for each in long.body["results"]] == [202, 413]
    many = await send(house, [b"{}"] * (MOST_LINES + 1))
    assert (many.status, many.body["type"].rpartition(":")[2]) == (413, "too-many-lines")
    for nothing in ([], [b""], [b" ", b"\t"]):
        assert (await send(house, nothing)).status == 400
    assert len(await house.ids("submitted")) == 51


@pytest.mark.parametrize("chunked", [False, True])
async def test_half_a_body_changes_nothing(deploy: Deploy, chunked: bool) -> None:
    house = deploy()
    part = await house.gateway()
    line = b'{"type":"quick"}\n'
    reader, writer = await asyncio.open_connection("127.0.0.1", part.role.port)
    head = b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n"
    if chunked:
        body = b"%x\r\n%b\r\n" % (len(line) * 100, line * 100)
        writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    else:
        writer.write(head + b"Content-Length: 10000\r\n\r\n" + line * 100)
    await writer.drain()
    memory = part.role._posting._bulk._bodies._memory
    await until(lambda: memory._taken.total() == len(line) * 100)
    writer.close()
    await until(lambda: not memory._taken)
    assert await house.ids("submitted") == []
    assert await reader.read() == b""


async def test_memory_for_bodies_is_bounded(deploy: Deploy) -> None:
    house = deploy(limits=Limits(max_bulk=10_000))
    part = await house.gateway()
    memory = part.role._posting._bulk._bodies._memory
    assert memory.take("other", 20_000)
    assert not memory.take("other", 1), "a key may have half"
    assert memory.take(None, 20_000)
    refused = await send(house, [QUICK])
    assert refused.status == 503
    assert "Retry-After" in refused.headers
    memory.give_back("other", 20_000)
    assert counts(await send(house, [QUICK])) == (1, 0, 0)


async def test_a_server_that_is_away_is_told_of_each_line(
    deploy: Deploy, own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carbon_orchestrator.gateway.part._PATIENCE_SECONDS", 0.5)
    house = deploy(url=own_server.url)
    await house.gateway()
    assert counts(await send(house, [QUICK])) == (1, 0, 0)
    await own_server.stop()
    answer = await send(house, [QUICK, {"type": "nonsense"}])
    assert answer.status == 422
    assert [each["status"] for each in answer.body["results"]] == [503, 422]
    assert (await send(house, [QUICK] * 300)).status == 503
    await own_server.start()
    await house.redis.connection_pool.disconnect()
