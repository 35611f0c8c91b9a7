"""A small record for these tests: three streams that are sealed, archived and read as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from shop import Ordered

from streams.archive import Archive
from streams.archiver import Archiver, Keep
from streams.codec import entry_fields, envelope
from streams.commit import Committer, Transaction
from streams.history import History
from streams.keys import Partition
from streams.lines import RawEntry
from streams.proof import Proof, prove
from streams.sealing import Sealer

STREAMS = ("orders", "shipped", "dead-letters")
#: Keeps nothing live that may go: the server's clock is behind these ids by no more.
ALL = Keep(-60_000, 1_000_000)


class Ledger:
    """What a test does with the record, and asks of it."""

    def __init__(self, redis: Redis, committer: Committer, directory: Path) -> None:
        self.redis: Any = redis
        self.committer = committer
        self.partition: Partition = committer.partition
        self.directory = directory
        self.archive = Archive(directory, self.partition)
        self.archiver = self.new_archiver()
        self.sealer = Sealer(redis, committer, STREAMS)
        self.history = History(redis, self.archive, self.partition)

    def new_archiver(self) -> Archiver:
        """As a restarted process has it."""
        return Archiver(self.redis, Archive(self.directory, self.partition), self.partition)

    def key(self, stream: str) -> str:
        return self.partition.key(stream)

    async def add(self, stream: str, *items: str, shared: int = 1) -> None:
        """One event an item, so many in one entry; alone in its entry, it has fields."""
        for begin in range(0, len(items), shared):
            events = [Ordered(item) for item in items[begin : begin + shared]]
            key = self.key(stream)
            batch = [Transaction().emit(key, envelope(each, "shop")) for each in events]
            if shared == 1:
                fields = entry_fields(events[0], "shop")
                batch = [Transaction().add_entry(key, fields)]
            await self.committer.commit(batch)

    async def fill(self) -> None:
        """Something of every kind, in several segments, of which the first are archived."""
        for turn in range(4):
            await self.add("orders", *(f"{turn}-{each}" for each in range(12)), shared=3)
            await self.add("shipped", *(f"{turn}.{each}" for each in range(3)))
            await self.redis.xadd(self.key("dead-letters"), {"reason": b"\xff\n", "n": turn})
            await self.sealer.seal()
            if turn < 2:
                await self.move("orders", *("shipped", "seals")[: 2 * turn])
        await self.sealer.seal()

    async def move(self, *streams: str) -> int:
        """Archive all that is sealed."""
        return sum([await self.archiver.keep(stream, ALL) for stream in streams])

    async def told(self, stream: str) -> list[RawEntry]:
        return [entry async for entry in self.history.entries(stream)]

    async def everything(self) -> dict[str, list[RawEntry]]:
        return {stream: await self.told(stream) for stream in (*STREAMS, "seals")}

    async def live(self, stream: str) -> list[RawEntry]:
        rows = await self.redis.execute_command("XRANGE", self.key(stream), "-", "+")
        return [(row[0].decode(), tuple(row[1])) for row in rows]

    def files(self, stream: str) -> list[str]:
        folder = self.archive.root / stream
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    async def prove(self, **options: Any) -> Proof:
        return await prove(self.history, streams=(*STREAMS, "seals"), **options)
