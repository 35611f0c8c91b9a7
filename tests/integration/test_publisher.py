"""Jobs published straight to the streams: once, whatever happens to the line."""

from __future__ import annotations

import asyncio
import doctest
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from certificates import make_authority, make_certificate, tls_in_front
from cutting import cutting
from deployment import Deploy

from carbon_orchestrator import (
    Forbidden,
    InvalidJob,
    InvalidRequest,
    Publisher,
    Unavailable,
    publisher,
)
from carbon_orchestrator.permissions import ROLES, rules
from carbon_orchestrator.testing import Orchestrator
from carbon_orchestrator.worker.context import JobContext
from streams.connection import connect
from streams.embedded import free_port
from streams.testing import until


def note(payload: dict[str, Any], context: JobContext) -> None:
    """Does nothing."""


@pytest.fixture
def orchestrator_types() -> dict[str, Any]:
    return {"note": note}


async def completed(orchestrator: Orchestrator, job_ids: list[str]) -> None:
    """Wait until all of them are on record, and completed."""
    client = orchestrator.client

    def all_there() -> bool:
        listed = {job.id for job in client.jobs("completed")}
        return listed >= set(job_ids)

    await until(all_there, 15)


async def entries(orchestrator: Orchestrator) -> int:
    """How many entries there are on the two streams that jobs come in by."""
    async with connect(orchestrator.redis_url) as redis:
        lanes = [f"{orchestrator.namespace}:{{0}}:{name}" for name in ("jobs", "jobs.urgent")]
        return sum([await redis.xlen(lane) for lane in lanes])


def test_the_example_is_true(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBON_REDIS_URL", orchestrator.redis_url)
    result = doctest.testmod(publisher)
    assert result.attempted > 0
    assert result.failed == 0


async def test_what_is_published_again_is_one_job(orchestrator: Orchestrator) -> None:
    async with orchestrator.publisher("billing") as billing:
        job_id = await billing.submit(
            "note", payload={"n": 1}, urgency="urgent", id="invoice-7", project="team"
        )
        assert await billing.submit("note", payload={"n": 1}, id="invoice-7") == job_id
        assert billing.job_id("invoice-7") == job_id
        assert billing.job_id("invoice-7", source="elsewhere") != job_id
        other = await billing.submit("note")
        assert other != await billing.submit("note")
    await completed(orchestrator, [job_id, other])
    job = orchestrator.client.job(job_id)
    assert (job.urgency, job.project, job.payload) == ("urgent", "team", {"n": 1})
    assert len(list(orchestrator.client.jobs())) == 3


async def test_many_in_order(orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "_AT_ONCE", 7)
    async with orchestrator.publisher() as outside:
        jobs = [{"type": "note", "payload": {"n": n}, "id": f"n-{n}"} for n in range(20)]
        ids = await outside.submit_many(jobs)
        assert ids == [outside.job_id(f"n-{n}") for n in range(20)]
        assert await outside.submit_many(iter(jobs)) == ids
        await completed(orchestrator, ids)
        assert orchestrator.client.job(ids[13]).payload == {"n": 13}
        assert len(list(orchestrator.client.jobs())) == 20
        assert await entries(orchestrator) == 40


async def test_replies_that_are_lost_make_no_second_job(orchestrator: Orchestrator) -> None:
    upstream = int(re.findall(r":(\d+)/", orchestrator.redis_url)[0])
    async with cutting(upstream, lambda number: number % 3 == 2) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with Publisher(url, source="far", namespace=orchestrator.namespace) as far:
            ids = await asyncio.gather(*(far.submit("note", id=str(n)) for n in range(20)))
        assert proxy.lost > 0
    await completed(orchestrator, list(ids))
    assert len(list(orchestrator.client.jobs())) == 20
    assert await entries(orchestrator) > 20


async def test_a_cancellation_never_overtakes_its_job(deploy: Deploy) -> None:
    house = deploy()
    await house.intensity(300)
    async with Publisher(house.url, source="x", namespace=house.config.namespace) as outside:
        ids = [await outside.submit("quick", deadline="2h") for _ in range(3)]
        urgent = await outside.submit("quick", urgency="urgent")
        for job_id in (*ids, urgent):
            await outside.cancel(job_id, "thought better of it")
        await outside.cancel("no-such-job")
    house.router()  # finds all of it at once
    for job_id in (*ids, urgent):
        await house.reach(job_id, "cancelled")
        assert await house.field(job_id, "reason") == "thought better of it"
    await house.settled_router()
    assert await house.dead_letters() == []


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ({"type": "note", "urgancy": "urgent"}, "urgancy"),
        ({"type": "note", "urgency": "soon"}, "urgency"),
        ({"type": "note", "payload": {"x": float("inf")}}, "payload"),
        ({"type": "note", "job_id": "0-0"}, "job_id"),
        ({"type": 7}, "type"),
        ({}, "type"),
    ],
)
async def test_what_is_no_job_is_not_published(
    job: dict[str, Any], field: str, orchestrator: Orchestrator
) -> None:
    async with orchestrator.publisher() as outside:
        with pytest.raises(InvalidJob) as error:
            await outside.submit_many([job])
        assert error.value.field == field
        with pytest.raises(InvalidRequest, match="id"):
            await outside.submit("note", id="x" * 1000)
    assert await entries(orchestrator) == 0


async def test_as_the_server_s_user_for_publishers(orchestrator: Orchestrator) -> None:
    user, password = f"publisher-{uuid.uuid4().hex[:6]}", uuid.uuid4().hex
    granted = re.findall(r"\([^)]*\)|\S+", rules(orchestrator.namespace, ROLES["publisher"]))
    async with connect(orchestrator.redis_url) as redis:
        await redis.execute_command("ACL", "SETUSER", user, "on", f">{password}", *granted)
        try:
            url = orchestrator.redis_url.replace(":@", f"{user}:{password}@")
            async with Publisher(url, source="x", namespace=orchestrator.namespace) as allowed:
                job_id = await allowed.submit("note")
                await allowed.cancel(job_id)
                ids = await allowed.submit_many([{"type": "note"}] * 3)
            await completed(orchestrator, ids)
            async with Publisher(url, source="x", namespace="another") as denied:
                with pytest.raises(Forbidden, match="another:"):
                    await denied.submit("note")
            wrong = url.replace(password, "wrong")
            async with Publisher(wrong, source="x", namespace=orchestrator.namespace) as stranger:
                with pytest.raises(Forbidden, match="login") as error:
                    await stranger.submit("note")
                assert "wrong" not in str(error.value)
        finally:
            await redis.execute_command("ACL", "DELUSER", user)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
async def test_over_tls(
    orchestrator: Orchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make_authority(tmp_path, "authority")
    certificate = make_certificate(tmp_path, "server", authority, "127.0.0.1")
    upstream = int(re.findall(r":(\d+)/", orchestrator.redis_url)[0])
    async with tls_in_front(upstream, certificate) as port:
        url, more = f"rediss://:@127.0.0.1:{port}/0", {"namespace": orchestrator.namespace}
        async with Publisher(url, source="far", **more) as trusting_nobody:
            with pytest.raises(Forbidden, match="certificate"):
                await trusting_nobody.submit("note")
        monkeypatch.setenv("CARBON_REDIS_CA", str(authority))
        async with Publisher(url, source="far", **more) as far:
            job_id = await far.submit("note", urgency="urgent")
            await completed(orchestrator, [job_id])


async def test_a_server_that_is_away_costs_an_id_to_go_on_with() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with Publisher(url, source="x", patience=0.2) as waiting:
        with pytest.raises(Unavailable, match="does not take it") as error:
            await waiting.submit("note", id="invoice-7")
    assert error.value.key == "invoice-7"
