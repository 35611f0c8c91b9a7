"""What HTTP clients may rely on: one job per key, limits, and errors they can act on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from deployment import Answer, Deploy, Deployment

from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.config import Limits
from streams.testing import until


def problem(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    """The body, which has the shape that RFC 9457 asks for."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.body["type"] == f"urn:carbon-orchestrator:problem:{kind}"
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert answer.body["detail"]
    return dict(answer.body)


async def submit(house: Deployment, body: Any, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    every = {"Content-Type": "application/json", **headers}
    return await house.http("POST", "/jobs", data=raw, headers=every)


async def test_one_key_and_body_is_one_job(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    body = {"type": "quick", "payload": {"a": 1, "b": [2, 3]}}
    first = await submit(house, body, **{"Idempotency-Key": "k"})
    assert first.status == 202, first.body
    job_id = first.body["id"]
    await house.reach(job_id, "completed")
    spaced = b'{ "payload": {"b": [2,3], "a": 1},\n "type":"quick" }'
    again = await submit(house, spaced, **{"Idempotency-Key": "k"})
    assert (again.status, again.body["id"], again.body["state"]) == (200, job_id, "completed")
    other = await submit(house, {**body, "urgency": "urgent"}, **{"Idempotency-Key": "k"})
    problem(other, 422, "idempotency-key-reused")
    inner = await submit(house, {**body, "payload": {"a": 2}}, **{"Idempotency-Key": "k"})
    problem(inner, 422, "idempotency-key-reused")
    second = await submit(house, body, **{"Idempotency-Key": "l"})
    assert second.status == 202
    assert second.body["id"] != job_id
    problem(
        await submit(house, body, **{"Idempotency-Key": "x" * 256}), 422, "invalid-idempotency-key"
    )
    for key in ("", "\xe9\xff"):
        wrong = await submit(house, body, **{"Idempotency-Key": key})
        problem(wrong, 422, "invalid-idempotency-key")
    traced = await submit(house, body, traceparent="\xff" * 99)
    assert await house.field(traced.body["id"], "spec")


@pytest.mark.parametrize("payload", ['{"a":1e999}', '{"a":' + "9" * 400 + "}", '{"a":"\\u0000"}'])
async def test_any_payload_may_have_a_key(deploy: Deploy, payload: str) -> None:
    house = deploy()
    await house.gateway()
    body = b'{"type":"quick","payload":%b}' % payload.encode()
    answers = [await submit(house, body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert [each.status for each in answers] == [202, 200], answers[0].body
    other = await submit(house, body.replace(b'{"a"', b'{"b"'), **{"Idempotency-Key": "k"})
    problem(other, 422, "idempotency-key-reused")


async def test_concurrent_duplicates_are_one_job(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    one, gateways = house.base, [house.base]
    await house.gateway()
    gateways.append(house.base)
    body = {"type": "quick", "urgency": "urgent"}

    async def send(number: int) -> Answer:
        house.base = gateways[number % 2]
        return await submit(house, body, **{"Idempotency-Key": "same"})

    answers = await asyncio.gather(*(send(number) for number in range(20)))
    house.base = one
    assert sorted(each.status for each in answers) == [200] * 19 + [202]
    (job_id,) = {each.body["id"] for each in answers}
    await house.reach(job_id, "completed")
    await house.settled()
    assert (await house.sums())["attempts"] == 1


async def test_what_is_wrong_with_a_job_is_said_with_the_field(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    unknown = problem(await submit(house, {"type": "nonsense"}), 422, "unknown-type")
    assert unknown["known"] == sorted(house.config.types)
    for fields, field in (
        ({"urgency": "asap"}, "urgency"),
        ({"type": 3}, "type"),
        ({"payload": []}, "payload"),
        ({"payload": "text"}, "payload"),
        ({"deadline": "soon"}, "deadline"),
        ({"deadline": "2001-01-01T00:00:00Z"}, "deadline"),
        ({"deadline": "9999-01-01T00:00:00Z"}, "deadline"),
        ({"deadline": True}, "deadline"),
        ({"deadline": 10**400}, "deadline"),
        ({"deadline": "0001-01-01T00:00:00+23:59"}, "deadline"),
        ({"timeout": 10**400}, "timeout"),
        ({"dedline": "6h"}, "dedline"),
        ({"job_id": "0" * 26 + "-0"}, "job_id"),
        ({"expected_duration": 0}, "expected_duration"),
        ({"timeout": "1 hour"}, "timeout"),
        ({"max_attempts": 101}, "max_attempts"),
        ({"project": "a b"}, "project"),
        ({"labels": {"a": "x" * 257}}, "labels.a"),
        ({"labels": {str(i): "" for i in range(33)}}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
    ):
        answer = problem(await submit(house, {"type": "quick", **fields}), 422, "invalid-job")
        assert answer["field"].startswith(field), (fields, answer)
    missing = problem(await submit(house, {}), 422, "invalid-job")
    assert "type" in missing["detail"]
    utf8 = await submit(house, b'{"type":"quick","payload":{"a":"\xff"}}')
    assert problem(utf8, 422, "invalid-job")["field"] == "payload"
    assert await house.ids("submitted") == []


async def test_what_is_no_json_is_a_400_and_what_is_no_json_by_name_a_415(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for body in (
        b"",
        b"{",
        b"nonsense",
        b'{"type":"quick"}x',
        b"\xff",
        b'{"payload":' + b"[" * 100_000,
        b'{"type":"quick","type":"quick"}',
        b'{"type":"quick","payload":{"a":NaN}}',
    ):
        problem(await submit(house, body), 400, "malformed-json")
    problem(await submit(house, b"[]"), 422, "invalid-job")
    text = await submit(house, b"{}", **{"Content-Type": "text/plain"})
    problem(text, 415, "unsupported-media-type")
    utf = {"Content-Type": "application/json; charset=utf-8"}
    assert (await submit(house, {"type": "quick"}, **utf)).status == 202


async def test_unknown_things_are_404_and_unknown_methods_405(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    problem(await house.http("GET", "/nowhere"), 404, "not-found")
    for job_id in ("x", "0" * 26 + "-0", "0" * 26 + "-1", "..%2fclock", "%00", "0" * 26 + "-00"):
        for method in ("GET", "DELETE"):
            problem(await house.http(method, f"/jobs/{job_id}"), 404, "no-such-job")
    wrong = await house.http("PUT", "/jobs")
    problem(wrong, 405, "method-not-allowed")
    assert {"GET", "POST"} <= set(wrong.headers["Allow"].replace(" ", "").split(","))


async def test_queries_are_checked(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for path in (
        "/jobs?state=lost",
        "/jobs?limit=0",
        "/jobs?limit=501",
        "/jobs?limit=x",
        "/jobs?cursor=!!!",
        "/jobs?cursor=bm9uZQ",
        "/emissions?by=mood",
        "/emissions?from=yesterday",
        "/emissions?to=2026-1-1",
    ):
        problem(await house.http("GET", path), 422, "invalid-query")


async def test_bodies_and_payloads_have_limits(deploy: Deploy) -> None:
    house = deploy(limits=Limits(max_body=5000, max_payload=1000))
    await house.gateway()
    fits = {"type": "quick", "payload": {"x": "y" * 980}}
    assert (await submit(house, fits)).status == 202
    over = problem(
        await submit(house, {"type": "quick", "payload": {"x": "y" * 1000}}), 422, "invalid-job"
    )
    assert over["field"] == "payload"
    problem(
        await submit(house, {"type": "quick", "payload": {"x": "y" * 5000}}), 413, "body-too-large"
    )


async def test_a_full_queue_asks_to_come_back_and_takes_again_what_it_can(deploy: Deploy) -> None:
    house = deploy(limits=Limits(max_waiting=3))
    await house.gateway()

    async def refused() -> Answer | None:
        answer = await submit(house, {"type": "quick"})
        return answer if answer.status != 202 else None

    answer = await until(refused)
    assert answer is not None
    problem(answer, 503, "server-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    house.router()
    house.worker("eco")

    async def taken() -> bool:
        return (await submit(house, {"type": "quick"})).status == 202

    await until(taken)


async def test_pages_show_every_job_once(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    sent = {await house.post("quick") for _ in range(25)}
    shown: list[str] = []
    cursor = ""
    while True:
        body = (await house.http("GET", f"/jobs?limit=4{cursor}")).body
        shown += [job["id"] for job in body["jobs"]]
        if body["next"] is None:
            break
        cursor = f"&cursor={body['next']}"
    assert len(shown) == 25
    assert set(shown) == sent
    times = [(await house.job(each))["submitted_at"] for each in shown]
    assert times == sorted(times, reverse=True)


async def test_health_tells_what_is_missing(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    body = (await house.http("GET", "/health")).body
    assert body["status"] == "degraded"
    assert "worker eco" in body["no_consumers"]
    house.router()
    house.accounting()
    house.worker("fast")
    house.worker("eco")
    await house.intensity(100)

    async def well() -> bool:
        return (await house.http("GET", "/health")).body["status"] == "ok"

    await until(well)
    text = (await house.http("GET", "/metrics")).body.decode()
    assert 'carbon_jobs{state="submitted"} 0.0' in text
    assert 'carbon_stream_live_consumers{group="worker",stream="dispatch.eco"} 1.0' in text


async def test_a_repeated_submission_is_answered_though_the_queue_is_full(deploy: Deploy) -> None:
    house = deploy(limits=Limits(max_waiting=1))
    await house.gateway()
    headers = {"Idempotency-Key": "once"}
    first = await submit(house, {"type": "quick"}, **headers)
    assert first.status == 202

    async def full() -> bool:
        return (await submit(house, {"type": "quick"})).status == 503

    await until(full)
    again = await submit(house, {"type": "quick"}, **headers)
    assert (again.status, again.body["id"]) == (200, first.body["id"])


async def test_a_repeated_submission_is_answered_though_its_deadline_is_over(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.gateway()
    job = {"type": "quick", "deadline": rfc3339(wall_ms() + 300)}
    headers = {"Idempotency-Key": "soon"}
    first = await submit(house, job, **headers)
    assert first.status == 202

    async def over() -> bool:
        return (await submit(house, job)).status == 422

    await until(over)
    again = await submit(house, job, **headers)
    assert (again.status, again.body["id"]) == (200, first.body["id"])


async def test_paging_passes_any_number_of_jobs_of_one_millisecond(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    first = await house.post("quick")
    redis, topology = house.redis, house.topology
    score = int(await redis.zscore(topology.index("submitted"), first) or 0)
    head, number = first[:20], first.rpartition("-")[2]
    ids = [f"{head}{each:06d}-{number}" for each in range(600)]
    async with redis.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.copy(topology.record(first), topology.record(job_id))
        pipeline.zadd(topology.index("submitted"), dict.fromkeys(ids, score))
        await pipeline.execute()
    seen: list[str] = []
    cursor = ""
    for _ in range(70):
        body = (await house.http("GET", f"/jobs?limit=10{cursor}")).body
        seen += [each["id"] for each in body["jobs"]]
        if body["next"] is None:
            break
        cursor = f"&cursor={body['next']}"
    assert sorted(seen) == sorted([*ids, first])
