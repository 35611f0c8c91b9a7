"""`replay`: the record shown, and played to another deployment."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deployment import Deploy, Deployment

from carbon_orchestrator.accounting.record_keeping import RecordKeeping
from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app
from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.config import Retention
from carbon_orchestrator.runtime import Runtime
from streams.testing import until


@pytest.fixture
async def house(deploy: Deploy) -> Deployment:
    """A deployment that had some jobs, of which the first events are archived."""
    house = deploy(retention=Retention(streams=0, max_entries=1))
    await house.all()
    for project in ("tests", "night", "tests"):
        await house.post("quick", urgency="urgent", project=project)
    await house.publish({"type": "quick", "urgency": "urgent", "project": "night"})
    await house.counted("completed", 4, timeout=20)
    await house.settled()
    runtime = Runtime(house.url, house.config)
    records = RecordKeeping(runtime, house.data / "archive")
    await records.seal()

    async def archived() -> bool:
        await records.archive()  # the deployment's own may be at it
        return bool(await house.redis.hget(house.topology.archived, "jobs.urgent"))

    await until(archived, 20)
    await runtime.aclose()
    soon = (datetime.now(UTC) + timedelta(hours=20)).isoformat()
    await house.post("quick", urgency="urgent", project="day", deadline=soon)
    await house.counted("completed", 5, timeout=20)
    await house.settled()
    return house


def arguments(house: Deployment, *more: str) -> list[str]:
    path = house.data / "config.toml"
    path.write_text(f'namespace = "{house.config.namespace}"\n')
    given = ["replay", "--config", str(path), "--data", str(house.data), "--redis", house.url]
    return [*given, *more]


async def replay(house: Deployment, *more: str) -> int:
    def run() -> int:
        try:
            return told(app, arguments(house, *more))
        except SystemExit as ended:
            return int(ended.code or 0)

    return await asyncio.to_thread(run)


async def lines(house: Deployment, capsys: Any, *more: str) -> list[Any]:
    assert await replay(house, "--json", *more) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_archive_and_live_are_told_as_one(house: Deployment, capsys: Any) -> None:
    told_all = await lines(house, capsys)
    orders = [tuple(map(int, each["entry"].split("-"))) for each in told_all]
    assert orders == sorted(orders)
    assert {each["stream"] for each in told_all} >= {"jobs", "jobs.urgent", "emissions"}
    ended = [each for each in told_all if each["type"] == "job.completed"]
    assert len(ended) == 5
    chosen = await lines(house, capsys, "--type", "job.completed", "--type", "job.started")
    assert [each for each in chosen if each["type"] == "job.completed"] == ended
    job = ended[0]["data"]["job_id"]
    of_job = await lines(house, capsys, "--job", job)
    types = [each["type"] for each in of_job]
    assert types[0] == "job.submitted"
    assert sorted(types[1:]) == [
        "emissions.recorded",
        "job.completed",
        "job.dispatched",
        "job.started",
    ]
    night = await lines(house, capsys, "--project", "night")
    assert {each["type"] for each in night} == set(types)
    assert len([each for each in night if each["type"] == "job.started"]) == 2
    assert len(await lines(house, capsys, "--stream", "completions", "--limit", "3")) == 3


async def test_from_and_to(house: Deployment, capsys: Any) -> None:
    everything = await lines(house, capsys)
    begin, end = everything[3]["time"], everything[-4]["time"]
    part = await lines(house, capsys, "--from", begin, "--to", end)
    assert part == [each for each in everything if begin <= each["time"] <= end]
    assert await lines(house, capsys, "--from", "1h") == everything
    assert await lines(house, capsys, "--to", "1h") == []


async def test_lines_for_people(house: Deployment, capsys: Any) -> None:
    await house.publish(b'\x1b[31m{"broken', stream=house.topology.jobs)
    assert await replay(house) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    texts = out.splitlines()
    assert any("job.completed" in line and "attempt 1 on FAST, ran" in line for line in texts)
    assert any("cannot be decoded" in line for line in texts)
    assert any("job.dispatched" in line and "urgent" in line for line in texts)
    assert all(line[:4].isdigit() for line in texts)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--stream", "job"], "no such stream"),
        (["--type", "job.done"], "no such type"),
        (["--from", "yesterday"], "such as 2026-01-31T18:00Z"),
        (["--limit", "0"], "above 0"),
        (["--speed", "5"], "need --publish-to"),
        (["--publish-to", "jobs", "--archive-only"], "needs --target"),
    ],
)
async def test_wrong_usage(deploy: Deploy, wrong: list[str], said: str, capsys: Any) -> None:
    assert await replay(deploy(), *wrong) == 2
    assert said in capsys.readouterr().err


async def test_a_missing_archive_is_told(house: Deployment, capsys: Any, tmp_path: Path) -> None:
    assert await replay(house, "--archive", str(tmp_path / "nowhere")) == 1
    assert "name it with --archive" in capsys.readouterr().err


async def test_an_archive_alone(house: Deployment, capsys: Any) -> None:
    alone = await lines(house, capsys, "--archive-only", "--type", "job.completed")
    assert len(alone) == 4


async def test_another_deployment_runs_the_jobs_again(
    house: Deployment, deploy: Deploy, capsys: Any
) -> None:
    other = deploy()
    submissions = await lines(house, capsys, "--type", "job.submitted")
    there = ("--target-namespace", other.config.namespace)
    assert await replay(house, "--publish-to", "jobs", "--target", house.url, *there) == 0
    assert "5 events published to jobs" in capsys.readouterr().err
    before = await lines(house, capsys, "--type", "job.completed")
    await other.all()
    done = await other.counted("completed", 5, timeout=20)
    assert set(done) == {each["data"]["job_id"] for each in before}
    assert [each for each in submissions if "deadline" in each["data"]]
    for each in submissions:
        job_id, deadline = each["data"].get("job_id"), each["data"].get("deadline")
        if deadline is None:
            continue
        job = await other.job(job_id)
        ahead = parse_time(job["deadline"]) - parse_time(job["submitted_at"])
        # It came a moment after it was published.
        assert 0 <= parse_time(deadline) - each["data"]["submitted_at"] - ahead < 20_000
        assert parse_time(job["submitted_at"]) > each["data"]["submitted_at"]
    # Once more makes no further jobs.
    assert await replay(house, "--publish-to", "jobs", *there) == 0
    await other.settled()
    assert len(await other.counted("completed", 5)) == 5
    assert await other.dead_letters() == []


async def test_one_project_in_its_old_rhythm(
    house: Deployment, deploy: Deploy, capsys: Any
) -> None:
    other = deploy()
    options = ["--project", "night", "--speed", "1000"]
    there = ["--publish-to", "jobs", "--target-namespace", other.config.namespace]
    assert await replay(house, *there, *options) == 0
    events = await other.events(other.topology.jobs)
    assert [each.project for each in events] == ["night", "night"]
    assert all(each.submitted_at is None for each in events)


async def test_no_stream_is_published_onto_itself(house: Deployment, capsys: Any) -> None:
    url = house.url.replace("127.0.0.1", "localhost")
    before = await house.redis.xlen(house.topology.jobs)
    assert await replay(house, "--publish-to", "jobs", "--target", url) == 2
    assert "onto itself" in capsys.readouterr().err
    assert await house.redis.xlen(house.topology.jobs) == before


async def test_the_login_of_the_records_server_is_not_sent_to_another(
    house: Deployment, deploy: Deploy, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    # The record's server asks for a login, the other one knows none and would refuse any.
    await house.redis.acl_setuser(
        "carbon-r", enabled=True, passwords=["+canary"], keys=["*"], categories=["+@all"]
    )
    try:
        monkeypatch.setenv("CARBON_REDIS_USERNAME", "carbon-r")
        monkeypatch.setenv("CARBON_REDIS_PASSWORD", "canary")
        asked: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.read(4096))
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            url = f"redis://127.0.0.1:{port}"
            there = ("--target", url, "--target-namespace", "other")
            await replay(house, "--publish-to", "jobs", *there)
        assert asked
        assert not any(b"canary" in each for each in asked)
    finally:
        await house.redis.acl_deluser("carbon-r")


async def test_a_closed_pipe_and_an_interruption_end_it_quietly(
    house: Deployment, deploy: Deploy
) -> None:
    program = [sys.executable, "-m", "carbon_orchestrator"]
    piped = await asyncio.create_subprocess_exec(
        *program, *arguments(house, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert piped.stdout is not None
    piped.stdout._transport.close()  # type: ignore[attr-defined]
    other = deploy()
    slow = ["--publish-to", "jobs", "--speed", "0.00001"]
    process = await asyncio.create_subprocess_exec(
        *program,
        *arguments(house, *slow, "--target-namespace", other.config.namespace),
        stderr=subprocess.PIPE,
    )

    async def published() -> bool:
        return bool(await other.redis.exists(other.topology.jobs))

    await until(published, 15)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(15):
        _, err = await process.communicate()
        _, piped_err = await piped.communicate()
    assert (process.returncode, err.decode()) == (130, "1 events published to jobs\n")
    assert (piped.returncode, piped_err) == (0, b"")
