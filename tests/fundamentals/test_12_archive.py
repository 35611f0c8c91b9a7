"""What leaves a stream is in the archive first: whole, once, and to the byte."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger import ALL, STREAMS, Ledger
from redis.asyncio import Redis

from streams import archive, archiver
from streams.archive import Archive, ArchiveError
from streams.archiver import Keep, due
from streams.commit import Committer
from streams.group import Group
from streams.history import History, last_of_ms
from streams.lines import entries

HOUR = 3_600_000


@pytest.fixture
def ledger(redis: Redis, committer: Committer, tmp_path: Path, permanent: list[str]) -> Ledger:
    return Ledger(redis, committer, tmp_path)


async def test_archived_and_live_are_read_as_one(ledger: Ledger) -> None:
    await ledger.fill()
    before = await ledger.everything()
    assert {stream: len(before[stream]) for stream in STREAMS} == {
        "orders": 16,
        "shipped": 12,
        "dead-letters": 4,
    }
    archived = len([each for each in before["orders"] if each not in await ledger.live("orders")])
    assert archived == 8
    await ledger.move("orders", "shipped", "seals")
    assert await ledger.everything() == before
    assert await ledger.live("orders") == []
    assert len(await ledger.live("dead-letters")) == 4


async def test_from_here_to_there(ledger: Ledger) -> None:
    await ledger.fill()
    whole = await ledger.told("orders")
    for begin in range(0, len(whole), 3):
        for end in range(begin, len(whole), 3):
            after, until = whole[begin][0], whole[end][0]
            part = [each async for each in ledger.history.entries("orders", after, until)]
            assert part == whole[begin + 1 : end + 1]
    ms = int(whole[-1][0].partition("-")[0])
    assert [each async for each in ledger.history.entries("orders", last_of_ms(ms))] == []


async def test_several_streams_in_the_order_of_their_ids(ledger: Ledger) -> None:
    await ledger.fill()
    merged = [each async for each in ledger.history.merged(STREAMS)]
    expected = [
        (int(entry_id.split("-")[0]), int(entry_id.split("-")[1]), rank, fields)
        for rank, stream in enumerate(STREAMS)
        for entry_id, fields in await ledger.told(stream)
    ]
    assert [
        (int(entry_id.split("-")[0]), int(entry_id.split("-")[1]), STREAMS.index(stream), fields)
        for stream, entry_id, fields in merged
    ] == sorted(expected)


async def test_files_are_for_other_programs_too(ledger: Ledger) -> None:
    """Names tell what is in them, `sha256sum -c` checks them, any JSON reader reads them."""
    await ledger.add("orders", "tea", "rice", shared=2)
    (entry_id, _), *_ = await ledger.live("orders")
    await ledger.sealer.seal()
    await ledger.move("orders")
    name, checksum = ledger.files("orders")
    day, after, last, count = name.removesuffix(".jsonl.gz").split("_")
    assert (after, last, count) == ("0-0", entry_id, "1")
    assert day.startswith("20")
    folder = ledger.archive.root / "orders"
    stated = (folder / checksum).read_text()
    assert stated == f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
    plain = subprocess.run(["gzip", "-dc", str(folder / name)], capture_output=True, check=True)
    rows = [json.loads(line) for line in plain.stdout.splitlines()]
    assert [row["data"]["item"] for row in rows] == ["tea", "rice"]
    assert {(row["stream"], row["entry"], row["type"]) for row in rows} == {
        ("orders", entry_id, "shop.ordered")
    }


async def test_what_is_not_sealed_or_not_done_with_stays(ledger: Ledger, redis: Redis) -> None:
    group = Group(redis, None, "shipping", "me", [ledger.key("orders")])  # type: ignore[arg-type]
    await group.ensure()
    await ledger.add("orders", *"abcdef")
    keep = Keep(-60_000, 0, ("shipping",))
    assert await ledger.archiver.keep("orders", keep) == 0, "nothing is sealed"
    await ledger.sealer.seal()
    assert await ledger.archiver.keep("orders", keep) == 0, "nothing was delivered"
    reply: Any = await redis.xreadgroup("shipping", "me", {ledger.key("orders"): ">"}, count=4)
    ids = [row[0] for row in reply[0][1]]
    await redis.xack(ledger.key("orders"), "shipping", ids[0], ids[1], ids[3])
    assert await ledger.archiver.keep("orders", keep) == 2, "the third is pending"
    assert await ledger.archiver.keep("orders", Keep(-60_000, 0, ("shipping", "billing"))) == 0
    assert len(await ledger.told("orders")) == 6


async def test_files_are_ended_by_their_size(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "FILE_ENTRIES", 40)
    monkeypatch.setattr(archiver, "_PAGE", 20)
    monkeypatch.setattr(archive, "_PAGE_ENTRIES", 7)
    await ledger.add("orders", *map(str, range(100)))
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    assert await ledger.move("orders") == 100
    assert [each.entries for each in ledger.archive.files("orders")] == [40, 40, 20]
    assert await ledger.told("orders") == before
    monkeypatch.setattr(archive, "FILE_BYTES", 1)
    await ledger.add("orders", *map(str, range(30)))
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    await ledger.move("orders")
    assert [each.entries for each in ledger.archive.files("orders")] == [40, 40, 20, 20, 10]
    assert await ledger.told("orders") == before


async def test_reading_while_it_is_being_archived(
    ledger: Ledger, new_client: Callable[[], Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "FILE_ENTRIES", 60)
    monkeypatch.setattr(archiver, "_PAGE", 30)
    monkeypatch.setattr("streams.history._PAGE", 25)
    await ledger.add("orders", *map(str, range(600)))
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    moving = asyncio.create_task(ledger.move("orders"))
    history = History(new_client(), ledger.archive, ledger.partition)
    readings = 0
    while not moving.done() or readings == 0:
        assert [each async for each in history.entries("orders")] == before
        readings += 1
    assert await moving == 600


class Killed(BaseException):
    """The process ends here."""


#: Every step of archiving a stream after which a process may die.
STEPS = ["writer", "add", "gzip", "replace 1", "replace 2", "say", "said", "trim"]


def kill_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next step of this name end the process: nothing cleans up after it."""
    monkeypatch.setattr(archive.Writer, "abandon", lambda self: self._file.discard())
    name, _, count = step.partition(" ")
    calls = iter(range(1, 100))

    def dying(*_: Any, **__: Any) -> Any:
        raise Killed(step)

    if name == "writer":
        made = archive.Writer.__init__

        def begin(self: Any, *given: Any) -> None:
            made(self, *given)
            self._gzip.close()
            self._file.discard()  # as the kernel does for one who is killed
            raise Killed(step)

        monkeypatch.setattr(archive.Writer, "__init__", begin)
    elif name == "add":
        monkeypatch.setattr(archive.Writer, "add", dying)
    elif name == "gzip":
        monkeypatch.setattr(archive, "_name", dying)
    elif name == "replace":
        replace = os.replace

        def last(*given: Any) -> None:
            replace(*given)
            if next(calls) == int(count):
                raise Killed(step)

        monkeypatch.setattr(archive.os, "replace", last)
    elif name == "say":
        monkeypatch.setattr(archiver, "SET_ARCHIVED", dying)
    elif name == "said":
        say = archiver.SET_ARCHIVED

        async def said(*given: Any) -> None:
            await say(*given)
            raise Killed(step)

        monkeypatch.setattr(archiver, "SET_ARCHIVED", said)
    else:
        trim = archiver.trim_archived

        async def second(*given: Any) -> int:
            if next(calls) == 2:
                raise Killed(step)
            return await trim(*given)

        monkeypatch.setattr(archiver, "trim_archived", second)


@pytest.mark.parametrize("step", STEPS)
async def test_death_at_any_step_loses_and_doubles_nothing(step: str, ledger: Ledger) -> None:
    await ledger.add("orders", *"abc")
    await ledger.sealer.seal()
    await ledger.move("orders")
    await ledger.add("orders", *"defghij", shared=2)
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            await ledger.move("orders")
    assert await ledger.told("orders") == before
    ledger.archiver = ledger.new_archiver()
    await ledger.move("orders")
    assert await ledger.told("orders") == before
    assert await ledger.live("orders") == []
    # Alone, the archive is the whole past; of what was half done nothing is left.
    alone = History(None, ledger.archive, ledger.partition)
    assert [each async for each in alone.entries("orders")] == before
    names = ledger.files("orders")
    assert len(names) == 4
    assert not [name for name in names if not name.endswith((".gz", ".gz.sha256"))]
    assert (await ledger.prove()).findings == []


ARCHIVING = """
import asyncio, sys
from pathlib import Path
from streams import archive
from streams.archive import Archive
from streams.archiver import Archiver, Keep
from streams.connection import connect
from streams.keys import Partition
archive.FILE_ENTRIES = 5
import streams.archiver
streams.archiver._PAGE = 5
async def main(url, namespace, directory):
    partition = Partition(namespace)
    async with connect(url) as client:
        print("begins", flush=True)
        archiver = Archiver(client, Archive(Path(directory), partition), partition)
        await archiver.keep("orders", Keep(-60_000, 1_000_000))
asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_process_that_is_killed_in_the_middle(ledger: Ledger, server_url: str) -> None:
    await ledger.add("orders", *map(str, range(400)))
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    arguments = [server_url, ledger.partition.namespace, str(ledger.directory)]
    killed_with: set[int] = set()
    for files in (3, 11, 29):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ARCHIVING, *arguments, stdout=subprocess.PIPE
        )
        async with asyncio.timeout(20):
            while len(ledger.archive.files("orders")) < files:
                await asyncio.sleep(0)
        process.kill()
        await process.wait()
        killed_with.add(len(ledger.archive.files("orders")))
        assert await ledger.told("orders") == before
    assert max(killed_with) < 80, "it was killed in the middle"
    await ledger.move("orders")
    assert await ledger.told("orders") == before
    alone = History(None, ledger.archive, ledger.partition)
    assert [each async for each in alone.entries("orders")] == before
    assert (await ledger.prove()).findings == []


async def test_a_full_disk_loses_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    await ledger.add("orders", *"abc")
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    for name in ("write", "close"):
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: Any) -> int:
                raise OSError(28, "No space left on device")

            patch.setattr(archive._Hashing, name, full)
            with pytest.raises(OSError, match="No space left"):
                await ledger.move("orders")
        assert ledger.files("orders") == []
        assert await ledger.live("orders") == before
    assert await ledger.move("orders") == 3
    assert await ledger.told("orders") == before


async def test_two_at_once(ledger: Ledger, new_client: Callable[[], Redis]) -> None:
    await ledger.add("orders", *map(str, range(200)))
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    others = [
        archiver.Archiver(new_client(), ledger.archive, ledger.partition).keep("orders", ALL)
        for _ in range(4)
    ]
    assert sum(await asyncio.gather(*others)) == 200
    assert await ledger.told("orders") == before


async def test_what_another_life_left_is_set_aside(ledger: Ledger) -> None:
    await ledger.add("orders", *"abc")
    await ledger.sealer.seal()
    await ledger.move("orders")
    await ledger.redis.delete(*[ledger.key(each) for each in ("orders", "archived")])
    await ledger.add("orders", *"xyz")
    await ledger.sealer.seal()
    before = await ledger.told("orders")
    await ledger.move("orders")
    assert await ledger.told("orders") == before
    assert len([name for name in ledger.files("orders") if name.endswith(".aside")]) == 2


async def test_another_directory_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.fill()
    partition = ledger.partition
    elsewhere = archiver.Archiver(ledger.redis, Archive(tmp_path / "new", partition), partition)
    for stream in STREAMS:
        with pytest.raises(ArchiveError, match="is it the right directory"):
            await elsewhere.keep(stream, ALL)
    assert list((tmp_path / "new").rglob("*.gz")) == []
    blind = History(ledger.redis, None, partition)
    with pytest.raises(ArchiveError, match="name the archive"):
        [each async for each in blind.entries("orders")]


async def test_an_archive_elsewhere_is_read_alone(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.fill()
    await ledger.move("orders")
    copy = shutil.copytree(ledger.directory, tmp_path / "copy")
    alone = History(None, Archive(copy, ledger.partition), ledger.partition)
    assert [each async for each in alone.entries("orders")] == await ledger.told("orders")
    assert alone.archive is not None
    assert alone.archive.streams() == ["orders", "seals", "shipped"]


async def test_a_full_server_can_be_relieved(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes room must not need room."""
    await ledger.add("orders", *map(str, range(300)))
    await ledger.sealer.seal()
    try:
        await redis.config_set("maxmemory", 1)
        assert await ledger.move("orders") == 300
    finally:
        await redis.config_set("maxmemory", 0)
    assert await ledger.live("orders") == []
    assert len(await ledger.told("orders")) == 300


@given(
    older=st.integers(-HOUR, 48 * HOUR),
    most=st.integers(0, 10_000),
    live=st.integers(0, 20_000),
    first=st.integers(0, 100 * HOUR),
    limit=st.integers(0, 100 * HOUR),
)
def test_when_archiving_is_due(older: int, most: int, live: int, first: int, limit: int) -> None:
    now = 80 * HOUR
    answer = due(Keep(older, most), (limit, 0), f"{first}-0", live, now)
    age = now - first
    if first >= limit or (live <= most and age <= older):
        assert answer is None
    elif live > most * 1.1 + 1 or age > max(0, older) + HOUR:
        assert answer is not None
    if answer is not None:
        assert answer.holds(f"{first}-0", 0)
        assert not answer.holds(f"{limit}-0", 0)
        assert not answer.holds(f"{max(first, now - older)}-0", max(0, live - most))


def test_entries_of_no_lines() -> None:
    assert list(entries("orders", [])) == []
