"""`GET /jobs/{id}/events`: all events about a job and no others, however old or many."""

from __future__ import annotations

import base64
import shutil
from typing import Any

import msgspec
import pytest
from deployment import HIGH, LOW, TYPES, Deploy, Deployment
from test_api_keys import Keys
from test_planning import observed, planning
from test_suspension import TYPES as PAUSING

from carbon_orchestrator.config import Retention
from carbon_orchestrator.contract import live_views
from carbon_orchestrator.gateway.live.occurrence import occurrences
from carbon_orchestrator.gateway.lookup import walk
from streams.archive import Archive
from streams.connection import connect
from streams.history import History
from streams.testing import until


async def pages(house: Deployment, job_id: str, query: str = "") -> list[dict[str, Any]]:
    """The bodies of all pages."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = await house.http("GET", f"/jobs/{job_id}/events?{query}{cursor}")
        assert answer.status == 200, answer.body
        view = msgspec.convert(answer.body, live_views.JobEvents)
        assert msgspec.to_builtins(view) == answer.body
        found.append(answer.body)
        if answer.body["next"] is None:
            return found
        cursor = f"&cursor={answer.body['next']}"


async def events(house: Deployment, job_id: str, query: str = "") -> list[dict[str, Any]]:
    return [each for page in await pages(house, job_id, query) for each in page["events"]]


async def recorded(house: Deployment, job_id: str) -> list[tuple[str, str]]:
    """Stream and id of all events about the job, by reading everything there is."""
    topology = house.topology
    archive = Archive(house.data / "archive", topology.partition)
    names = [topology.partition.name(each) for each in topology.streams]
    found: list[tuple[str, str]] = []
    async with connect(house.url) as client:
        history = History(client, archive, topology.partition)
        async for name, entry_id, fields in history.merged(names):
            events = occurrences(name, (entry_id, fields), topology.partition.number)
            found += [(name, each.id) for each in events if each.job == job_id]
    return found


def places(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["stream"], each["id"]) for each in found]


async def noise(house: Deployment, number: int) -> None:
    """Events about other jobs in every stream that may be searched."""
    topology = house.topology
    streams = [topology.jobs, topology.jobs_urgent, topology.completions, topology.emissions]
    streams += [topology.deferrals, *topology.dispatch_lanes("fast")]
    async with house.redis.pipeline(transaction=False) as pipeline:
        for stream in streams:
            for _ in range(number):
                pipeline.xadd(stream, {"type": "job.cancel_requested", "data": b'{"job_id":"x"}'})
        await pipeline.execute()


async def run_some(house: Deployment) -> list[str]:
    """Jobs of all fates, among others; their ids."""
    await house.gateway()
    house.router()
    house.worker("fast")
    house.worker("eco")
    await house.intensity(HIGH)
    await house.routing()
    waited = await house.post("quick", urgency="flexible", deadline="6h")
    cancelled = await house.post("quick", urgency="flexible", deadline="6h")
    await house.reach(waited, "deferred")
    await house.reach(cancelled, "deferred")
    assert (await house.http("DELETE", f"/jobs/{cancelled}")).status == 202
    await house.reach(cancelled, "cancelled")
    failed = await house.post("broken", urgency="urgent", max_attempts=3)
    await house.reach(failed, "failed")
    await house.publish({"type": "quick", "deadline": "2001-01-01T00:00:00Z"})
    (rejected,) = await house.counted("rejected", 1)
    batch = b'[{"type":"job.submitted","data":{"type":"quick","urgency":"urgent"}}]'
    await house.redis.xadd(house.topology.jobs, {"batch": batch})
    (published,) = await house.counted("completed", 1)
    await house.intensity(LOW)
    await house.reach(waited, "completed")
    return [waited, cancelled, failed, rejected, published]


async def test_what_is_told_of_a_job_is_what_is_on_record(deploy: Deploy) -> None:
    house = deploy()
    jobs = await run_some(house)
    told = {job_id: await events(house, job_id) for job_id in jobs}
    for job_id, found in told.items():
        assert places(found) == await recorded(house, job_id)
        assert found[0]["type"] == "job.submitted"
    waited, cancelled, failed, rejected, published = [
        [each["type"] for each in found] for found in told.values()
    ]
    run = ["job.dispatched", "job.started", "job.completed", "emissions.recorded"]
    assert sorted(waited) == sorted(["job.submitted", "job.deferred", *run])
    assert cancelled[-2:] == ["job.cancel_requested", "job.cancelled"]
    assert failed.count("job.dispatched") == failed.count("job.failed") == 3
    assert failed.count("emissions.recorded") == 3
    assert rejected == ["job.submitted", "job.rejected"]
    assert sorted(published) == sorted(["job.submitted", *run])
    assert told[jobs[0]][1]["data"]["decision"]["reason"]


async def test_a_page_has_a_limit_and_a_cursor(deploy: Deploy) -> None:
    house = deploy()
    jobs = await run_some(house)
    for job_id in jobs:
        whole = await events(house, job_id)
        parts = await pages(house, job_id, "limit=1")
        assert [each for part in parts for each in part["events"]] == whole
        assert all(len(part["events"]) <= 2 for part in parts)
        assert len(parts) >= len(whole) / 2


async def test_a_request_looks_at_so_many_entries_and_no_more(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy()
    await house.gateway()
    house.router()
    await house.intensity(LOW)
    await noise(house, 200)
    waiting = await house.post("hold", urgency="urgent")
    await house.reach(waiting, "dispatched")
    await noise(house, 200)
    house.worker("fast")
    await house.reach(waiting, "running")
    await noise(house, 200)
    house.release()
    await house.reach(waiting, "completed")
    await noise(house, 200)
    whole = await pages(house, waiting)
    assert len(whole) == 1
    monkeypatch.setattr(walk, "BUDGET", 100)
    parts = await pages(house, waiting)
    assert 10 < len(parts) < 60
    assert [each for part in parts for each in part["events"]] == whole[0]["events"]
    assert places(whole[0]["events"]) == await recorded(house, waiting)
    assert len(whole[0]["events"]) == 5
    monkeypatch.setattr(walk, "BUDGET", 10_000)
    monkeypatch.setattr(walk, "BUDGET_SECONDS", 0.0)
    late = await house.http("GET", f"/jobs/{waiting}/events")
    assert len(late.body["events"]) <= 1
    assert late.body["next"], "it goes on, however slow the way"


async def test_what_is_archived_is_told_too_and_said_to_be_missing_without_the_archive(
    deploy: Deploy,
) -> None:
    house = deploy(retention=Retention(streams=0))
    jobs = await run_some(house)
    before = {job_id: await events(house, job_id) for job_id in jobs}
    part = house.accounting()
    await house.settled()

    async def trimmed() -> bool:
        await part.role.records.seal()
        await part.role.records.archive()
        return not await house.redis.xlen(house.topology.completions)

    await until(trimmed, 10)
    for job_id in jobs:
        assert await events(house, job_id) == before[job_id]
        assert (await pages(house, job_id, "limit=2"))[0]["incomplete"] is None
    shutil.rmtree(house.data / "archive")
    found = await pages(house, jobs[0])
    assert all(each["stream"] != "completions" for each in found[0]["events"])
    assert "archive" in found[0]["incomplete"]
    assert str(house.data) not in found[0]["incomplete"]


async def test_what_runs_is_told_so_far(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    job_id = await house.post("hold", urgency="urgent")
    assert [each["type"] for each in await events(house, job_id)] == ["job.submitted"]
    house.router()
    house.worker("fast")
    house.worker("eco")
    await house.reach(job_id, "running")
    found = [each["type"] for each in await events(house, job_id)]
    assert found == ["job.submitted", "job.dispatched", "job.started"]
    house.release()
    await house.reach(job_id, "completed")


async def test_what_is_asked_wrongly_is_refused(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    bound = await keys.make("read", "submit", project="mine")
    submit = await keys.make("submit")
    await house.gateway()
    job_id = await house.post("quick", project="theirs")
    deep = "cursor=" + base64.urlsafe_b64encode(b"[1,2,3,[]," + b"[" * 5000).decode().rstrip("=")
    for query in (
        *("limit=0", "limit=501", "limit=x"),
        *("cursor=x", "cursor=W10", "cursor=%C3%A9", deep),
    ):
        answer = await house.http("GET", f"/jobs/{job_id}/events?{query}")
        assert answer.status == 422, query
    unknown = job_id[:5] + ("0" if job_id[5] != "0" else "1") + job_id[6:]
    for each in ("x", unknown):
        assert (await house.http("GET", f"/jobs/{each}/events")).status == 404
    assert (await keys.http(bound, "GET", f"/jobs/{job_id}/events")).status == 404
    assert (await keys.http(submit, "GET", f"/jobs/{job_id}/events")).status == 403
    own = (await keys.submit(bound)).body["id"]
    answer = await keys.http(bound, "GET", f"/jobs/{own}/events")
    assert [each["type"] for each in answer.body["events"]] == ["job.submitted"]


async def test_a_job_that_paused_is_told_whole(deploy: Deploy) -> None:
    house = deploy(**planning(types={**TYPES, **PAUSING}))
    await house.gateway()
    house.router()
    house.worker("fast")
    house.worker("eco")
    await observed(house, 100, 300, 300, 300)
    await house.routing()
    paused = await house.post("saves", deadline="5h", expected_duration="2h", interruptible=True)
    await house.reach(paused, "running", timeout=15)
    await until((house.data / "begun").exists)
    await observed(house, 300, 300, 50, 50, 50)
    await house.reach(paused, "deferred")
    house.release()
    await observed(house, 10, 300, 300, 300)
    await house.reach(paused, "completed", timeout=15)
    found = await events(house, paused)
    assert places(found) == await recorded(house, paused)
    kinds = [each["type"] for each in found]
    assert {"job.suspend_requested", "job.suspended", "job.completed"} <= set(kinds)
    assert kinds.count("job.started") == 2
