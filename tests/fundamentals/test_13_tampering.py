"""Whatever is done to the record behind its back is found; nobody is accused for nothing."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from depth import depth
from ledger import STREAMS, Ledger
from redis.asyncio import Redis
from tampering import ALL_STREAMS, Files, altered, put, rewrite, tamper

from streams.archive import Archive
from streams.commit import Committer
from streams.history import BEGIN, History
from streams.lines import RawEntry
from streams.proof import Head, prove
from streams.sealing import Sealer
from streams.seals import SEALS, entry_hash


@pytest.fixture
def ledger(redis: Redis, committer: Committer, tmp_path: Path) -> Ledger:
    return Ledger(redis, committer, tmp_path)


#: One that is always the same, and one of today.
SEEDS = {"fixed": 4, "random": random.SystemRandom().randrange(2**32)}


#: Of each: a thousand in all when thorough.
TAMPERINGS = depth(40, 500)


@pytest.mark.timeout(depth(60, 300))
@pytest.mark.parametrize("seed", list(SEEDS.values()), ids=list(SEEDS))
async def test_whatever_is_tampered_with_is_found(ledger: Ledger, seed: int) -> None:
    await ledger.fill()
    dice = random.Random(seed)
    streams = {name: await ledger.live(name) for name in ALL_STREAMS}
    assert all(len(entries) > 1 for entries in streams.values())
    files = Files(ledger)
    assert len(files.archives) >= 4
    clean = await ledger.prove()
    assert clean.findings == []
    for _ in range(TAMPERINGS):
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


async def test_proving_beside_work_sealing_and_archiving(
    ledger: Ledger, new_client: Callable[[], Redis]
) -> None:
    other = History(new_client(), ledger.archive, ledger.partition)

    async def work() -> None:
        for turn in range(25):
            await ledger.add("orders", *map(str, range(turn)), shared=3)
            await ledger.add("shipped", *"ab")
            await ledger.sealer.seal()
            await ledger.move("orders", "shipped", "seals")

    working = asyncio.create_task(work())
    proofs = 0
    while not working.done() or proofs == 0:
        assert (await prove(other, streams=ALL_STREAMS)).findings == []
        proofs += 1
    await working
    assert proofs > 3


class Growing(History):
    """Grows once, when all its seals have been read so far."""

    grow: Callable[[], Awaitable[None]] | None = None

    async def pages(
        self, stream: str, after: str = BEGIN, until: str | None = None
    ) -> AsyncIterator[list[RawEntry]]:
        async for page in super().pages(stream, after, until):
            yield page
            after = page[-1][0]
        if stream == SEALS and self.grow is not None:
            await self.grow()
            self.grow = None
            async for page in super().pages(stream, after, until):
                yield page


async def test_what_is_sealed_while_it_is_proven_is_read(ledger: Ledger) -> None:
    await ledger.add("orders", *"abc")
    await ledger.sealer.seal()

    async def grow() -> None:
        await ledger.add("orders", *"def")
        await ledger.sealer.seal()

    growing = Growing(ledger.redis, ledger.archive, ledger.partition)
    growing.grow = grow
    proof = await prove(growing, streams=ALL_STREAMS)
    assert proof.findings == []
    assert proof.unsealed["orders"] == 0
    assert proof.entries > 6


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
