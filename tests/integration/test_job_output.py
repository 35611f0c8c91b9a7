"""What jobs write and how far they are: seen while they run, kept after, bounded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from deployment import LOW, Deploy, Deployment

from carbon_orchestrator.clock import GridClock, parse_time
from carbon_orchestrator.config import JobType, Limits
from carbon_orchestrator.gateway.lookup import logs
from streams.testing import until


def told(name: str, **more: Any) -> JobType:
    return JobType(python=f"telling_handlers:{name}", timeout=30, grace=0.3, **more)


TYPES = {
    "talk": told("talk", max_attempts=3),
    "chatter": told("chatter"),
    "unicode": told("unicode_text"),
    "silent": JobType(python="job_handlers:hold_thread", timeout=30, grace=0.3),
    "echo": JobType(command=["cat"]),
    "forever": JobType(
        command=["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"],
        timeout=60,
        grace=0.2,
        max_attempts=5,
    ),
}


@pytest.fixture
async def house(deploy: Deploy) -> Deployment:
    house = deploy(types=TYPES)
    await house.gateway()
    house.router()
    house.accounting()
    house.worker("fast")
    await house.intensity(LOW)
    return house


async def text(house: Deployment, job_id: str, query: str = "") -> str:
    answer = await house.http("GET", f"/jobs/{job_id}/logs{query}")
    assert answer.status == 200, answer.body
    return str(answer.body.decode())


async def says(house: Deployment, job_id: str, words: str) -> str:
    """Wait until the output has these words."""

    async def there() -> str | None:
        found = await text(house, job_id)
        return found if words in found else None

    return str(await until(there, 15))


async def far(house: Deployment, job_id: str, fraction: float) -> dict[str, Any]:
    """Wait until the job says that it is so far."""

    async def there() -> dict[str, Any] | None:
        progress = (await house.job(job_id)).get("progress") or {}
        return progress if progress.get("fraction") == fraction else None

    return dict(await until(there) or {})


@asynccontextmanager
async def following(
    house: Deployment, job_id: str, query: str = "", **headers: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    url = f"{house.base}/jobs/{job_id}/logs?follow=true{query}"
    timeout = aiohttp.ClientTimeout(total=20)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, headers=headers) as response,
    ):
        assert response.status == 200
        yield response


async def test_output_and_progress_are_seen_while_a_job_runs(house: Deployment) -> None:
    job_id = await house.post("talk", urgency="urgent")
    assert await says(house, job_id, "begins") == "attempt 1 begins\n"
    progress = await far(house, job_id, 0.25)
    assert progress["message"] == "first part"
    assert progress["finish_at"] is not None
    (listed,) = (await house.http("GET", "/jobs?state=running")).body["jobs"]
    assert listed["progress"]["fraction"] == 0.25
    assert (await house.job(job_id))["log"] == {"bytes": 17, "from": 0}
    (house.data / "go-on").touch()
    progress = await far(house, job_id, 0.75)
    assert parse_time(progress["finish_at"]) >= parse_time(progress["at"])
    house.release()
    await house.reach(job_id, "completed")
    # At once: the end is recorded after the last of the output.
    assert await text(house, job_id) == "attempt 1 begins\nthe second part\nbye\n"
    job = await house.job(job_id)
    assert "progress" not in job
    assert job["runs"][0]["output"] == await text(house, job_id)
    keys = [house.topology.output(job_id), house.topology.progress(job_id, 1)]
    week = 7 * 86400

    async def tidied() -> bool:
        return 0 < await house.redis.ttl(keys[0]) <= week and not await house.redis.exists(keys[1])

    await until(tidied)


async def test_a_job_is_followed_until_it_ends(house: Deployment) -> None:
    job_id = await house.post("talk", urgency="urgent")
    async with following(house, job_id) as answer:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["Carbon-Log-Offset"] == "0"
        assert await answer.content.readline() == b"attempt 1 begins\n"
        (house.data / "go-on").touch()
        assert await answer.content.readline() == b"the second part\n"
        house.release()
        assert await answer.content.read() == b"bye\n"
    async with following(house, job_id, "&offset=8") as answer:  # it has ended
        assert answer.headers["Carbon-Log-Offset"] == "8"
        assert (await answer.content.read()).startswith(b"1 begins\n")


async def test_attempts_come_one_after_the_other_and_are_told_apart(house: Deployment) -> None:
    (house.data / "go-on").touch()
    house.release()
    job_id = await house.post("talk", urgency="urgent", payload={"until": 2})
    async with following(house, job_id, Accept="application/x-ndjson") as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) async for line in answer.content if line.strip()]
    assert {line["attempt"] for line in lines} == {1, 2}
    said = {
        attempt: "".join(line["text"] for line in lines if line["attempt"] == attempt)
        for attempt in (1, 2)
    }
    assert said[1].startswith("attempt 1 begins\nthe second part\nTraceback")
    assert said[1].endswith("ValueError: not yet\n")
    assert said[2] == "attempt 2 begins\nthe second part\nbye\n"
    second = next(line["offset"] for line in lines if line["attempt"] == 2)
    assert second == len(said[1].encode())
    assert await text(house, job_id) == said[1] + said[2]
    assert await text(house, job_id, f"?offset={second}") == said[2]


async def test_characters_are_not_split(house: Deployment) -> None:
    job_id = await house.post("unicode", urgency="urgent")
    async with following(house, job_id, Accept="application/x-ndjson") as answer:
        whole = ""
        while not whole.endswith("\n"):
            line = await answer.content.readline()
            whole += json.loads(line)["text"] if line.strip() else ""
        house.release()
    assert whole == "grün ☀\n"
    assert await text(house, job_id) == "grün ☀\n"


async def test_no_more_is_kept_than_configured(deploy: Deploy) -> None:
    house = deploy(types=TYPES, limits=Limits(output=5000))
    await house.gateway()
    house.router()
    house.worker("fast")
    await house.intensity(LOW)
    job_id = await house.post("chatter", urgency="urgent", payload={"bytes": 100_000})
    last = await says(house, job_id, f"{999:099}\n")
    assert 5000 <= len(last) < 5000 + (16 << 10) + 100
    answer = await house.http("GET", f"/jobs/{job_id}/logs?offset=10")
    assert int(answer.headers["Carbon-Log-Offset"]) == 100_000 - len(last)
    job = await house.job(job_id)
    assert job["log"] == {"bytes": 100_000, "from": 100_000 - len(last)}
    house.release()


async def test_where_no_output_is_kept_its_end_is_on_record(deploy: Deploy) -> None:
    house = deploy(types=TYPES, limits=Limits(output=0))
    await house.gateway()
    house.router()
    house.worker("fast")
    await house.intensity(LOW)
    job_id = await house.post("echo", urgency="urgent", payload={"a": 1})
    await house.reach(job_id, "completed")
    assert await text(house, job_id) == '{"a": 1}'
    assert await text(house, job_id, "?follow=true&offset=4") == ": 1}"
    assert (await house.job(job_id))["log"] == {"bytes": 8, "from": 0}


async def test_output_that_is_whole_on_record_outlives_its_log(house: Deployment) -> None:
    (house.data / "go-on").touch()
    house.release()
    job_id = await house.post("talk", urgency="urgent")
    await house.reach(job_id, "completed")

    async def shown() -> tuple[str, str, str, Any]:
        async with following(house, job_id, "&offset=8", Accept="application/x-ndjson") as answer:
            lines = [json.loads(line) async for line in answer.content if line.strip()]
        assert {line["attempt"] for line in lines} == {1}
        assert (lines[0]["offset"], lines[-1]["end"]) == (8, job_bytes)
        rest = "".join(line["text"] for line in lines)
        whole, part = await text(house, job_id), await text(house, job_id, "?offset=20")
        return whole, part, rest, (await house.job(job_id))["log"]

    job_bytes = (await house.job(job_id))["log"]["bytes"]
    before = await shown()

    async def short_lived() -> bool:
        return bool(0 < await house.redis.ttl(house.topology.output(job_id)) <= 600)

    await until(short_lived)
    await house.redis.delete(house.topology.output(job_id))
    assert await shown() == before


async def test_a_silent_job_has_an_empty_log_and_leaves_nothing(house: Deployment) -> None:
    job_id = await house.post("silent", urgency="urgent")
    await house.reach(job_id, "running")
    progress = (await house.job(job_id))["progress"]
    assert (progress["fraction"], progress["message"], progress["finish_at"]) == (None, None, None)
    async with following(house, job_id) as answer:
        house.release()
        assert await answer.content.read() == b""
    assert await text(house, job_id) == ""
    assert not await house.redis.exists(house.topology.output(job_id))


async def test_who_says_nothing_is_expected_to_take_its_usual_time(house: Deployment) -> None:
    job_id = await house.post("silent", urgency="urgent", expected_duration="10m")
    await house.reach(job_id, "running")
    progress = (await house.job(job_id))["progress"]
    took = parse_time(progress["finish_at"]) - parse_time(progress["at"])
    assert took == pytest.approx(600_000, abs=2000)
    house.release()


@pytest.mark.parametrize("query", ["?offset=-1", "?offset=x", "?follow=1", "?offset=" + "9" * 5000])
async def test_wrong_queries_are_refused(house: Deployment, query: str) -> None:
    house.release()
    job_id = await house.post("echo", urgency="urgent")
    answer = await house.http("GET", f"/jobs/{job_id}/logs{query}")
    assert (answer.status, answer.body["field"]) == (422, query[1:].partition("=")[0])


async def test_a_job_that_there_is_not_has_no_log(house: Deployment) -> None:
    answer = await house.http("GET", f"/jobs/{'0' * 26}-0/logs?follow=true")
    assert (answer.status, answer.body["title"]) == (404, "No such job")
    house.release()


async def test_followers_are_let_go_when_the_gateway_stops(house: Deployment) -> None:
    """And can tell that it was not the job that ended."""
    job_id = await house.post("talk", urgency="urgent")
    async with following(house, job_id) as answer:
        assert await answer.content.readline() == b"attempt 1 begins\n"
        await house.gateways[0].stop()
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()
    house.parts.remove(house.gateways[0])
    (house.data / "go-on").touch()


async def test_an_answer_that_fails_on_its_way_is_broken_off(
    house: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said in the midst of it that would be taken for output."""
    job_id = await house.post("talk", urgency="urgent")
    await says(house, job_id, "begins")
    found = logs.pieces

    def once(*reply: Any) -> Any:
        monkeypatch.setattr(logs, "pieces", failing)
        return found(*reply)

    def failing(*_: Any) -> Any:
        raise RuntimeError("as told")

    monkeypatch.setattr(logs, "pieces", once)
    monkeypatch.setattr(logs, "ENTRIES", 1)
    port = house.base.rpartition(":")[2]
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(f"GET /jobs/{job_id}/logs HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"11\r\nattempt 1 begins\n\r\n", "and no chunk says that it was all"
    (house.data / "go-on").touch()
    house.release()


CONFIG = """
namespace = "{namespace}"
lease = "1s"
[types.forever]
command = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"]
"""


async def test_another_worker_goes_on_where_one_was_killed(deploy: Deploy) -> None:
    """What it had told is there, and the attempts are apart."""
    house = deploy(types=TYPES)
    await house.gateway()
    house.router()
    await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
    config = house.data / "config.toml"
    config.write_text(CONFIG.format(namespace=house.config.namespace))
    command = ["worker", "--pool", "fast", "--redis", house.url, "--config", str(config)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "carbon_orchestrator", *command, "--data", str(house.data)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await house.intensity(LOW)
        job_id = await house.post("forever", urgency="urgent")
        await says(house, job_id, "1\n2\n3\n")
    finally:
        process.kill()
        await process.wait()
    before = await text(house, job_id)
    house.worker("fast")
    await says(house, job_id, before + "1\n2\n3\n")
    await house.http("DELETE", f"/jobs/{job_id}")
    await house.reach(job_id, "cancelled")
    assert re.fullmatch(r"(?:\d+\n)+", await text(house, job_id))


class Program:
    """`carbon-orchestrator logs`, as a person starts it."""

    def __init__(self, house: Deployment, *arguments: str, **environment: str) -> None:
        self._command = [sys.executable, "-m", "carbon_orchestrator", "logs", *arguments]
        self._environment = {**os.environ, "CARBON_URL": house.base, **environment}
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> asyncio.subprocess.Process:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, stdout=PIPE, stderr=PIPE, env=self._environment
        )
        return self.process

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


async def printed(house: Deployment, *arguments: str, **environment: str) -> tuple[int, str, str]:
    async with asyncio.timeout(30), Program(house, *arguments, **environment) as process:
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def test_the_command_follows_until_the_job_ends_or_it_is_interrupted(
    house: Deployment,
) -> None:
    job_id = await house.post("talk", urgency="urgent")
    async with asyncio.timeout(30), Program(house, job_id, "-f") as one:
        assert one.stdout is not None
        assert await one.stdout.readline() == b"attempt 1 begins\n"
        one.send_signal(signal.SIGINT)
        assert await one.wait() == 130
        assert one.stderr is not None
        assert await one.stderr.read() == b""
    async with asyncio.timeout(30), Program(house, job_id, "--follow") as other:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"attempt 1 begins\n"
        (house.data / "go-on").touch()
        house.release()
        assert await other.stdout.read() == b"the second part\nbye\n"
        assert await other.wait() == 0


async def test_the_command_tells_attempts_apart(house: Deployment) -> None:
    (house.data / "go-on").touch()
    house.release()
    job_id = await house.post("talk", urgency="urgent", payload={"until": 2})
    await house.reach(job_id, "completed")
    kept = await text(house, job_id)
    assert await printed(house, job_id) == (0, kept, "")
    _, terminal, _ = await printed(house, job_id, FORCE_COLOR="1")
    first, second = kept.split("attempt 2 begins")
    seen = re.sub(r"\x1b\[[0-9;]*m", "", terminal)
    assert seen == f"{first}— attempt 2 —\nattempt 2 begins{second}"
    status, lines, _ = await printed(house, job_id, "--json", "--offset", "8")
    pieces = [json.loads(line) for line in lines.splitlines()]
    assert status == 0
    assert "".join(each["text"] for each in pieces) == kept[8:]
    assert (pieces[0]["offset"], pieces[-1]["end"]) == (8, len(kept))
    assert {each["attempt"] for each in pieces} == {1, 2}


async def test_the_command_says_that_there_is_no_such_job(house: Deployment) -> None:
    house.release()
    status, out, err = await printed(house, "no-such-job", "-f")
    assert (status, out) == (1, "")
    assert "no job has this id" in err
