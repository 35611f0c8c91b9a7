"""One consumer's membership in a consumer group over one or more streams ("lanes").

Lanes are in order of urgency: a lane is read only when those before it have nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.codec import Codec
from streams.event import Entry
from streams.inspection import stream_groups
from streams.scripts import LEAVE, RENEW, TAKE

log = structlog.get_logger(__name__)


class Lease(msgspec.Struct, frozen=True):
    """A pending entry being worked on, and the record field that says whose it is."""

    stream: str
    entry_id: str
    record: str
    fence: str


class Group:
    """Reads, claims, renews. All ids are str, times are milliseconds."""

    def __init__(
        self, redis: Redis, codec: Codec, group: str, consumer: str, lanes: Sequence[str]
    ) -> None:
        self.redis = redis
        self.codec = codec
        self.name = group
        self.consumer = consumer
        self.lanes = list(lanes)

    async def ensure(self) -> None:
        """Create the streams and the group where missing. From the start, never from `$`:
        what came before the first consumer is work too."""
        for lane in self.lanes:
            try:
                await self.redis.execute_command(
                    "XGROUP", "CREATE", lane, self.name, "0", "MKSTREAM"
                )
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def take(self, count: int) -> list[Entry]:
        """Up to `count` new entries at once, most urgent lane first; does not block."""
        reply = await TAKE(self.redis, self.lanes, [self.name, self.consumer, count])
        return self._entries(reply)

    async def wait(self, count: int, block_ms: int) -> list[Entry]:
        """New entries, blocking up to `block_ms`; up to `count` of each lane."""
        reply = await self._read(">", count, "BLOCK", block_ms)
        return self._entries(reply)

    async def own_pending(
        self, count: int, after: Mapping[str, str] | None = None, *, again: bool = False
    ) -> list[Entry]:
        """Entries delivered to this consumer and not acknowledged, up to `count` of each lane,
        those after the given ids. Read them at the start and after any lost connection: a
        reply may have been lost with it. With `again` it does not count as a delivery.
        """
        if again:
            return await self._pending_again(count, after or {})
        starts = [(after or {}).get(lane, "0") for lane in self.lanes]
        entries = self._entries(await self._read(starts, count))
        return await self._with_deliveries(entries)

    async def _pending_again(self, count: int, after: Mapping[str, str]) -> list[Entry]:
        entries: list[Entry] = []
        for lane in self.lanes:
            start = f"({after[lane]}" if lane in after else "-"
            pending = await self.redis.execute_command(
                "XPENDING", lane, self.name, start, "+", count, self.consumer
            )
            async with self.redis.pipeline(transaction=False) as pipeline:
                for entry_id, *_ in pending:
                    pipeline.execute_command("XRANGE", lane, entry_id, entry_id)
                rows = await pipeline.execute()
            for (entry_id, _, _, deliveries), found in zip(pending, rows, strict=True):
                fields = tuple(found[0][1]) if found else ()
                entries.append(self.codec.entry(lane, entry_id.decode(), fields, int(deliveries)))
        return entries

    async def claim(self, idle_ms: int, count: int) -> list[Entry]:
        """Take over entries that their consumer has not acknowledged for `idle_ms`."""
        entries: list[Entry] = []
        for lane in self.lanes:
            cursor: bytes = b"0-0"
            while len(entries) < count:
                cursor, rows, deleted = await self.redis.execute_command(
                    "XAUTOCLAIM",
                    lane,
                    self.name,
                    self.consumer,
                    idle_ms,
                    cursor,
                    "COUNT",
                    count - len(entries),
                )
                if deleted:
                    log.warning("entries trimmed while pending", stream=lane, ids=deleted)
                entries += self._entries([[lane.encode(), rows]])
                if cursor == b"0-0":
                    break
        return await self._with_deliveries(entries)

    async def hand_back(self, entries: Sequence[Entry], idle_ms: int) -> None:
        """Whoever next claims what has been idle for so long may have these."""
        for entry in entries:
            await self.redis.execute_command(
                *("XCLAIM", entry.stream, self.name, self.consumer, 0, entry.id),
                *("IDLE", idle_ms, "JUSTID"),
            )

    async def undelivered(self, lanes: Sequence[str]) -> bool:
        """Whether something is known to be in these lanes that no consumer has been given."""
        return any(
            group["name"] == self.name.encode() and group.get("lag")
            for groups in await stream_groups(self.redis, *lanes)
            for group in groups
        )

    async def renew(
        self, leases: Sequence[Lease], fence_field: str, *signal_fields: str
    ) -> list[list[str] | None]:
        """Keep the leases. For each: the record's signals ("" where unset), None if it is lost."""
        keys = [key for lease in leases for key in (lease.stream, lease.record)]
        arguments = [value for lease in leases for value in (lease.entry_id, lease.fence)]
        fields = (fence_field, *signal_fields)
        reply = await RENEW(
            self.redis, keys, [self.name, self.consumer, len(fields), *fields, *arguments]
        )
        return [
            None if signals is None else [each.decode() for each in signals] for signals in reply
        ]

    async def leave(self) -> None:
        """Remove this consumer from every lane where it holds nothing."""
        await LEAVE(self.redis, self.lanes, [self.name, self.consumer, 0])

    async def remove_idle(self, idle_ms: int) -> int:
        """Remove every consumer that holds nothing and did nothing for `idle_ms`."""
        return int(await LEAVE(self.redis, self.lanes, [self.name, "", idle_ms]))

    async def _read(self, start: str | Sequence[str], count: int, *options: Any) -> Any:
        starts = [start] * len(self.lanes) if isinstance(start, str) else start
        return await self.redis.execute_command(
            "XREADGROUP",
            "GROUP",
            self.name,
            self.consumer,
            "COUNT",
            count,
            *options,
            "STREAMS",
            *self.lanes,
            *starts,
        )

    def _entries(self, reply: Any) -> list[Entry]:
        decode = self.codec.entry
        return [
            # An entry trimmed while pending has no fields left; it decodes to a fault.
            decode(stream.decode(), row[0].decode(), tuple(row[1] or ()))
            for stream, rows in reply or ()
            for row in rows
            if row is not None
        ]

    async def _with_deliveries(self, entries: list[Entry]) -> list[Entry]:
        """The same entries with how often each has been delivered."""
        found: dict[tuple[str, str], int] = {}
        for lane in {entry.stream for entry in entries}:
            ids = [entry.id for entry in entries if entry.stream == lane]
            rows = await self.redis.execute_command(
                "XPENDING", lane, self.name, ids[0], ids[-1], len(ids) * 4 + 100, self.consumer
            )
            found |= {(lane, row[0].decode()): int(row[3]) for row in rows}
        return [
            msgspec.structs.replace(entry, deliveries=found.get((entry.stream, entry.id), 1))
            for entry in entries
        ]
