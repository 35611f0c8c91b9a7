"""Entries that nobody could process, kept as they came until an operator decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec
from redis.asyncio import Redis

from streams.codec import timestamp
from streams.commit import Committer, Transaction
from streams.errors import StreamsError

#: The stream's name in every partition.
DEAD_LETTERS = "dead-letters"
_ORIGINAL = b"original."


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter. `fields` are the original's alternating names and values, `stored` those
    of the letter's own entry."""

    id: str
    reason: str
    stream: str
    entry_id: str
    group: str
    deliveries: int
    time: str
    fields: tuple[bytes, ...]
    stored: tuple[bytes, ...] = ()


def bury(
    transaction: Transaction,
    dead_letters: str,
    *,
    reason: str,
    stream: str,
    entry_id: str,
    group: str,
    deliveries: int,
    fields: Sequence[bytes],
) -> None:
    """Add to `transaction` the write that keeps an entry as a dead letter."""
    # An error's text may quote what no UTF-8 can say.
    shown = reason[:2000].encode("utf-8", "backslashreplace")
    values: list[str | bytes] = ["reason", shown, "stream", stream, "entry", entry_id]
    values += ["group", group, "deliveries", str(deliveries), "time", timestamp()]
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        values += [_ORIGINAL + name, value]
    transaction.add_entry(dead_letters, values)


def _parse(raw: list[object]) -> DeadLetter:
    entry_id, flat = raw
    assert isinstance(entry_id, bytes)
    assert isinstance(flat, list)
    named: dict[bytes, bytes] = {}
    original: list[bytes] = []
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        if name.startswith(_ORIGINAL):
            original += [name[len(_ORIGINAL) :], value]
        else:
            named[name] = value
    text = {name.decode(): value.decode("utf-8", "replace") for name, value in named.items()}
    return DeadLetter(
        entry_id.decode(),
        text.get("reason", "?"),
        text.get("stream", "?"),
        text.get("entry", "?"),
        text.get("group", "?"),
        int(text.get("deliveries", "0")),
        text.get("time", "?"),
        tuple(original),
        tuple(flat),
    )


_VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # a UUID
    r"|\b(?:0x)?(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b"  # a hash, an address
    r"|\d+(?:[.:-]\d+)*",  # a number, an entry's id, a time
    re.IGNORECASE,
)


def kind(reason: str) -> str:
    """`reason` with "…" for ids and numbers: what letters of one cause have in common."""
    return _VARYING.sub("…", reason)


#: What else is to happen together with the removal of a letter.
Also = Callable[[DeadLetter], Transaction]


class DeadLetters:
    """The operator's view of one partition's dead letters."""

    def __init__(self, redis: Redis, committer: Committer) -> None:
        self._redis = redis
        self._committer = committer
        self.stream = committer.partition.key(DEAD_LETTERS)

    async def list(self, count: int = 100, after: str = "-") -> Sequence[DeadLetter]:
        """Up to `count` letters, oldest first; `after` is a letter's id to go on from."""
        start = after if after == "-" else f"({after}"
        rows = await self._redis.execute_command("XRANGE", self.stream, start, "+", "COUNT", count)
        return [_parse(row) for row in rows]

    async def get(self, letter_id: str) -> DeadLetter | None:
        rows = await self._redis.execute_command("XRANGE", self.stream, letter_id, letter_id)
        return _parse(rows[0]) if rows else None

    async def last(self) -> str | None:
        """The id of the newest letter."""
        rows = await self._redis.execute_command("XREVRANGE", self.stream, "+", "-", "COUNT", 1)
        return rows[0][0].decode() if rows else None

    async def retry(self, letter: DeadLetter) -> bool:
        """Put the original back on its stream; False if the letter was gone already.

        Raises StreamsError where there is no original: it was trimmed while it was pending.
        """
        return (await self.retry_all([letter]))[0]

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete it for good; False if it was gone already."""
        return (await self.drop_all([letter]))[0]

    async def retry_all(
        self, letters: Sequence[DeadLetter], also: Also | None = None
    ) -> Sequence[bool]:
        """`retry` for each, with what `also` adds to its transaction: both happen, or neither."""
        for letter in letters:
            if not letter.fields:
                raise StreamsError(f"dead letter {letter.id} has no original to put back")
        return await self._committer.commit(
            [
                self._removal(letter, also).add_entry(letter.stream, letter.fields)
                for letter in letters
            ]
        )

    async def drop_all(
        self, letters: Sequence[DeadLetter], also: Also | None = None
    ) -> Sequence[bool]:
        """`drop` for each, likewise."""
        return await self._committer.commit([self._removal(letter, also) for letter in letters])

    def _removal(self, letter: DeadLetter, also: Also | None) -> Transaction:
        transaction = Transaction().require_deleted(self.stream, letter.id)
        return transaction if also is None else transaction.absorb(also(letter))
