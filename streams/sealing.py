"""Sealing: adds to the chain of seals what has come to the streams (seals.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.seals import CHAIN, SEALS, SegmentSealed, entry_hash, seal_hash, segment_digest

#: The `source` of seals.
SOURCE = "sealer"
#: A segment is read at one moment, in one reply.
SEGMENT_ENTRIES = 500

_ROUNDS = 1000


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
            # Read from a primary that is lost by now, the entries may be lost with it.
            transaction.require_entry(self._key(name), seal.last)
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
