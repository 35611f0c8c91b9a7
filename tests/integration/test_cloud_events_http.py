"""POST /events: what other services send over HTTP is what they could send to the streams."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from deployment import Answer, Deploy, Deployment
from test_bulk import counts

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey, Scope
from streams.commit import Committer
from streams.connection import connect

FORMAT = JSONFormat()
QUICK = {"type": "quick", "urgency": "urgent"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def event(data: Any = QUICK, kind: str = "job.submitted", **attributes: Any) -> CloudEvent:
    attributes = {"source": "/tests/ü", "type": kind, **attributes}
    attributes.setdefault("datacontenttype", "application/json")
    return CloudEvent(attributes, data)


async def send(house: Deployment, body: bytes, headers: dict[str, str], key: str = "") -> Answer:
    more = {"Authorization": f"Bearer {key}"} if key else {}
    return await house.http("POST", "/events", data=body, headers={**headers, **more})


async def structured(house: Deployment, sent: CloudEvent, key: str = "") -> Answer:
    message = to_structured(sent, FORMAT)
    return await send(house, message.body, dict(message.headers), key)


async def binary(house: Deployment, sent: CloudEvent) -> Answer:
    message = to_binary(sent, FORMAT)
    return await send(house, message.body, dict(message.headers))


async def test_however_it_is_sent_it_is_one_job(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    sent = event(id="1", traceparent=parent)
    first = await structured(house, sent)
    assert first.status == 202
    assert first.headers["Location"] == f"/jobs/{first.body['id']}"
    job_id = first.body["id"]
    await house.reach(job_id, "completed")
    assert json.loads(await house.field(job_id, "spec") or "")["traceparent"] == parent
    again = await binary(house, sent)
    assert (again.status, again.body["id"], again.body["state"]) == (200, job_id, "completed")
    # And straight to the stream: the same source and id.
    await house.publish(QUICK, id="1", source="/tests/ü")
    other = await house.publish(QUICK, id="2", source="/tests/ü")
    assert other
    late = await binary(house, event(id="2"))
    assert late.status in (200, 202)
    await house.reach(late.body["id"], "completed")
    assert len(await house.ids("completed")) == 2


async def test_a_batch_is_taken_event_by_event(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    sent = [
        event(id="a"),
        event(id="b", data={"type": "nonsense"}),
        event(id="a"),
        event({"job_id": held}, "job.cancel_requested", id="c"),
        event({"job_id": "none"}, "job.cancel_requested", id="d"),
        event(kind="job.completed", id="e"),
    ]
    bodies = [to_structured(each, FORMAT).body for each in sent] + [b"{}"]
    answer = await send(house, b"[" + b",".join(bodies) + b"]", BATCH)
    assert (answer.status, counts(answer)) == (202, (1, 2, 4))
    results = answer.body["results"]
    assert [each["status"] for each in results] == [202, 422, 200, 200, 404, 422, 422]
    assert results[0]["id"] == results[2]["id"]
    fields = [each["problem"].get("field") for each in results if "problem" in each]
    assert fields == ["type", None, "type", "specversion"]
    await house.reach(held, "cancelled")
    await house.reach(results[0]["id"], "completed")


async def test_what_is_wrong_is_told(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for data, field in (
        ({"type": "quick", "urgency": "now"}, "data.urgency"),
        ({"type": "quick", "dedline": 1}, "data.dedline"),
        ({"type": "quick", "job_id": "x"}, "data.job_id"),
        ({}, "data.type"),
    ):
        answer = await structured(house, event(data))
        assert (answer.status, answer.body["field"]) == (422, field), answer.body
    for headers, body, status in (
        ({"Content-Type": "application/cloudevents+avro"}, b"", 415),
        (STRUCTURED, b"{", 400),
        (STRUCTURED, b'{"id":"1","id":"2"}', 400),
        (BATCH, b"[]", 202),  # "also valid in a request", says the JSON format
        (BATCH, b"{}", 400),
        ({"Content-Type": "application/json"}, b"{}", 422),
    ):
        answer = await send(house, body, headers)
        assert answer.status == status, answer.body
    answer = await structured(house, event({"job_id": "x", "why": 1}, "job.cancel_requested"))
    assert (answer.status, answer.body["field"]) == (422, "data.why")
    assert await house.redis.exists(house.topology.jobs) == 0


async def test_keys_and_their_projects_hold(deploy: Deploy) -> None:
    house = deploy()

    async def key(*scopes: Scope, project: str | None = None) -> str:
        named = ApiKey(name="any", scopes=scopes, sha256="", created=wall_ms(), project=project)
        async with connect(house.url) as client:
            committer = Committer(client, house.topology.partition)
            return await create_key(committer, house.topology, "ada", named)

    submitting, operating = await key("submit"), await key("operate")
    bound = await key("submit", project="mine")
    await house.gateway(require_keys=True)
    assert (await structured(house, event(id="1"))).status == 401
    assert (await structured(house, event(id="1"), operating)).body["scopes"] == ["submit"]
    assert (await structured(house, event(id="1"), submitting)).status == 202
    again = await structured(house, event(id="1"), submitting)
    assert (again.status, again.body["state"]) == (200, "submitted")
    assert "payload" not in again.body, "who may only submit reads nobody's job"
    # Projects that are kept apart do not meet in an event, either.
    own = await structured(house, event(id="1"), bound)
    assert own.status == 202
    foreign = await structured(house, event({**QUICK, "project": "other"}, id="2"), bound)
    assert foreign.status == 403
    body = b"[" + to_structured(event(id="3"), FORMAT).body + b"]"
    assert (await send(house, body, BATCH, operating)).status == 403


async def test_a_batch_lets_others_have_their_turn(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy()
    part = await house.gateway()
    turn, turns = 0, list[int]()

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    read = part.role._taking._read

    def noted(body: bytes) -> Any:
        turns.append(turn)
        return read(body)

    monkeypatch.setattr(part.role._taking, "_read", noted)
    large = b'{"n":"' + b"n" * 20_000 + b'"}'
    for each, number, most in ((b"{}", 1000, 200), (large, 40, 6)):
        turns.clear()
        running = asyncio.create_task(others())
        answer = await send(house, b"[" + b",".join([each] * number) + b"]", BATCH)
        running.cancel()
        assert (answer.status, counts(answer)) == (422, (0, 0, number))
        assert max(Counter(turns).values()) <= most
