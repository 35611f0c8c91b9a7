"""The clients and what goes on: events, output, plans, windows, pages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from cutting import cutting

from carbon_orchestrator import (
    Client,
    Event,
    InvalidJob,
    InvalidRequest,
    NotFound,
    SyncClient,
    Unavailable,
)
from carbon_orchestrator.client import gateway, live
from carbon_orchestrator.testing import HIGH, LOW, Orchestrator
from carbon_orchestrator.worker.context import JobContext

released = threading.Event()


def quick(payload: dict[str, Any], context: JobContext) -> str:
    return "done"


def hold(payload: dict[str, Any], context: JobContext) -> None:
    while not released.wait(0.005) and not context.cancelled():
        pass


@pytest.fixture
def orchestrator_types() -> Iterator[dict[str, Any]]:
    released.clear()
    yield {"quick": quick, "hold": hold, "talk": ["sh", "-c", "echo one; echo two"]}
    released.set()


def port(orchestrator: Orchestrator) -> int:
    return int(orchestrator.url.rpartition(":")[2])


# -- events --------------------------------------------------------------------------------------


async def test_events_of_a_job_as_they_come_and_again(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        seen: list[Event] = []
        listening = asyncio.Event()

        async def listen() -> None:
            async with aclosing(client.events()) as events:
                async for event in events:
                    listening.set()
                    seen.append(event)
                    if event.type == "job.completed" and event.job == held.id:
                        return

        held = await client.submit("hold", urgency="urgent")
        task = asyncio.create_task(listen())
        while not listening.is_set():  # something, so that it is known to listen
            await client.wait(await client.submit("quick", urgency="urgent"), timeout=20)
        released.set()
        await asyncio.wait_for(task, 20)
        assert [(each.stream, each.type) for each in seen][-1] == ("completions", "job.completed")
        assert all(each.at is not None and each.position for each in seen)

        first = seen[0].position
        again = []
        async with aclosing(client.events("job.completed", job=held, after=first)) as events:
            async for event in events:
                again.append(event)
                break
        assert [each.id for each in again] == [seen[-1].id]
        told = [each async for each in client.job_events(held)]
        assert {each.data.get("job_id", held.id) for each in told} == {held.id}
        types = [each.type for each in told]
        assert types[0] == "job.submitted"
        assert {"job.dispatched", "job.started", "job.completed"} <= set(types)
        with pytest.raises(NotFound):
            _ = [each async for each in client.job_events("0-0")]
        with pytest.raises(InvalidRequest, match="types"):
            async for _ in client.events("job.frobbed"):
                pass


async def test_a_line_that_breaks_costs_no_event_and_doubles_none(
    orchestrator: Orchestrator,
) -> None:
    async with (
        cutting(port(orchestrator), lambda number: number % 3 == 2) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}") as listener,
        Client(orchestrator.url) as client,
    ):
        got: list[str] = []
        listening = asyncio.Event()

        async def listen() -> None:
            async with aclosing(listener.events("job.submitted")) as events:
                async for event in events:
                    listening.set()
                    got.append(str(event.job))
                    if event.data.get("payload") == {"last": True}:
                        return

        task = asyncio.create_task(listen())
        sent: list[str] = []

        async def submit(payload: dict[str, Any]) -> None:
            sent.append((await client.submit("quick", payload=payload, urgency="urgent")).id)

        async with asyncio.timeout(40):
            while not listening.is_set():
                await submit({})
            for _ in range(30):
                await submit({})
            await submit({"last": True})
            await task
        assert proxy.lost > 2
        assert got == sent[sent.index(got[0]) :]


async def test_a_gateway_that_stays_away_ends_it() -> None:
    async with Client("http://127.0.0.1:9", patience=0.2) as client:
        with pytest.raises(Unavailable, match="no gateway at"):
            async for _ in client.events():
                pass


def test_a_plain_loop_over_events_can_be_left(orchestrator: Orchestrator) -> None:
    heard = threading.Event()

    def submit() -> None:
        while not heard.is_set():
            orchestrator.client.submit("quick", urgency="urgent")
            heard.wait(0.05)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        with SyncClient(orchestrator.url) as client:
            for event in client.events(["job.started", "job.completed"]):
                if event.type == "job.completed":
                    break
            heard.set()
            assert event.job is not None
            assert client.job(event.job).succeeded
            told = [each.type for each in client.job_events(event.job)]
            assert "job.completed" in told
    finally:
        heard.set()
        thread.join(20)


async def test_a_quiet_line_is_given_up(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: \n")
        await reader.read()
        writer.close()
        left.set()

    left = asyncio.Event()

    monkeypatch.setattr(live, "_QUIET_SECONDS", 0.05)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(url, patience=0) as client:
            with pytest.raises(Unavailable, match=r"no answer in 0\.05 s"):
                async for _ in client.events():
                    pass
        await asyncio.wait_for(left.wait(), 10)


# -- output, plans, windows, pages ---------------------------------------------------------------


async def test_output_as_it_is_and_as_it_comes(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        job = await client.submit("talk", urgency="urgent")
        followed = "".join([text async for text in client.logs(job, follow=True)])
        assert followed == "one\ntwo\n"
        assert "".join([text async for text in client.logs(job, offset=4)]) == "two\n"
        with pytest.raises(NotFound):
            _ = [text async for text in client.logs("0-0")]


async def test_what_would_be_decided(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        plan = await client.plan({"type": "quick", "urgency": "urgent"})
        assert (plan.would, plan.pool, plan.band) == ("dispatch", "fast", "low")
        orchestrator.set_intensity(HIGH)
        plan = await client.plan({"type": "quick", "deadline": "2h", "urgency": "flexible"})
        assert plan.would == "defer"
        assert "300 g/kWh" in plan.reason
        assert "300 gCO2e/kWh (high)" in plan._repr_html_()
        with pytest.raises(InvalidJob, match="urgency"):
            await client.plan({"type": "quick", "urgency": "soon"})
        assert [each async for each in client.jobs()] == []


async def test_the_best_window_and_the_past(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        window = await client.best_window("1s", deadline="1h")
        assert window.best.start >= window.now.start
        assert window.duration_ms == 1000
        assert await client.best_window(1, deadline="1h") is not None
        with pytest.raises(InvalidRequest, match="duration"):
            await client.best_window("soon")
        orchestrator.set_intensity(HIGH)
        past = await client.carbon_history()
        assert [each.intensity for each in past.points][-2:] == [LOW, HIGH]
        pools = {each.site: each for each in await client.pools()}
        assert set(pools) == {"fast", "eco"}
        assert pools["fast"].workers == 1


async def test_jobs_by_what_they_are(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_PAGE", 3)
    async with Client(orchestrator.url) as client:
        many = [
            {"type": "quick", "project": f"p{n % 2}", "urgency": ("urgent", "normal")[n % 2]}
            for n in range(10)
        ]
        jobs = await client.wait(await client.submit_many(many), timeout=20)
        listed = [job.id async for job in client.jobs(project="p1", sort="submitted_at")]
        assert sorted(listed) == sorted(job.id for job in jobs[1::2])
        assert [job.project async for job in client.jobs(urgency="urgent", limit=2)] == ["p0"] * 2
        assert [job async for job in client.jobs(type=["talk", "hold"])] == []
        before = [job async for job in client.jobs(submitted_to=jobs[0].submitted_at)]
        assert before == []
        assert jobs[0].finished_at is not None
        assert "and" not in jobs._repr_html_()
        with pytest.raises(InvalidRequest, match="sort"):
            _ = [job async for job in client.jobs(sort="mood")]
