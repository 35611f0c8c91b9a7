"""Tamper evidence: runs of entries are sealed by hash, and the seals of all streams form one chain.

A seal states the digest of the entries of one stream from the last seal of that stream on, and
the hash of the seal before it, whichever stream that was about. Whoever keeps the number and
hash of one seal (the head, a line of text) can tell whether anything before it was altered,
deleted, inserted or put into another order: `proof.py` does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from redis.asyncio import Redis

from streams.codec import envelope
from streams.commit import Committer, Transaction

#: Names in every partition: the stream of seals, and the hash of the last seal's `number` and
#: `head`, and of every stream's last sealed id (by the stream's name).
SEALS = "seals"
CHAIN = "chain"
#: The `source` of seals.
SOURCE = "sealer"
#: A segment is read at one moment, in one reply.
SEGMENT_ENTRIES = 500

_ROUNDS = 1000
_size = struct.Struct(">Q").pack


class SegmentSealed(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of `stream` after its seal before, up to `last`, are these. Hashes are hex."""

    event_type: ClassVar[str] = "segment.sealed"
    number: int  # 1, 2, ... over all streams
    stream: str  # the name in its partition
    first: str
    last: str
    entries: int
    digest: str
    previous: str  # the hash of seal `number - 1`; "" for the first


def _hashed(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join([piece for p in parts for piece in (_size(len(p)), p)])).digest()


def entry_hash(entry_id: str, fields: Sequence[bytes]) -> bytes:
    """SHA-256 of an entry: its id and its names and values, each with its length before it."""
    return _hashed((entry_id.encode(), *fields))


def segment_digest(hashes: Iterable[bytes]) -> str:
    """SHA-256, hex, of the hashes of a segment's entries, in order."""
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def seal_hash(seal: SegmentSealed) -> str:
    """SHA-256, hex, of all that a seal states."""
    return _hashed(str(value).encode() for value in msgspec.structs.astuple(seal)).hex()


def seals_entry(seals: Sequence[SegmentSealed]) -> tuple[bytes, bytes]:
    """The one form that an entry of these seals has."""
    return b"batch", b"[" + b",".join(envelope(seal, SOURCE) for seal in seals) + b"]"


class Sealer:
    """Seals what has come since the last time. Any number may run at once: of two that add to
    the chain at the same moment one does nothing."""

    def __init__(self, redis: Redis, committer: Committer, streams: Iterable[str]) -> None:
        """`streams`: the names of those to seal, in the committer's partition. The seals are
        sealed as well, by the seals that come after them."""
        self._redis = redis
        self._committer = committer
        self._key = committer.partition.key
        self._streams = [name for name in streams if name != SEALS]

    async def seal(self) -> int:
        """Seal all entries that are there now; returns how many seals that took."""
        made = 0
        for _ in range(_ROUNDS):
            seals = await self._round()
            made += len(seals)
            if not any(seal.entries == SEGMENT_ENTRIES for seal in seals):
                break
        return made

    async def _round(self) -> list[SegmentSealed]:
        """One segment of every stream that has grown."""
        rows: Any = await self._redis.hgetall(self._key(CHAIN))
        chain = {name.decode(): value.decode() for name, value in rows.items()}
        before = {"number": chain.get("number", ""), "head": chain.get("head", "")}
        seals: list[SegmentSealed] = []
        transactions: list[Transaction] = []
        # The seals last, and only with others: else each would bring about the next for ever.
        for name in (*self._streams, SEALS):
            if name == SEALS and not seals:
                break
            seal = await self._segment(name, chain, before)
            if seal is None:
                continue
            after = {"number": str(seal.number), "head": seal_hash(seal)}
            transaction = Transaction().require_fields(self._key(CHAIN), before)
            transaction.set_fields(self._key(CHAIN), {**after, name: seal.last})
            transactions.append(transaction.emit(self._key(SEALS), envelope(seal, SOURCE)))
            seals.append(seal)
            before = after
        held = await self._committer.commit(transactions)
        return [seal for seal, took_effect in zip(seals, held, strict=True) if took_effect]

    async def _segment(
        self, name: str, chain: Mapping[str, str], before: Mapping[str, str]
    ) -> SegmentSealed | None:
        start = f"({chain.get(name, '0-0')}"
        rows = await self._redis.execute_command(
            "XRANGE", self._key(name), start, "+", "COUNT", SEGMENT_ENTRIES
        )
        if not rows:
            return None
        ids = [row[0].decode() for row in rows]
        hashes = (entry_hash(entry_id, row[1]) for entry_id, row in zip(ids, rows, strict=True))
        return SegmentSealed(
            number=int(before["number"] or 0) + 1,
            stream=name,
            first=ids[0],
            last=ids[-1],
            entries=len(ids),
            digest=segment_digest(hashes),
            previous=before["head"],
        )
