"""What can be done to a record behind its back."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger import STREAMS, Ledger

from streams.event import entry_order
from streams.lines import RawEntry
from streams.seals import SEALS

ALL_STREAMS = (*STREAMS, SEALS)


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
