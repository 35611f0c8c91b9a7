"""The record of all events: sealed, archived, trimmed, and read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import from_thread
from deployment import Deploy, Deployment

from carbon_orchestrator.accounting.component import Accounting
from carbon_orchestrator.accounting.record_keeping import RecordKeeping
from carbon_orchestrator.config import Archive as ArchiveConfig
from carbon_orchestrator.config import Retention
from carbon_orchestrator.runtime import Runtime
from streams.archive import Archive, Writer
from streams.connection import connect
from streams.history import History
from streams.lines import RawEntry
from streams.proof import prove
from streams.testing import until

NOTHING_KEPT = Retention(streams=0, max_entries=1)


@asynccontextmanager
async def keeper(house: Deployment) -> AsyncIterator[RecordKeeping]:
    runtime = Runtime(house.url, house.config)
    try:
        yield RecordKeeping(runtime, house.data / "archive")
    finally:
        await runtime.aclose()


@asynccontextmanager
async def history(house: Deployment) -> AsyncIterator[History]:
    async with connect(house.url) as client:
        partition = house.topology.partition
        yield History(client, Archive(house.data / "archive", partition), partition)


async def told(past: History, house: Deployment) -> dict[str, list[RawEntry]]:
    names = [house.topology.partition.name(stream) for stream in house.topology.streams]
    return {name: [entry async for entry in past.entries(name)] for name in names}


async def stop_accounting(house: Deployment) -> None:
    """So that only the test seals and archives."""
    await house.settled()
    (accounting,) = (part for part in house.parts if isinstance(part.role, Accounting))
    await accounting.stop()


async def test_what_is_trimmed_is_archived_and_what_waits_stays(deploy: Deploy) -> None:
    house = deploy(retention=NOTHING_KEPT)
    await house.all()
    for _ in range(300):
        await house.post("quick", urgency="urgent")
    await house.counted("completed", 300, timeout=30)
    holder = await house.post("hold", urgency="urgent")
    await house.reach(holder, "running")
    await house.settled_router()
    for part in house.parts[1:]:
        if part.role is not None and part.role.__class__.__name__ != "WorkerRole":
            await part.stop()
    waiting = [await house.post("quick", urgency="urgent") for _ in range(3)]
    jobs = house.topology.jobs_urgent
    live = await house.redis.xlen(jobs)
    async with history(house) as past, keeper(house) as records:
        before = await told(past, house)
        await records.seal()
        await records.archive()
        assert await house.redis.xlen(jobs) < live
        after = await told(past, house)
        seals, sealed = before.pop("seals"), after.pop("seals")
        assert after == before
        assert sealed[: len(seals)] == seals
        proof = await prove(past)
        assert (proof.findings, set(proof.unsealed.values()) <= {0, 1}) == ([], True)
        assert proof.entries >= sum(map(len, before.values()))
    pending = await house.redis.xpending(house.topology.dispatch("fast", "urgent"), "worker")
    assert pending["pending"] == 1
    house.router()
    for job_id in waiting:
        await house.reach(job_id, "completed")
    house.release()
    await house.reach(holder, "completed")


async def test_accounting_seals_and_archives_by_itself(deploy: Deploy) -> None:
    house = deploy(retention=NOTHING_KEPT, archive=ArchiveConfig(seal_every=0.02))
    await house.all()
    await house.post("quick", urgency="urgent")

    async def sealed() -> bool:
        return bool(await house.redis.hget(house.topology.chain, "emissions"))

    await until(sealed, 20)
    async with history(house) as past:
        proof = await prove(past)
        assert proof.findings == []
        assert proof.entries > 5


async def test_a_full_disk_stops_trimming_until_there_is_room(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    house = deploy(retention=NOTHING_KEPT)
    # Without accounting, which may leave a file that needs only be told of, full disk or not.
    await house.gateway()
    house.router()
    house.worker("fast")
    for _ in range(3):
        await house.post("quick", urgency="urgent")
    await house.counted("completed", 3)
    await house.settled()
    finish = Writer.finish

    def full(writer: Writer) -> Any:
        raise OSError(28, "No space left on device")

    async with history(house) as past, keeper(house) as records:
        await records.seal()
        before = await told(past, house)
        moved = await house.redis.hgetall(house.topology.archived)
        monkeypatch.setattr(Writer, "finish", full)
        for _ in range(3):
            await records.archive()
        assert await house.redis.hgetall(house.topology.archived) == moved
        assert await told(past, house) == before
        assert [
            path for path in Path(house.data, "archive").rglob("*") if path.suffix == ".tmp"
        ] == []
        monkeypatch.setattr(Writer, "finish", finish)
        await records.archive()
        archived = await house.redis.hget(house.topology.archived, "jobs.urgent")
        assert archived.decode() == before["jobs.urgent"][-1][0]
        assert await told(past, house) == before
    out = capsys.readouterr()
    said = [line for line in (out.out + out.err).splitlines() if "archiv" in line]
    assert [line for line in said if "No space left" in line][1:] == []
    assert any("works again" in line for line in said)


async def test_the_archive_of_another_deployment_is_refused(deploy: Deploy, tmp_path: Path) -> None:
    house = deploy(retention=NOTHING_KEPT)
    await house.all()
    await house.post("quick", urgency="urgent")
    await house.counted("completed", 1)
    async with keeper(house) as records:
        await records.seal()
        await records.archive()
    await house.post("quick", urgency="urgent")
    await house.counted("completed", 2)
    await stop_accounting(house)
    live = await house.redis.xlen(house.topology.completions)
    runtime = Runtime(house.url, house.config)
    other = RecordKeeping(runtime, tmp_path / "elsewhere")
    await other.seal()
    await other.archive()
    assert await house.redis.xlen(house.topology.completions) == live
    assert list(tmp_path.glob("elsewhere/*/*/*.gz")) == []
    await runtime.aclose()


async def test_a_stop_does_not_wait_for_a_long_archiving(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy(retention=NOTHING_KEPT)
    for _ in range(30):
        await house.redis.xadd(house.topology.deferrals, {"type": "x", "data": "{}"})
    monkeypatch.setattr("streams.archive.FILE_ENTRIES", 1)
    monkeypatch.setattr("streams.archiver._PAGE", 1)
    runtime = Runtime(house.url, house.config)
    records = RecordKeeping(runtime, house.data / "archive")
    await records.seal()
    finish = Writer.finish

    def finish_and_stop(writer: Writer) -> Any:
        file = finish(writer)
        from_thread.run_sync(runtime.stop.set)
        return file

    monkeypatch.setattr(Writer, "finish", finish_and_stop)
    await records.archive()
    await runtime.aclose()
    files = Archive(house.data / "archive", house.topology.partition).files("deferrals")
    assert len(files) == 1
    monkeypatch.setattr(Writer, "finish", finish)
    async with keeper(house) as again, history(house) as past:
        await again.archive()
        assert len([entry async for entry in past.entries("deferrals")]) == 30
        assert await house.redis.xlen(house.topology.deferrals) == 0


async def test_a_stop_does_not_wait_until_all_is_sealed(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.sealing.SEGMENT_ENTRIES", 1)
    house = deploy()
    for _ in range(300):
        await house.redis.xadd(house.topology.reviews, {"a": "b"})
    async with keeper(house) as records:
        sealing = asyncio.create_task(records.seal())
        await until(lambda: house.redis.exists(house.topology.chain))
        records._stop.set()
        async with asyncio.timeout(10):
            await sealing
    ((last, _),) = await house.redis.xrevrange(house.topology.reviews, count=1)
    assert await house.redis.hget(house.topology.chain, "reviews") != last
