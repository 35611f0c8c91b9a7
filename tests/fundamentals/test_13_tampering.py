"""Whatever is done to the record behind its back is found; nobody is accused for nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ledger import STREAMS, Ledger
from redis.asyncio import Redis

from streams.archive import Archive
from streams.commit import Committer
from streams.event import entry_order
from streams.history import History
from streams.lines import RawEntry
from streams.proof import Head, prove
from streams.sealing import SEALS, Sealer, entry_hash

ALL_STREAMS = (*STREAMS, SEALS)


@pytest.fixture
def ledger(redis: Redis, committer: Committer, tmp_path: Path) -> Ledger:
    return Ledger(redis, committer, tmp_path)


# -- tampering -----------------------------------------------------------------------------------


def flipped(data: bytes, dice: random.Random) -> bytes:
    """One byte altered, or one appended to nothing."""
    if not data:
        return b"x"
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ dice.randrange(1, 256)]) + data[place + 1 :]


def altered(entries: list[RawEntry], dice: random.Random) -> list[RawEntry]:
    """A byte of a name or value."""
    place = dice.randrange(len(entries))
    entry_id, fields = entries[place]
    which = dice.randrange(len(fields))
    changed = tuple(
        flipped(value, dice) if each == which else value for each, value in enumerate(fields)
    )
    return [*entries[:place], (entry_id, changed), *entries[place + 1 :]]


def deleted(entries: list[RawEntry], dice: random.Random) -> list[RawEntry]:
    begin = dice.randrange(len(entries))
    return entries[:begin] + entries[begin + dice.randrange(1, 3) :]


def inserted(entries: list[RawEntry], dice: random.Random) -> list[RawEntry]:
    """A copy of an entry, anywhere before the last one."""
    place = dice.randrange(len(entries))
    ms, sequence = map(int, entries[place][0].split("-"))
    ids = [f"{ms - 1}-{2**64 - 1 - dice.randrange(1000)}", f"{ms}-{sequence + 1}"]
    new = ids[dice.randrange(2 if place < len(entries) - 1 else 1)]
    together = dict([*entries, (new, dice.choice(entries)[1])])
    return sorted(together.items(), key=lambda entry: entry_order(entry[0]))


def reordered(entries: list[RawEntry], dice: random.Random) -> list[RawEntry]:
    """Two entries with each other's content."""
    one, other = dice.sample(range(len(entries)), 2)
    swapped = list(entries)
    swapped[one] = (entries[one][0], entries[other][1])
    swapped[other] = (entries[other][0], entries[one][1])
    return swapped


LIVE = (altered, deleted, inserted, reordered)


async def put(redis: Any, key: str, entries: list[RawEntry]) -> None:
    """Make the stream anew."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.delete(key)
        for entry_id, fields in entries:
            pipeline.execute_command("XADD", key, entry_id, *fields)
        await pipeline.execute()


class Files:
    """The archive's files, as they were and as they are."""

    def __init__(self, ledger: Ledger) -> None:
        self.root = ledger.archive.root
        found = [path for path in self.root.rglob("*") if path.is_file() and path.name != "lock"]
        self.content = {path: path.read_bytes() for path in sorted(found)}
        self.archives = [path for path in self.content if path.name.endswith(".gz")]

    def restore(self) -> None:
        for path in self.root.rglob("*"):
            if path.is_file() and path not in self.content and path.name != "lock":
                path.unlink()
        for path, content in self.content.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


def rewrite(path: Path, lines: list[bytes], name: str | None = None) -> None:
    """A file as a forger makes it who knows of checksums."""
    path.unlink()
    path.with_name(f"{path.name}.sha256").unlink()
    path = path.with_name(name or path.name)
    content = gzip.compress(b"".join(line + b"\n" for line in lines))
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def forge(path: Path, files: Files, dice: random.Random) -> None:
    """Alter, delete, insert or reorder lines, and make everything else fit."""
    lines = gzip.decompress(files.content[path]).splitlines()
    before = list(lines)
    place = dice.randrange(len(lines))
    kind = dice.randrange(4)
    if kind == 0 or len(lines) == 1:
        lines[place] = flipped(lines[place], dice)
    elif kind == 1:
        del lines[place]
    elif kind == 2:
        lines.insert(place, dice.choice(lines))
    else:
        other = (place + dice.randrange(1, len(lines))) % len(lines)
        lines[place], lines[other] = lines[other], lines[place]
    assert lines != before
    head, _, count = path.name.removesuffix(".jsonl.gz").rpartition("_")
    entries = int(count) + dice.choice([0, len(lines) - len(before)])
    rewrite(path, lines, f"{head}_{entries}.jsonl.gz")


def flip_on_disk(path: Path, files: Files, dice: random.Random) -> None:
    path.write_bytes(flipped(files.content[path], dice))


def remove(path: Path, files: Files, dice: random.Random) -> None:
    path.unlink()
    if dice.random() < 0.5:
        path.with_name(f"{path.name}.sha256").unlink()


def swap(path: Path, files: Files, dice: random.Random) -> None:
    """Two files under each other's name, checksums and all."""
    other = dice.choice([each for each in files.archives if each != path])
    rewrite(path, gzip.decompress(files.content[other]).splitlines())
    rewrite(other, gzip.decompress(files.content[path]).splitlines())


def edit_checksum(path: Path, files: Files, dice: random.Random) -> None:
    checksum = path.with_name(f"{path.name}.sha256")
    checksum.write_bytes(flipped(files.content[checksum], dice))


ARCHIVED: tuple[Callable[[Path, Files, random.Random], None], ...] = (
    forge,
    forge,
    forge,
    flip_on_disk,
    remove,
    swap,
    edit_checksum,
)


async def tamper(
    ledger: Ledger, streams: dict[str, list[RawEntry]], files: Files, dice: random.Random
) -> tuple[str, str]:
    """Do something; returns what, and to which stream if that was live."""
    if dice.random() < 0.5:
        way = dice.choice(ARCHIVED)
        path = dice.choice(files.archives)
        way(path, files, dice)
        return f"{way.__name__} {path.parent.name}/{path.name}", ""
    name = dice.choice(ALL_STREAMS)
    change = dice.choice(LIVE)
    while (entries := change(streams[name], dice)) == streams[name]:
        pass  # a copy in the place of its original
    await put(ledger.redis, ledger.key(name), entries)
    return f"{change.__name__} {name}", name


# -- tests ---------------------------------------------------------------------------------------


#: One that is always the same, and one of today.
SEEDS = {"fixed": 4, "random": random.SystemRandom().randrange(2**32)}


@pytest.mark.parametrize("seed", list(SEEDS.values()), ids=list(SEEDS))
async def test_a_thousand_tamperings_are_found(ledger: Ledger, seed: int) -> None:
    """Twice five hundred."""
    await ledger.fill()
    dice = random.Random(seed)
    streams = {name: await ledger.live(name) for name in ALL_STREAMS}
    assert all(len(entries) > 1 for entries in streams.values())
    files = Files(ledger)
    assert len(files.archives) >= 4
    clean = await ledger.prove()
    assert clean.findings == []
    for _ in range(500):
        what, stream = await tamper(ledger, streams, files, dice)
        proof = await ledger.prove()
        assert proof.findings, f"not found, seed {seed}: {what}"
        if stream:
            await put(ledger.redis, ledger.key(stream), streams[stream])
        else:
            files.restore()
    assert await ledger.prove() == clean


async def test_nobody_is_accused_for_nothing(ledger: Ledger) -> None:
    """Work, seals, archiving and deletions with leave, in any order, proven at every turn."""
    dice = random.Random(7)
    removed: dict[tuple[str, str], bytes] = {}
    heads: list[Head] = []
    for turn in range(60):
        for _ in range(dice.randrange(4)):
            await ledger.add(dice.choice(STREAMS), *"xyz"[: dice.randrange(1, 4)], shared=2)
        letters = await ledger.live("dead-letters")
        for entry_id, fields in dice.sample(letters, min(len(letters), dice.randrange(3))):
            await ledger.redis.xdel(ledger.key("dead-letters"), entry_id)
            removed["dead-letters", entry_id] = entry_hash(entry_id, fields)
        if dice.random() < 0.6:
            await ledger.sealer.seal()
        if dice.random() < 0.4:
            await ledger.move("orders", "shipped", "seals")
        proof = await ledger.prove(removed=removed, head=dice.choice(heads) if heads else None)
        assert proof.findings == [], turn
        if proof.head is not None:
            heads.append(proof.head)
    assert len(removed) > 10
    assert heads[-1].number > 50
    assert ledger.archive.streams() == ["orders", "seals", "shipped"]
    alone = await prove(History(None, ledger.archive, ledger.partition))
    assert alone.findings == []


async def test_a_letter_deleted_without_leave_is_found(ledger: Ledger) -> None:
    await ledger.add("dead-letters", *"abcdef")
    await ledger.sealer.seal()
    (first, fields), (second, _), *_ = await ledger.live("dead-letters")
    await ledger.redis.xdel(ledger.key("dead-letters"), first)
    leave = {("dead-letters", first): entry_hash(first, fields)}
    assert (await ledger.prove(removed=leave)).findings == []
    (finding,) = (await ledger.prove()).findings
    assert (finding.stream, finding.expected, finding.found) == (
        "dead-letters",
        "6 entries",
        "5 entries",
    )
    wrong = {("dead-letters", first): entry_hash(second, fields)}
    assert (await ledger.prove(removed=wrong)).findings
    await ledger.redis.xdel(ledger.key("dead-letters"), second)
    assert (await ledger.prove(removed=leave)).findings


async def test_leave_for_what_was_gone_before_the_seal(ledger: Ledger) -> None:
    await ledger.add("dead-letters", *"abcd")
    removed = {}
    for place, (entry_id, fields) in enumerate((await ledger.live("dead-letters"))[:3]):
        if place == 2:
            await ledger.sealer.seal()
        await ledger.redis.xdel(ledger.key("dead-letters"), entry_id)
        removed["dead-letters", entry_id] = entry_hash(entry_id, fields)
    assert (await ledger.prove(removed=removed)).findings == []


async def test_a_letter_that_is_deleted_while_it_is_proven(ledger: Ledger) -> None:
    await ledger.add("dead-letters", *"abc")
    await ledger.sealer.seal()
    (entry_id, fields), *_ = await ledger.live("dead-letters")
    await ledger.redis.xdel(ledger.key("dead-letters"), entry_id)
    asked = []

    async def by_now() -> dict[tuple[str, str], bytes]:
        asked.append(entry_id)
        return {("dead-letters", entry_id): entry_hash(entry_id, fields)}

    assert (await ledger.prove(removed={}, removed_by_now=by_now)).findings == []
    assert asked == [entry_id]


async def test_findings_say_where_and_what(ledger: Ledger) -> None:
    await ledger.fill()
    files = Files(ledger)
    (path, *_) = (each for each in files.archives if each.parent.name == "orders")
    lines = gzip.decompress(files.content[path]).splitlines()
    rewrite(path, [lines[0].replace(b'"0-0"', b'"0-9"'), *lines[1:]])
    (finding,) = (await ledger.prove()).findings
    assert (finding.stream, finding.file) == ("orders", str(path))
    assert "has another digest" in finding.what
    assert finding.expected != finding.found
    assert finding.first is not None
    path.write_bytes(files.content[path][:-1])
    (finding, *_) = (await ledger.prove()).findings
    assert (finding.stream, finding.file) == ("orders", str(path))
    assert "SHA-256" in finding.what
    path.unlink()
    (finding, *_) = (await ledger.prove()).findings
    assert "a file is missing" in finding.what


async def test_a_chain_that_was_forged_whole_does_not_meet_a_noted_head(ledger: Ledger) -> None:
    """Who can write everything can make another past; not one with the same head."""
    await ledger.add("orders", *"abc")
    await ledger.sealer.seal()
    honest = (await ledger.prove()).head
    assert honest is not None
    await ledger.add("orders", *"def")
    await ledger.sealer.seal()
    later = (await ledger.prove(head=honest)).head
    assert later is not None
    entries = await ledger.live("orders")
    await put(ledger.redis, ledger.key("orders"), altered(entries, random.Random(1)))
    await ledger.redis.delete(ledger.key("seals"), ledger.key("chain"))
    await Sealer(ledger.redis, ledger.committer, STREAMS).seal()
    assert (await ledger.prove()).findings == []
    for head in (honest, later):
        findings = (await ledger.prove(head=head)).findings
        assert [each.expected for each in findings] == [head.hash]


async def test_a_tail_that_was_cut_off(ledger: Ledger) -> None:
    await ledger.add("orders", *"abc")
    await ledger.sealer.seal()
    chain = await ledger.redis.hgetall(ledger.key("chain"))
    past = {name: await ledger.live(name) for name in ALL_STREAMS}
    await ledger.add("orders", *"def")
    await ledger.sealer.seal()
    head = (await ledger.prove()).head
    assert head is not None
    for name in ("orders", "seals"):
        await put(ledger.redis, ledger.key(name), past[name])
    assert (await ledger.prove()).findings, "the server knows of later seals"
    await ledger.redis.hset(ledger.key("chain"), mapping=chain)
    assert (await ledger.prove()).findings == []
    (finding,) = (await ledger.prove(head=head)).findings
    assert (finding.seal, finding.found) == (head.number, "no such seal")


async def test_what_is_not_sealed_yet_is_told(ledger: Ledger) -> None:
    await ledger.fill()
    await ledger.add("orders", *"abcd")
    proof = await ledger.prove()
    assert proof.findings == []
    assert proof.unsealed["orders"] == 4
    assert proof.unsealed["shipped"] == 0
    # The entry of the last round's own seals.
    assert proof.unsealed["seals"] == 1


async def test_an_archive_alone_is_proven_as_far_as_it_goes(ledger: Ledger) -> None:
    await ledger.fill()
    alone = History(None, Archive(ledger.directory, ledger.partition), ledger.partition)
    proof = await prove(alone)
    assert proof.findings == []
    assert proof.entries > 0
    assert proof.missing
    files = Files(ledger)
    for path, following in pairwise(files.archives):
        if path.parent == following.parent:
            path.unlink()
            assert (await prove(alone)).findings
            files.restore()


async def test_rivals_make_one_chain(ledger: Ledger, committer: Committer) -> None:
    sealers = [Sealer(ledger.redis, committer, STREAMS) for _ in range(4)]
    for turn in range(10):
        await ledger.add("orders", str(turn))
        await asyncio.gather(*(each.seal() for each in sealers))
    proof = await ledger.prove()
    assert proof.findings == []
    assert proof.unsealed["orders"] == 0
