"""The one primitive: guarded writes, many of them in one atomic round trip.

A `Transaction` is a list of guards and a list of writes; it takes effect whole if all guards
hold, else not at all. A `Committer` sends transactions, those of concurrent callers together
(group commit), and each batch exactly once: a batch whose reply was lost is sent again under
its old sequence number, and the server answers from the receipt that it kept.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from streams.errors import CommitTooLarge, CommitUnknown, is_transient
from streams.keys import Partition
from streams.retry import backoff
from streams.scripts import COMMIT

log = structlog.get_logger(__name__)

#: A batch is cut where it would pass either; one transaction may not pass `MAX_BYTES` alone.
MAX_TRANSACTIONS = 500
MAX_BYTES = 8 << 20
#: Seconds for which a commit can be sent again and still be answered from its receipt.
RECEIPT_SECONDS = 3600

Operation = list[Any]  # [command, key, argument, ...]
_encode = msgspec.msgpack.Encoder().encode


def packed(value: bytes) -> msgspec.Raw:
    """`value` as a msgpack string: Lua's cmsgpack knows no binary type."""
    return msgspec.Raw(b"\xdb" + len(value).to_bytes(4, "big") + value)


class Transaction:
    """Guards and writes. Keys are full key names; values are str, bytes or int."""

    __slots__ = ("guards", "steps", "writes")

    def __init__(self) -> None:
        self.guards: list[list[Any]] = []
        self.writes: list[Operation] = []
        self.steps: list[Transaction] = []

    # -- guards --------------------------------------------------------------------------

    def require_ack(self, stream: str, group: str, entry_id: str) -> Transaction:
        """Holds if the entry was still pending in the group; acknowledges it."""
        self.guards.append([["XACK", stream, group, entry_id], "1"])
        return self

    def require_zrem(self, key: str, member: str) -> Transaction:
        """Holds if the member was in the sorted set; removes it."""
        self.guards.append([["ZREM", key, member], "1"])
        return self

    def require_field(self, key: str, field: str, *accepted: str) -> Transaction:
        """Holds if the hash field has one of the values; "" stands for an absent field."""
        self.guards.append([["HGET", key, field], *accepted])
        return self

    def require_absent(self, key: str) -> Transaction:
        """Holds if there is no such key."""
        self.guards.append([["EXISTS", key], "0"])
        return self

    def require_deleted(self, stream: str, entry_id: str) -> Transaction:
        """Holds if the entry was in the stream; deletes it."""
        self.guards.append([["XDEL", stream, entry_id], "1"])
        return self

    # -- writes --------------------------------------------------------------------------

    def set_fields(self, key: str, fields: Mapping[str, str | bytes | int]) -> Transaction:
        operation: list[Any] = ["HSET", key]
        for name, value in fields.items():
            operation.append(name)
            operation.append(_argument(value))
        self.writes.append(operation)
        return self

    def add_entry(self, stream: str, fields: Iterable[str | bytes]) -> Transaction:
        """One entry with these alternating names and values."""
        self.writes.append(["XADD", stream, "*", *map(_argument, fields)])
        return self

    def emit(self, stream: str, event: bytes) -> Transaction:
        """One event (JSON, see codec.envelope), sharing its entry with the batch's others."""
        self.writes.append(["EMIT", stream, event.decode()])
        return self

    def increment(self, key: str, field: str, amount: int) -> Transaction:
        """Add to an integer hash field; |amount| and a batch's sum must be below 2**53."""
        self.writes.append(["SUM", key, field, amount])
        return self

    def write(self, command: str, key: str, *arguments: str | bytes | int) -> Transaction:
        """Any other single-key write command."""
        self.writes.append([command, key, *map(_argument, arguments)])
        return self

    def step(self) -> Transaction:
        """A new transaction tried after this one's writes, with guards of its own."""
        step = Transaction()
        self.steps.append(step)
        return step

    def pack(self, index: dict[str, int]) -> list[Any]:
        """Wire form; keys are replaced by their numbers in `index`, which grows."""
        return [
            [[_with_index(operation, index), *accepted] for operation, *accepted in self.guards],
            [_with_index(operation, index) for operation in self.writes],
            [step.pack(index) for step in self.steps] if self.steps else (),
        ]


def _argument(value: str | bytes | int) -> str | msgspec.Raw:
    if type(value) is str:
        return value
    if isinstance(value, bytes):
        return packed(value)
    return str(value)


def _with_index(operation: Operation, index: dict[str, int]) -> Operation:
    key = operation[1]
    number = index.get(key)
    if number is None:
        number = index[key] = len(index) + 2  # KEYS[1] is the receipt
    return [operation[0], number, *operation[2:]]


class Committer:
    """Sends transactions to one partition, one batch in flight at a time.

    `commit` may be called concurrently. It survives cancellation of its caller (the batch
    still goes out), lost connections and server restarts; after `patience` seconds without
    an answer it raises CommitUnknown.
    """

    def __init__(self, redis: Redis, partition: Partition, *, patience: float = 60.0) -> None:
        self.redis = redis
        self.partition = partition
        self.patience = patience
        self.receipt = partition.key(f"receipt:{uuid.uuid4().hex}")
        self._sequence = 0
        self._queue: deque[tuple[Sequence[Transaction], asyncio.Future[list[bool]]]] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def commit(self, transactions: Sequence[Transaction]) -> list[bool]:
        """Which of the transactions took effect, in order.

        They go to the server in order and, up to 500, atomically together. Raises
        CommitUnknown, CommitTooLarge, or the server's error for a malformed write.
        """
        if not transactions:
            return []
        results: list[bool] = []
        for start in range(0, len(transactions), MAX_TRANSACTIONS):
            future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
            self._queue.append((transactions[start : start + MAX_TRANSACTIONS], future))
            if self._flusher is None:
                self._flusher = asyncio.create_task(self._flush())
            results += await future
        return results

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

    async def _flush(self) -> None:
        try:
            while self._queue:
                await self._flush_one()
        finally:
            self._flusher = None

    async def _flush_one(self) -> None:
        batch: list[tuple[Sequence[Transaction], asyncio.Future[list[bool]]]] = []
        count = size = 0
        index: dict[str, int] = {}
        parts: list[bytes] = []
        while self._queue and count < MAX_TRANSACTIONS:
            transactions, future = self._queue[0]
            part = b"".join([_encode(each.pack(index)) for each in transactions])
            if len(part) > MAX_BYTES and not batch:
                self._queue.popleft()
                _fail(future, CommitTooLarge(f"{len(part)} bytes, at most {MAX_BYTES}"))
                return
            if batch and (
                size + len(part) > MAX_BYTES or count + len(transactions) > MAX_TRANSACTIONS
            ):
                break
            self._queue.popleft()
            batch.append((transactions, future))
            parts.append(part)
            count += len(transactions)
            size += len(part)
        self._sequence += 1
        body = b"\xdd" + count.to_bytes(4, "big") + b"".join(parts)
        try:
            reply = await self._send([self.receipt, *index], body)
        except BaseException as error:
            for _, future in batch:
                _fail(future, error)
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for transactions, future in batch:
            flags = reply[start : start + len(transactions)]
            start += len(transactions)
            if not future.done():
                future.set_result([flag == 49 for flag in flags])  # ord("1")

    async def _send(self, keys: list[str], body: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(self.patience, RECEIPT_SECONDS / 2)
        waits = backoff()
        while True:
            try:
                reply = await COMMIT(
                    self.redis, keys, [body, str(self._sequence), str(RECEIPT_SECONDS)]
                )
                return bytes(reply)
            except Exception as error:
                if not is_transient(error):
                    raise
                if loop.time() > deadline:
                    raise CommitUnknown(f"no answer in {self.patience:g} s: {error}") from error
                log.warning("commit delayed", error=str(error) or type(error).__name__)
                await asyncio.sleep(next(waits))


def _fail(future: asyncio.Future[list[bool]], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error if isinstance(error, Exception) else CommitUnknown("stopped"))
        # A caller that was cancelled never collects it.
        future.exception()
