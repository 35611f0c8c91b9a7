"""API keys: made and revoked by operators, asked for by gateways, put on record."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from deployment import Answer, Deploy, Deployment

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Limits
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.gateway.door.exposed import Exposed
from carbon_orchestrator.gateway.door.keyring import create_key, read_keys, revoke_key
from carbon_orchestrator.gateway.door.keys import ApiKey, Scope
from carbon_orchestrator.gateway.intake import held as held_module
from carbon_orchestrator.gateway.lookup import listing
from carbon_orchestrator.runtime import Runtime
from streams.commit import Committer
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.testing import until

WHO = "ada@lab"


class Keys:
    """Makes and revokes keys of one deployment, as the command line does."""

    def __init__(self, house: Deployment) -> None:
        self.house = house

    async def make(self, *scopes: Scope, **more: Any) -> str:
        key = ApiKey(name="ci", scopes=scopes, sha256="", created=wall_ms(), **more)
        async with connect(self.house.url) as client:
            committer = Committer(client, self.house.topology.partition)
            return await create_key(committer, self.house.topology, WHO, key)

    async def revoke(self, text: str) -> ApiKey | None:
        async with connect(self.house.url) as client:
            committer = Committer(client, self.house.topology.partition)
            return await revoke_key(client, committer, self.house.topology, WHO, text.split("_")[1])

    async def http(self, key: str | None, method: str, path: str, **options: Any) -> Answer:
        headers = {**options.pop("headers", {})}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return await self.house.http(method, path, headers=headers, **options)

    async def submit(self, key: str | None, job_type: str = "quick", **fields: Any) -> Answer:
        return await self.http(key, "POST", "/jobs", json={"type": job_type, **fields})


def kind(answer: Answer) -> str:
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.body
    return str(answer.body["type"]).rpartition(":")[2]


async def test_scopes_open_what_they_name_and_no_more(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    submit, read, operate = [await keys.make(each) for each in ("submit", "read", "operate")]
    admin = await keys.make("admin")
    await house.gateway(require_keys=True)
    allowed = {
        ("POST", "/jobs"): {submit, admin},
        ("GET", "/jobs"): {read, operate, admin},
        ("GET", "/carbon"): {read, operate, admin},
        ("GET", "/emissions"): {read, operate, admin},
        ("GET", "/metrics"): {read, operate, admin},
    }
    for (method, path), those in allowed.items():
        for key in (submit, read, operate, admin):
            options = {"json": {"type": "quick"}} if method == "POST" else {}
            answer = await keys.http(key, method, path, **options)
            if key in those:
                assert answer.status in (200, 202), (method, path, answer.body)
            else:
                assert (answer.status, kind(answer)) == (403, "scope-missing")
                needed = answer.body["scopes"]
                assert f'scope="{" ".join(needed)}"' in answer.headers["WWW-Authenticate"]
        none = await keys.http(None, method, path)
        assert (none.status, kind(none)) == (401, "key-needed")
        assert none.headers["WWW-Authenticate"].startswith("Bearer")
        forged = await keys.http(f"{read[:-1]}{'A' if read[-1] != 'A' else 'B'}", method, path)
        assert (forged.status, kind(forged)) == (401, "invalid-key")
    given = await house.http("GET", "/jobs", headers={"X-API-Key": read})
    assert given.status == 200
    for path in ("/", "/livez", "/readyz", "/openapi.json"):
        assert (await keys.http(None, "GET", path)).status == 200
    assert set((await keys.http(None, "GET", "/health")).body) == {"status"}
    assert set((await keys.http("co_forged", "GET", "/health")).body) == {"status"}
    assert "jobs" in (await keys.http(read, "GET", "/health")).body


async def test_with_submit_one_cancels_ones_own_with_operate_any(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    one, two = await keys.make("submit"), await keys.make("submit")
    operate, read = await keys.make("operate"), await keys.make("read")
    await house.gateway(require_keys=True)
    house.router()
    jobs = [(await keys.submit(one, urgency="flexible")).body["id"] for _ in range(3)]
    for key, status in ((two, 403), (read, 403), (one, 202)):
        assert (await keys.http(key, "DELETE", f"/jobs/{jobs[0]}")).status == status
    assert (await keys.http(operate, "DELETE", f"/jobs/{jobs[1]}")).status == 202
    await house.reach(jobs[0], "cancelled")
    await house.reach(jobs[1], "cancelled")
    assert await house.state(jobs[2]) != "cancelled"
    acts = [each for each in await house.events(house.topology.operations) if hasattr(each, "who")]
    cancelled = [(each.who, each.subject) for each in acts if each.action == "job.cancel"]
    assert cancelled == [("ci", jobs[1])], "the operator's act, not the submitter's own"


async def test_a_bound_key_lives_in_its_project(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    mine, theirs = [
        await keys.make("submit", "operate", project=each) for each in ("mine", "theirs")
    ]
    everything = await keys.make("admin")
    await house.gateway(require_keys=True)
    house.router()
    house.accounting()
    house.worker("fast")
    await house.intensity(10)
    own = {(await keys.submit(mine)).body["id"] for _ in range(3)}
    own.add((await keys.submit(mine, project="mine")).body["id"])
    other = (await keys.submit(theirs)).body["id"]
    wrong = await keys.submit(mine, project="theirs")
    assert (wrong.status, kind(wrong), wrong.body["field"]) == (403, "project-bound", "project")
    assert (await keys.submit(mine, project="default")).status == 403, "that is another one, too"
    for job_id in own:
        await house.reach(job_id, "completed")
        assert (await keys.http(mine, "GET", f"/jobs/{job_id}")).body["project"] == "mine"
    for method, more in (("GET", ""), ("DELETE", ""), ("GET", "/logs?follow=true")):
        hidden = await keys.http(mine, method, f"/jobs/{other}{more}")
        assert (hidden.status, kind(hidden)) == (404, "no-such-job")
    assert (await keys.http(everything, "GET", f"/jobs/{other}")).status == 200
    listed = (await keys.http(mine, "GET", "/jobs")).body
    assert {each["id"] for each in listed["jobs"]} == own
    assert len((await keys.http(everything, "GET", "/jobs")).body["jobs"]) == 5
    await house.reach(other, "completed")
    await house.settled()
    for by in ("project", "day"):
        rows = (await keys.http(mine, "GET", f"/emissions?by={by}")).body["rows"]
        assert [each["completed"] for each in rows] == [4]
    assert (await keys.http(mine, "GET", "/metrics")).status == 403
    assert set((await keys.http(mine, "GET", "/health")).body) == {"status"}


async def test_pages_of_a_project_show_each_of_its_jobs_once(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few are gone through at a time that some pages are short though others follow.
    monkeypatch.setattr(listing, "_PATIENCE", 0)
    monkeypatch.setattr(listing, "_SLICE_MS", 0)
    house = deploy()
    keys = Keys(house)
    mine, theirs = [await keys.make("submit", "read", project=each) for each in ("m", "t")]
    await house.gateway(require_keys=True)
    monkeypatch.setattr(Runtime, "now", lambda self: moment)
    moment = wall_ms()
    own: set[str] = set()
    others: set[str] = set()
    for number in range(40):
        moment += number % 7 == 0  # several jobs in one millisecond
        answer = await keys.submit(mine if number % 4 == 0 else theirs)
        (own if number % 4 == 0 else others).add(answer.body["id"])
    shown: list[str] = []
    cursor = known = ""
    sizes = []
    for _ in range(50):
        page = (await keys.http(mine, "GET", f"/jobs?limit=5{cursor}")).body
        shown += [each["id"] for each in page["jobs"]]
        sizes.append(len(page["jobs"]))
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
        known += base64.urlsafe_b64decode(page["next"] + "==").decode() + " "
    assert not any(job_id in known for job_id in others), "cursors tell no foreign ids"
    assert len(sizes) > 2
    assert max(sizes) < 5, "short"
    assert len(shown) == len(own)
    assert set(shown) == own


async def test_projects_do_not_meet_in_an_idempotency_key(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    mine, theirs = [await keys.make("submit", project=each) for each in ("m", "t")]
    await house.gateway(require_keys=True)
    same = {"headers": {"Idempotency-Key": "once"}, "json": {"type": "quick"}}
    first = await keys.http(mine, "POST", "/jobs", **same)
    other = await keys.http(theirs, "POST", "/jobs", **same)
    assert (first.status, other.status) == (202, 202)
    assert first.body["id"] != other.body["id"]
    again = await keys.http(mine, "POST", "/jobs", **same)
    assert (again.status, again.body["id"]) == (200, first.body["id"])


async def test_keys_come_and_go_within_two_seconds_and_on_record(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    await house.gateway(require_keys=True)
    key = await keys.make("read", project="p")

    async def status() -> int:
        return (await keys.http(key, "GET", "/jobs")).status

    async def opens() -> bool:
        return await status() == 200

    async def shut() -> bool:
        return await status() == 401

    await until(opens)
    revoked = await keys.revoke(key)
    assert revoked is not None
    await until(shut)
    again = await keys.revoke(key)
    assert again == revoked, "revoked once"
    assert await keys.revoke("co_0000000000_x") is None
    kept = await house.redis.hgetall(house.topology.api_keys)
    assert key.split("_", 2)[2].encode() not in b"".join(kept.values())
    acts = await house.events(house.topology.operations)
    key_id = key.split("_")[1]
    told = [(each.who, each.action, each.subject) for each in acts if hasattr(each, "who")]
    assert told == [(WHO, "key.create", key_id), (WHO, "key.revoke", key_id)]
    assert acts[0].detail == {"name": "ci", "scopes": "read", "project": "p"}


async def test_two_revocations_at_once_are_one_act(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    key = await keys.make("read")
    ends = await asyncio.gather(*(keys.revoke(key) for _ in range(8)))
    assert len({each.revoked for each in ends if each is not None}) == 1
    acts = await house.events(house.topology.operations)
    assert [each.action for each in acts] == ["key.create", "key.revoke"]


async def test_keys_are_known_while_the_server_is_away(
    deploy: Deploy, own_server: EmbeddedServer
) -> None:
    house = deploy(own_server.url)
    keys = Keys(house)
    key = await keys.make("read")
    await house.gateway(require_keys=True)
    assert (await keys.http(key, "GET", "/carbon")).status == 200
    own_server.kill()
    for path, status in (("/livez", 200), ("/jobs", 503)):
        assert (await keys.http(key, "GET", path)).status == status
    assert (await keys.http("co_forged", "GET", "/jobs")).status == 401
    await own_server.start()

    async def back() -> bool:
        return (await keys.http(key, "GET", "/jobs")).status == 200

    await until(back)


async def test_what_is_no_key_on_record_shuts_nobody_out(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    key = await keys.make("read")
    await house.redis.hset(house.topology.api_keys, mapping={"broken": "{", b"\xff": "{}"})
    await house.gateway(require_keys=True)
    assert (await keys.http(key, "GET", "/jobs")).status == 200
    assert list(await read_keys(house.redis, house.topology)) == [key.split("_")[1]]


async def test_no_other_address_without_keys_unless_insecure(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    runtime = Runtime(house.url, house.config)
    with pytest.raises(Exposed, match="keys create"):
        await Gateway(runtime, "0.0.0.0", 0).run()
    await runtime.aclose()
    await house.gateway(host="0.0.0.0", insecure=True)
    assert (await keys.submit(None)).status == 202
    await house.gateway(host="0.0.0.0", insecure=True, named=["127.0.0.1"])
    assert (await keys.submit(None)).status == 202
    foreign = await keys.http(None, "GET", "/jobs", headers={"Host": "rebound.example.org"})
    assert (foreign.status, kind(foreign)) == (403, "foreign-host")
    key = await keys.make("submit")
    await house.gateway(host="0.0.0.0")
    assert (await keys.submit(key)).status == 202
    refused = await keys.submit(None)
    assert (refused.status, kind(refused)) == (401, "key-needed"), "not from loopback, either"


async def test_loopback_needs_no_key_but_is_no_proxy_and_no_page(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    key = await keys.make("submit")
    await house.gateway()
    assert (await keys.submit(None)).status == 202
    for headers, status, why in (
        ({"Host": "rebound.example.org"}, 403, "foreign-host"),
        ({"X-Forwarded-For": "203.0.113.7"}, 401, "key-needed"),
        ({"Origin": "https://evil.example.org"}, 403, "cross-site"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "cross-site"),
    ):
        body = {"json": {"type": "quick"}, "headers": headers}
        refused = await keys.http(None, "POST", "/jobs", **body)
        assert (refused.status, kind(refused)) == (status, why)
        assert (await keys.http(key, "POST", "/jobs", **body)).status == 202
    assert len(await house.ids("submitted")) == 5


async def test_a_key_has_a_rate(deploy: Deploy) -> None:
    house = deploy(limits=Limits(rate=0.5, burst=3))
    keys = Keys(house)
    key, other = await keys.make("read"), await keys.make("read")
    await house.gateway()
    answers = [await keys.http(key, "GET", "/carbon") for _ in range(4)]
    assert [each.status for each in answers] == [200, 200, 200, 429]
    assert kind(answers[3]) == "too-many-requests"
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 2
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=3;w=6'
    assert [each.headers["RateLimit"].split(";")[1] for each in answers] == [
        "r=2",
        "r=1",
        "r=0",
        "r=0",
    ]
    assert (await keys.http(other, "GET", "/carbon")).status == 200
    assert (await keys.http(None, "GET", "/carbon")).status == 200
    metrics = (await keys.http(other, "GET", "/metrics")).body.decode()
    assert 'route="/carbon",status="429"} 1.0' in metrics


async def test_a_key_has_a_share_of_the_queue(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_module, "_SWEEP_SECONDS", 0.1)
    house = deploy(limits=Limits(max_waiting=100, share=0.05))
    keys = Keys(house)
    key, other = await keys.make("submit"), await keys.make("submit")
    await house.gateway()
    assert [(await keys.submit(key)).status for _ in range(5)] == [202] * 5
    refused = await keys.submit(key)
    assert (refused.status, kind(refused)) == (429, "queue-share")
    assert int(refused.headers["Retry-After"]) > 0
    assert (await keys.submit(other)).status == 202
    assert (await keys.submit(None)).status == 202
    house.router()
    house.worker("fast")
    await house.intensity(10)

    async def room() -> bool:
        return (await keys.submit(key)).status == 202

    await until(room)
    await house.settled()
    held = house.topology.held(key.split("_")[1])

    async def few() -> bool:
        return int(await house.redis.zcard(held)) <= 3

    await until(few)
    await keys.revoke(key)
    assert not await house.redis.exists(held)


async def test_so_many_requests_at_a_time(deploy: Deploy) -> None:
    house = deploy(limits=Limits(requests=2))
    await house.gateway()
    loop = asyncio.get_running_loop()
    port = int(house.base.rpartition(":")[2])
    writers = []
    for _ in range(2):  # two whose bodies do not come
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/json; charset=utf-8\r\nContent-Length: 100\r\n\r\n"
        )
        writers.append(writer)

    async def busy() -> bool:
        return (await house.http("GET", "/jobs")).status == 503

    await until(busy)
    assert (await house.http("GET", "/livez")).status == 200
    began = loop.time()
    for writer in writers:
        writer.close()

    async def free() -> bool:
        return (await house.http("GET", "/jobs")).status == 200

    await until(free)
    assert loop.time() - began < 5


async def test_bodies_are_not_read_for_those_who_may_not_send_them(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway(require_keys=True)
    port = int(house.base.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 401 ")
    writer.close()
    assert json.loads(await reader.read(4096))["status"] == 401


async def test_slow_submissions_of_one_key_leave_room_for_others(deploy: Deploy) -> None:
    house = deploy(limits=Limits(requests=4))
    keys = Keys(house)
    slow, other = await keys.make("submit", "read"), await keys.make("read")
    part = await house.gateway(require_keys=True)
    writers = []
    head = f"POST /jobs HTTP/1.1\r\nHost: a\r\nX-API-Key: {slow}\r\nContent-Length: 99\r\n"
    for _ in range(6):
        _, writer = await asyncio.open_connection("127.0.0.1", part.role.port)
        writer.write(f"{head}Content-Type: application/json; charset=utf-8\r\n\r\n".encode())
        writers.append(writer)

    async def busy() -> bool:
        return (await keys.http(slow, "GET", "/jobs")).status == 429

    await until(busy)
    refused = await keys.http(slow, "GET", "/jobs")
    assert refused.headers["Retry-After"] == "1"
    assert "worked on already" in refused.body["detail"]
    assert (await keys.http(other, "GET", "/jobs")).status == 200
    for writer in writers:
        writer.close()

    async def free() -> bool:
        return (await keys.http(slow, "GET", "/jobs")).status == 200

    await until(free)
