"""The clients against real gateways, on good lines and bad ones."""

from __future__ import annotations

import asyncio
import doctest
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from cutting import cutting
from deployment import Deploy
from structlog.testing import capture_logs
from test_api_keys import Keys

from carbon_orchestrator import (
    Client,
    Conflict,
    Forbidden,
    Incomplete,
    InvalidJob,
    InvalidRequest,
    Job,
    NotEnded,
    NotFound,
    OrchestratorError,
    SyncClient,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from carbon_orchestrator import testing as testing_module
from carbon_orchestrator.client import asking, blocking, bulk, gateway, live, submitting
from carbon_orchestrator.config import Limits
from carbon_orchestrator.testing import HIGH, Orchestrator
from carbon_orchestrator.worker.context import JobContext

released = threading.Event()


def quick(payload: dict[str, Any], context: JobContext) -> None:
    if payload.get("break"):
        raise ValueError("it broke")


def hold(payload: dict[str, Any], context: JobContext) -> None:
    while not released.wait(0.005) and not context.cancelled():
        pass


@pytest.fixture
def orchestrator_types() -> Iterator[dict[str, Any]]:
    """The names of the default types, so that examples run; without their lengths."""
    released.clear()
    yield {"training": quick, "analytics": quick, "hold": hold}
    released.set()


def run_examples(
    module: ModuleType, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_URL", orchestrator.url)
    monkeypatch.delenv("CARBON_API_KEY", raising=False)
    flags = doctest.ELLIPSIS | doctest.FAIL_FAST
    with capture_logs():  # they would stand among what the examples print
        result = doctest.testmod(module, optionflags=flags)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("module", [gateway, submitting, asking, live, blocking, testing_module])
def test_the_examples_are_true(
    module: ModuleType, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_examples(module, orchestrator, monkeypatch)


# -- what a gateway is asked ---------------------------------------------------------------------


async def test_a_job_from_submission_to_its_end(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        made = await client.submit(
            "training",
            payload={"n": 1},
            urgency="urgent",
            deadline="2h",
            timeout=30,
            project="team/a",
            labels={"run": "7"},
            max_attempts=2,
        )
        assert made.waiting
        states = [job.state async for job in client.follow(made, timeout=10)]
        assert states[-1] == "completed"
        done = await client.job(made)
        assert done.succeeded
        assert (done.pool, done.attempts, done.project, done.labels) == (
            "fast",
            1,
            "team/a",
            {"run": "7"},
        )
        assert [step.event for step in done.timeline][-2:] == ["started", "completed"]
        assert done.energy_j is not None
        assert done.ended_at is not None
        assert done.ended_at >= done.submitted_at

        carbon = await client.carbon()
        assert (carbon.intensity, carbon.band, carbon.simulated) == (50.0, "low", True)
        with pytest.raises(NotFound, match="zone"):
            await client.carbon("atlantis")
        health = await client.health()
        assert health.ok
        assert health.jobs["completed"] == 1
        sums = await client.emissions(by=["project", "type"], first="2020-01-01")
        assert [(row["project"], row["type"]) for row in sums.rows] == [("team/a", "training")]


async def test_why_a_job_waits_and_what_a_cancellation_does(orchestrator: Orchestrator) -> None:
    orchestrator.set_intensity(HIGH)
    async with Client(orchestrator.url) as client:
        made = await client.submit("training", deadline="2h")
        async for job in client.follow(made, timeout=10):
            if job.state == "deferred":
                break
        assert job.planned_start is not None
        assert job.planned_start > job.submitted_at
        assert "300 g/kWh" in (job.reason or "")
        assert (await client.cancel(job)).state == "deferred"
        assert (await client.wait(job, timeout=10)).state == "cancelled"
        assert (await client.cancel(job)).state == "cancelled"


async def test_errors_say_what_is_wrong(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        with pytest.raises(InvalidJob, match="nonsense") as unknown:
            await client.submit("nonsense")
        assert unknown.value.field == "type"
        assert "training" in unknown.value.known
        with pytest.raises(InvalidJob) as labels:
            await client.submit("training", labels={"no name": "x"})
        assert labels.value.field.startswith("labels")
        with pytest.raises(InvalidJob):
            await client.submit("training", deadline="2020-01-01T00:00:00Z")
        with pytest.raises(InvalidRequest, match="key"):
            await client.submit("training", key="a\r\nHost: elsewhere")
        for job_id in ("0-0", "../health", "ü"):
            with pytest.raises(NotFound):
                await client.job(job_id)
            with pytest.raises(NotFound):
                await client.cancel(job_id)
        with pytest.raises(InvalidRequest, match="state"):
            async for _ in client.jobs(state="asleep"):
                pass
        with pytest.raises(InvalidRequest):
            await client.emissions(by="weather")
        done = await client.wait(await client.submit("training", key="one"), timeout=10)
        with pytest.raises(Conflict, match="completed"):
            await client.cancel(done)
        with pytest.raises(Conflict, match="new one"):
            await client.submit("training", payload={"other": 1}, key="one")
        assert (await client.submit("training", key="one")).id == done.id
        broken = await client.submit(
            "training", payload={"break": True}, max_attempts=1, urgency="urgent"
        )
        broken = await client.wait(broken, timeout=10)
        assert not broken.succeeded
        assert "it broke" in (broken.error or "")


async def test_a_key_that_is_not_accepted(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url, api_key="co_nobody_at_all") as client:
        with pytest.raises(Unauthorized, match="CARBON_API_KEY") as error:
            await client.submit("training")
        assert "nobody_at_all" not in str(error.value)


async def test_many_at_once_in_order_and_page_by_page(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_PAGE", 7)
    async with Client(orchestrator.url) as client:
        sweep = [{"type": "training", "payload": {"n": n}} for n in range(25)]
        jobs = await client.submit_many(iter(sweep), key="sweep")
        ended = await client.wait(jobs, timeout=20)
        assert [job.id for job in ended] == [job.id for job in jobs]
        assert [job.payload["n"] for job in ended] == list(range(25))
        listed = [job.id async for job in client.jobs()]
        assert sorted(listed) == sorted(job.id for job in jobs)
        assert [job.id async for job in client.jobs("completed", limit=10)] == listed[:10]
        assert [job async for job in client.jobs(["failed", "rejected"])] == []


async def test_the_wrong_ones_of_many_are_named_and_the_others_made(
    orchestrator: Orchestrator,
) -> None:
    async with Client(orchestrator.url) as client:
        sweep: list[dict[str, Any]] = [{"type": "training"}] * 9
        sweep[3] = {"type": "training", "urgancy": "urgent"}
        sweep[5] = {"type": "training", "payload": {"x": float("nan")}}
        with pytest.raises(Incomplete, match=r"2 of 9.*did you mean urgency") as error:
            await client.submit_many(sweep, at_once=2)
        assert sorted(error.value.errors) == [3, 5]
        made = [job for job in error.value.jobs if job is not None]
        assert len({job.id for job in made}) == 7
        assert len([job async for job in client.jobs()]) == 7


async def test_waiting_has_an_end(orchestrator: Orchestrator) -> None:
    async with Client(orchestrator.url) as client:
        held = await client.submit("hold", urgency="urgent")
        done = await client.submit("training", urgency="urgent")
        await client.wait(done, timeout=10)
        with pytest.raises(NotEnded, match=f"1 of 2.*{held.id}") as error:
            await client.wait([done, held], timeout=0.3)
        assert {job.id: job.ended for job in error.value.jobs} == {done.id: True, held.id: False}
        assert isinstance(error.value, TimeoutError)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.wait(held)
        released.set()
        assert (await client.wait(held.id, timeout=10)).succeeded


async def test_an_api_key_may_do_what_it_may(deploy: Deploy) -> None:
    house = deploy(limits=Limits(rate=40, burst=5))
    keys = Keys(house)
    submit, both = await keys.make("submit"), await keys.make("submit", "read", project="team")
    await house.gateway(require_keys=True)
    house.router()
    async with Client(house.base, api_key="") as nobody:
        with pytest.raises(Unauthorized, match="api_key="):
            await nobody.submit("quick")
        assert (await nobody.health()).jobs == {}
    async with Client(house.base, api_key=submit) as client:
        job = await client.submit("quick")
        with pytest.raises(Forbidden, match="scope read"):
            await client.job(job)
        await client.cancel(job)
        await house.reach(job.id, "cancelled")
        with pytest.raises(Conflict, match="cancelled"):
            await client.cancel(job)
    async with Client(house.base, api_key=both) as client:
        with pytest.raises(NotFound):
            await client.job(job)
        # More than it may make at once: those that are told to wait, wait.
        jobs = await client.submit_many([{"type": "quick"}] * 20, at_once=10)
        assert {each.id async for each in client.jobs()} == {each.id for each in jobs}
        assert (await client.job(jobs[0])).project == "team"
        with pytest.raises(Forbidden, match="team"):
            await client.submit("quick", project="other")


# -- bad lines -----------------------------------------------------------------------------------


def port(orchestrator: Orchestrator) -> int:
    return int(orchestrator.url.rpartition(":")[2])


async def test_replies_that_are_lost_make_no_second_job(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_LINES", 3)
    async with (
        cutting(port(orchestrator), lambda number: number % 2 == 0) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        jobs = await client.submit_many(({"type": "training"} for _ in range(12)), at_once=4)
        assert proxy.lost >= 4, "one for each request"
        proxy.cuts = lambda number: False
        ended = await client.wait(jobs, timeout=30)
        assert all(job.succeeded for job in ended)
    listed = {job.id for job in orchestrator.client.jobs()}
    assert listed == {job.id for job in jobs}
    assert len(listed) == 12


async def test_a_line_that_stays_bad_costs_a_key_that_finds_the_job(
    orchestrator: Orchestrator,
) -> None:
    async with (
        cutting(port(orchestrator), lambda number: True) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", patience=0.3) as client,
    ):
        with pytest.raises(Unavailable, match=r"broke off|no gateway") as error:
            await client.submit("training", payload={"n": 1})
        assert proxy.lost > 0
    async with Client(orchestrator.url) as client:
        again = await client.submit("training", payload={"n": 1}, key=error.value.key)
        assert [job.id async for job in client.jobs()] == [again.id]


Replies = list[Callable[[], web.Response]]


def problem(status: int, kind: str, **headers: str) -> web.Response:
    body = {"type": f"urn:carbon-orchestrator:problem:{kind}", "status": status, "detail": kind}
    return web.json_response(
        body, status=status, content_type="application/problem+json", headers=headers
    )


@asynccontextmanager
async def answering(*replies: web.Response) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A gateway that gives these answers, the last one for ever; its URL and what it was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        asked.append(request)
        reply = replies[min(len(asked), len(replies)) - 1]
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/base", asked
    finally:
        await runner.cleanup()


HEAD = {"id": "0-0", "state": "submitted", "type": "x", "submitted_at": "2026-01-31T18:00:00Z"}


async def test_a_gateway_without_room_is_asked_again_with_the_same_key() -> None:
    async with (
        answering(
            problem(429, "too-many-requests", **{"Retry-After": "0"}),
            problem(503, "server-unavailable", **{"Retry-After": "0"}),
            web.Response(status=502, text="<html>proxy</html>", content_type="text/html"),
            web.json_response(HEAD, status=202),
        ) as (url, asked),
        Client(url, api_key="co_secret") as client,
    ):
        assert (await client.submit("x")).id == "0-0"
    assert {request.path for request in asked} == {"/base/jobs"}
    assert len(asked) == 4
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1
    assert {request.headers["Authorization"] for request in asked} == {"Bearer co_secret"}


async def test_patience_has_an_end() -> None:
    loop = asyncio.get_running_loop()
    async with answering(problem(429, "queue-share", **{"Retry-After": "0"})) as (url, asked):
        began = loop.time()
        async with Client(url, patience=0.3) as client:
            with pytest.raises(TooManyRequests) as error:
                await client.submit("x")
        assert error.value.key is not None
        assert 2 <= len(asked) < 20
        assert loop.time() - began < 5
    async with answering(problem(429, "queue-share", **{"Retry-After": "600"})) as (url, asked):
        async with Client(url) as client:
            with pytest.raises(TooManyRequests) as error:
                await client.health()
        assert error.value.retry_after == 600
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (web.Response(text="hello"), "no gateway of ours"),
        (web.Response(status=404, text="not here"), "no gateway of ours"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "no gateway"),
        (web.json_response([1, 2]), "not understood"),
        (web.json_response({"status": 7}), "not understood"),
    ],
)
async def test_what_is_no_gateway_is_told(reply: web.Response, error: str) -> None:
    async with answering(reply) as (url, asked), Client(url) as client:
        with pytest.raises(OrchestratorError, match=error):
            await client.health()
    assert len(asked) == 1


async def test_what_speaks_no_http_is_told() -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR unknown command 'GET'\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(url, patience=0.1) as client:
            with pytest.raises(Unavailable, match="broke off"):
                await client.health()


async def test_no_answer_within_the_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(url, timeout=0.05, patience=0.1) as client:
            with pytest.raises(Unavailable, match=r"no answer in 0\.05 s"):
                await client.health()
            job = await asyncio.wait_for(_late(client), 10)
    assert job == []


async def _late(client: Client) -> list[Job]:
    with pytest.raises((NotEnded, Unavailable)):
        await client.wait("0-0", timeout=0.05)
    return []


# -- the blocking face ---------------------------------------------------------------------------


async def test_it_works_where_a_loop_runs(orchestrator: Orchestrator) -> None:
    with SyncClient(orchestrator.url) as client:
        job = client.submit("training", urgency="urgent")
        assert client.wait([job], timeout=10)[0].succeeded
        assert [each.state for each in client.follow(job)] == ["completed"]
        assert client.url == orchestrator.url


def test_several_threads_may_share_it(orchestrator: Orchestrator) -> None:
    made: list[Job] = []

    def work() -> None:
        made.extend(orchestrator.client.submit("training") for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({job.id for job in made}) == 20
    assert all(job.succeeded for job in orchestrator.client.wait(made, timeout=20))


def test_an_iteration_that_is_broken_off_leaves_nothing_behind(orchestrator: Orchestrator) -> None:
    with SyncClient(orchestrator.url) as client:
        held = client.submit("hold", urgency="urgent")
        for job in client.follow(held):
            if job.state == "running":
                break
        assert client.job(held).state == "running"
        with pytest.raises(NotEnded):
            list(client.follow(held, timeout=0.05))
        released.set()
        assert client.wait(held, timeout=10).succeeded


def test_an_interrupt_breaks_off_a_wait(orchestrator: Orchestrator) -> None:
    with SyncClient(orchestrator.url) as client:
        held = client.submit("hold", urgency="urgent")
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            client.wait(held, timeout=20)
        timer.join()
        assert client.job(held).state in ("dispatched", "running")
        released.set()


def test_closing_ends_what_others_wait_for(orchestrator: Orchestrator) -> None:
    client = SyncClient(orchestrator.url)
    held = client.submit("hold", urgency="urgent")
    ends: list[BaseException] = []

    def wait() -> None:
        try:
            for job in client.follow(held):
                if job.state == "running":
                    running.set()
        except RuntimeError as error:
            ends.append(error)

    running = threading.Event()
    thread = threading.Thread(target=wait)
    thread.start()
    assert running.wait(10)
    client.close()
    thread.join(10)
    released.set()
    assert [str(each) for each in ends] == ["this client has been closed"]


FORK = """
import os, sys
from carbon_orchestrator import SyncClient
client = SyncClient(sys.argv[1])
assert client.health().ok
child = os.fork()
if child == 0:
    sys.exit(0 if client.health().ok else 1)
assert os.waitpid(child, 0)[1] == 0, "the child"
assert client.health().ok
print("both")
"""


def test_the_child_of_a_fork_connects_anew_and_nobody_has_to_close(
    orchestrator: Orchestrator,
) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, orchestrator.url],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("both\n", "", 0)
    assert time.monotonic() - began < 10, "a connection hung until its timeout"
