"""The one primitive: guarded writes, many of them in one atomic round trip.

A `Transaction` is a list of guards and a list of writes; it takes effect whole if all guards
hold, else not at all. A `Committer` sends transactions, those of concurrent callers together
(group commit), and each batch exactly once: a batch whose reply was lost is sent again under
its old sequence number, and the server answers from the receipt that it kept.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import index

import structlog
from redis.asyncio import Redis

from streams.connection import Client
from streams.errors import (
    CommitTooLarge,
    CommitUnknown,
    Forbidden,
    NotReplicated,
    WriteFailed,
    is_transient,
)
from streams.keys import Partition
from streams.refusals import forbidden, is_forbidden
from streams.retry import backoff
from streams.scripts import COMMIT

log = structlog.get_logger(__name__)

#: A batch is cut where it would pass either: a script has the server to itself while it runs.
#: What one caller hands in goes in one batch wherever it fits into one.
MAX_TRANSACTIONS = 500
MAX_BATCH_BYTES = 1 << 20
#: One transaction may not pass this, alone in its batch.
MAX_BYTES = 16 << 20
#: Seconds for which a commit can be sent again and still be answered from its receipt.
RECEIPT_SECONDS = 3600
#: Members in one write: a script passes so many arguments on, and not many more.
_MEMBERS = 500
#: The longest that one look at the replicas takes.
_WAIT_MS = 1000

#: Whole numbers below are exact in the script's floating point.
_EXACT = 1 << 53

Value = str | bytes | int
_length = struct.Struct(">I").pack
_count = struct.Struct(">H").pack
_head = struct.Struct(">HHHI").pack


#: The packed lengths of short values; making them anew was half the cost of packing.
_LENGTHS = [_length(n) for n in range(4096)]


def _list(values: Sequence[Value]) -> bytes:
    """The values as `commit.lua` reads a list. TypeError for any other value, floats too."""
    parts = [_count(len(values))]
    add = parts.append
    for value in values:
        if type(value) is str:
            known = _WORDS.get(value)
            if known is not None:
                add(known)
                continue
            data = value.encode()
        elif isinstance(value, bytes):
            data = value
        else:
            data = b"%d" % index(value)  # type: ignore[arg-type]
        size = len(data)
        add(_LENGTHS[size] if size < 4096 else _length(size))
        add(data)
    return b"".join(parts)


def _packed(data: bytes) -> bytes:
    """One value of a list."""
    size = len(data)
    return (_LENGTHS[size] if size < 4096 else _length(size)) + data


#: Packed, what is in most commits. Packing it anew each time was a third of the cost.
_WORDS = {
    word: _length(len(word)) + word.encode()
    for word in (
        *("EXISTS", "HGET", "HMGET", "XACK", "0", "1"),
        *("HSET", "EMIT", "PUT", "DROP", "SUM", "XADD", "ZADD", "*", "batch"),
        *("state", "submitted", "deferred", "dispatched", "running", "spec", "plan", "digest"),
    )
}
_list_once = lru_cache(maxsize=1024)(_list)


class Transaction:
    """Guards and writes. Keys are full key names; values are str, bytes or int."""

    __slots__ = ("_acknowledges", "_guards", "_keys", "_premises", "_steps", "_writes")

    def __init__(self) -> None:
        self._guards: list[bytes] = []
        self._writes: list[bytes] = []
        self._steps: list[Transaction] = []
        self._keys: set[str] = set()
        self._premises: dict[tuple[str, str], None] = {}
        self._acknowledges = False

    # -- guards, tried in order ------------------------------------------------------------

    def require_ack(self, stream: str, group: str, entry_id: str) -> Transaction:
        """Holds if the entry was still pending in the group; acknowledges it. Goes after the
        guards that change nothing: an acknowledgement is not taken back."""
        return self._guard(("XACK", stream, group, entry_id), ("1",))

    def require_zrem(self, key: str, member: str) -> Transaction:
        """Holds if the member was in the sorted set; removes it."""
        return self._guard(("ZREM", key, member), ("1",))

    def require_field(self, key: str, field: str, *accepted: str) -> Transaction:
        """Holds if the hash field has one of the values; "" stands for an absent field."""
        return self._guard(("HGET", key, field), accepted)

    def require_fields(self, key: str, values: Mapping[str, str]) -> Transaction:
        """Holds if every one of the hash fields has its value, "" standing for an absent one.
        The values contain no spaces."""
        return self._guard(("HMGET", key, *values), (" ".join(values.values()),))

    def require_absent(self, key: str) -> Transaction:
        """Holds if there is no such key."""
        return self._guard(("EXISTS", key), ("0",))

    def require_entry(self, stream: str, entry_id: str) -> Transaction:
        """Holds if the entry is in the stream: what was read may be gone with a lost primary."""
        return self._guard(("HAS", stream, entry_id), ("1",))

    def made_from(self, stream: str, entry_id: str) -> Transaction:
        """As `require_entry`, for all of the transaction that this becomes a step of: what was
        decided from an entry that is gone is to be decided anew, so nothing is acknowledged."""
        self._premises[stream, entry_id] = None
        return self

    def require_deleted(self, stream: str, entry_id: str) -> Transaction:
        """Holds if the entry was in the stream; deletes it."""
        return self._guard(("XDEL", stream, entry_id), ("1",))

    def _guard(self, command: tuple[str, ...], accepted: tuple[str, ...]) -> Transaction:
        if self._acknowledges:
            raise ValueError("the acknowledgement is the last guard: it is not taken back")
        self._acknowledges = command[0] == "XACK"
        self._keys.add(command[1])
        self._guards.append(_list(command) + _list_once(accepted))
        return self

    # -- writes ----------------------------------------------------------------------------

    def write(self, command: str, key: str, *arguments: Value) -> Transaction:
        """Any single-key write command."""
        self._keys.add(key)
        self._writes.append(_list((command, key, *arguments)))
        return self

    def set_fields(self, key: str, fields: Mapping[str, Value]) -> Transaction:
        """Set fields of a hash."""
        return self.write("HSET", key, *chain.from_iterable(fields.items()))

    def add_entry(self, stream: str, fields: Iterable[str | bytes]) -> Transaction:
        """One entry with these alternating names and values."""
        return self.write("XADD", stream, "*", *fields)

    def emit(self, stream: str, event: bytes) -> Transaction:
        """One event (JSON, see codec.envelope), sharing its entry with the batch's others."""
        return self.write("EMIT", stream, event)

    def increment(self, key: str, field: str, amount: int) -> Transaction:
        """Add to an integer hash field; |amount| and a batch's sum must be below 2**53.

        Raises ValueError. Sums are written last, when the whole batch has run.
        """
        if abs(amount) >= _EXACT:
            raise ValueError(f"{amount} is not below 2**53")
        return self.write("SUM", key, field, amount)

    def put(self, key: str, score: int, member: str) -> Transaction:
        """Add to a sorted set, together with the batch's other changes to it, at its end."""
        return self.write("PUT", key, score, member)

    def drop(self, key: str, member: str) -> Transaction:
        """Remove from a sorted set, likewise; the last word on a member counts."""
        return self.write("DROP", key, member)

    def shift(self, source: str, target: str, member: str) -> Transaction:
        """Move from one sorted set to another, likewise, at the score that it has, if it is
        there."""
        self._keys.add(target)
        return self.write("MOVE", source, target, member)

    def put_all(self, key: str, members: Sequence[tuple[int, str]]) -> Transaction:
        """Add these (score, member) to a sorted set in one write, ahead of what is `put`."""
        self._keys.add(key)
        for at in range(0, len(members), _MEMBERS):
            some = members[at : at + _MEMBERS]
            parts = [_count(2 + 2 * len(some)), _WORDS["ZADD"], _packed(key.encode())]
            last, packed = None, b""
            for score, member in some:
                if score != last:
                    last, packed = score, _packed(b"%d" % score)
                parts += (packed, _packed(member.encode()))
            self._writes.append(b"".join(parts))
        return self

    def set_all(
        self, common: Mapping[str, Value], field: str, values: Iterable[tuple[str, bytes]]
    ) -> Transaction:
        """Set the `common` fields of many hashes, and `field` of each; of each its key and value.
        As `set_fields`, in a third of the time."""
        fields = [*chain.from_iterable(common.items()), field]
        head = _count(len(fields) + 3) + _WORDS["HSET"]
        between = _list(fields)[2:]
        keys, writes = self._keys.add, self._writes.append
        for key, value in values:
            keys(key)
            writes(b"".join((head, _packed(key.encode()), between, _packed(value))))
        return self

    # -- composition -----------------------------------------------------------------------

    def step(self) -> Transaction:
        """A new transaction tried after this one's writes, with guards of its own."""
        return self.then(Transaction())

    def then(self, step: Transaction) -> Transaction:
        """Try `step` after this one's writes; returns it."""
        self._steps.append(step)
        return step

    def absorb(self, other: Transaction) -> Transaction:
        """Make everything of `other` this one's own: all guards before all writes."""
        if self._acknowledges and other._guards:
            raise ValueError("the acknowledgement is the last guard: it is not taken back")
        self._acknowledges |= other._acknowledges
        self._guards += other._guards
        self._writes += other._writes
        self._steps += other._steps
        self._keys |= other._keys
        self._premises |= other._premises
        return self

    def pack(self, keys: set[str]) -> bytes:
        """Wire form; the keys that it touches are added to `keys`."""
        premises: dict[tuple[str, str], None] = {}
        self._gather(premises)
        if premises:
            first = Transaction()
            for stream, entry_id in premises:
                first.require_entry(stream, entry_id)
            keys |= first._keys
            return self._pack(keys, first._guards)
        return self._pack(keys, [])

    def _gather(self, premises: dict[tuple[str, str], None]) -> None:
        premises |= self._premises
        for step in self._steps:
            step._gather(premises)

    def _pack(self, keys: set[str], first: list[bytes]) -> bytes:
        """`first`: guards that come before its own."""
        keys |= self._keys
        guards = [*first, *self._guards]
        rest = b"".join([*guards, *self._writes, *[each._pack(keys, []) for each in self._steps]])
        return _head(len(guards), len(self._writes), len(self._steps), len(rest)) + rest


class _Part:
    """Packed transactions of one caller that go out together."""

    __slots__ = ("body", "count", "future", "keys", "size")

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.body: list[bytes] = []
        self.keys: set[str] = set()
        self.count = 0
        self.size = 0
        self.future = future

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            known = error if isinstance(error, Exception) else CommitUnknown("stopped")
            self.future.set_exception(known)
            self.future.exception()  # a caller that was cancelled never collects it


class Committer:
    """Sends transactions to one partition, one batch in flight at a time.

    `commit` may be called concurrently. It survives cancellation of its caller (the batch
    still goes out), lost connections and server restarts; after `patience` seconds without
    an answer it raises CommitUnknown. With `replicas` the answer is given only once so many
    replicas have the commit, and all that came before it.
    """

    def __init__(
        self, redis: Redis, partition: Partition, *, patience: float = 60.0, replicas: int = 0
    ) -> None:
        self.redis = redis
        self.partition = partition
        self.patience = patience
        self.replicas = replicas
        self.receipt = partition.key(f"receipt:{uuid.uuid4().hex}")
        self._sequence = 0
        self._queue: deque[_Part] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def commit(self, transactions: Sequence[Transaction]) -> list[bool]:
        """Which of the transactions took effect, in order.

        They go to the server in order and, up to 500, atomically together. Raises WriteFailed
        (the others took effect), CommitUnknown, or CommitTooLarge (then nothing was sent).
        """
        parts = self._packed(transactions)
        self._queue.extend(parts)
        if parts and self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        flags = b""
        reason = b""
        for part in parts:
            answer, _, why = (await part.future).partition(b"\n")
            flags += answer
            reason = reason or why
        if reason:
            failed = tuple(i for i, flag in enumerate(flags) if flag == _FAILED)
            text = reason.decode("utf-8", "replace")
            if is_forbidden(text) and isinstance(self.redis, Client) and self.redis.on_refused:
                self.redis.on_refused(Forbidden(forbidden(text, ("a commit's write",))))
            raise WriteFailed(text, failed, tuple(flag == _HELD for flag in flags))
        return [flag == _HELD for flag in flags]

    async def apply(self, transaction: Transaction) -> bool:
        """`commit` for one."""
        return (await self.commit([transaction]))[0]

    async def settled(self) -> None:
        """Wait until all that was handed in has been answered (or given up)."""
        while self._flusher is not None:
            await asyncio.shield(self._flusher)

    async def aclose(self) -> None:
        """Let the last batch finish and close the connection."""
        await self.settled()
        await self.redis.aclose()

    def _packed(self, transactions: Sequence[Transaction]) -> list[_Part]:
        loop = asyncio.get_running_loop()
        parts: list[_Part] = []
        for transaction in transactions:
            keys: set[str] = set()
            packed = transaction.pack(keys)
            if len(packed) > MAX_BYTES:
                raise CommitTooLarge(f"{len(packed)} bytes in one transaction, over {MAX_BYTES}")
            part = parts[-1] if parts else None
            if part is None or not _fits(part.count + 1, part.size + len(packed)):
                part = _Part(loop.create_future())
                parts.append(part)
            part.body.append(packed)
            part.keys |= keys
            part.count += 1
            part.size += len(packed)
        return parts

    async def _flush(self) -> None:
        try:
            while self._queue:
                await self._flush_one()
        finally:
            self._flusher = None

    async def _flush_one(self) -> None:
        batch: list[_Part] = []
        count = size = 0
        while self._queue:
            part = self._queue[0]
            if batch and not _fits(count + part.count, size + part.size):
                break
            batch.append(self._queue.popleft())
            count += part.count
            size += part.size
        self._sequence += 1
        keys = set().union(*(part.keys for part in batch))
        body = b"".join([packed for part in batch for packed in part.body])
        try:
            reply = await self._send([self.receipt, *keys], body)
        except BaseException as error:
            for part in batch:
                part.fail(error)
            if not isinstance(error, Exception):
                raise
            return
        flags, _, reason = reply.partition(b"\n")
        start = 0
        for part in batch:
            mine = flags[start : start + part.count]
            start += part.count
            if not part.future.done():
                part.future.set_result(mine + b"\n" + reason if _FAILED in mine else mine)

    async def _send(self, keys: list[str], body: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(self.patience, RECEIPT_SECONDS / 2)
        waits = backoff()
        again = False
        while True:
            try:
                reply = await COMMIT(
                    self.redis, keys, [body, str(self._sequence), str(RECEIPT_SECONDS)]
                )
                if self.replicas:
                    await self._replicated(again)
                return bytes(reply)
            except Exception as error:
                if not is_transient(error):
                    raise
                if loop.time() > deadline:
                    raise CommitUnknown(f"no answer in {self.patience:g} s: {error}") from error
                log.warning("commit delayed", error=str(error) or type(error).__name__)
                again = True
                await asyncio.sleep(next(waits))

    async def _replicated(self, again: bool) -> None:
        """Wait for the replicas. Raises NotReplicated."""
        if again:
            # WAIT is for the writes of this connection: an answer from the receipt was none.
            await self.redis.expire(self.receipt, RECEIPT_SECONDS)
        have = int(await self.redis.execute_command("WAIT", self.replicas, _WAIT_MS))
        if have < self.replicas:
            raise NotReplicated(f"{have} of {self.replicas} replicas have the commit")


_HELD, _FAILED = b"1!"


def _fits(count: int, size: int) -> bool:
    return count <= MAX_TRANSACTIONS and size <= MAX_BATCH_BYTES
