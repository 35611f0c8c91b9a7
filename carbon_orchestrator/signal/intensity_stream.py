"""A zone's part of the intensity stream, read and written so that no point comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.published import KEPT_MS, Mark, Published
from carbon_orchestrator.topology import CODEC
from streams.codec import envelope
from streams.commit import Transaction
from streams.table import Table

_LOOKED_THROUGH = 100  # entries


async def latest_said(client: Redis, stream: str, zone: str) -> IntensityObserved | None:
    """The latest event of the zone, if it is among the stream's last entries."""
    rows: Any = await client.execute_command(
        "XREVRANGE", stream, "+", "-", "COUNT", _LOOKED_THROUGH
    )
    published = Published(zone)
    for entry_id, fields in reversed(rows):
        for message in CODEC.entry(stream, entry_id.decode(), tuple(fields)).messages:
            published.apply(message)
    return published.latest


def silence(zone: str) -> str:
    """The field of the `signal` hash that says why nothing is published of the zone, while
    nothing is."""
    return f"silence:{zone}"


class IntensityStream:
    """What is published of a zone is known from the stream alone, also to its own writer."""

    def __init__(self, runtime: Runtime, zone: str, kept_ms: int = KEPT_MS) -> None:
        """`kept_ms`: how much of the past is remembered."""
        self.zone = zone
        self.published = Published(zone, kept_ms=kept_ms)
        self._client = runtime.connect()
        self._committer = runtime.committer()
        self._stream, self._marks = runtime.topology.intensity, runtime.topology.signal
        self._mark: Mark | None = None
        self._written = ""  # the mark as it stands in the hash
        self._table: Table | None = None
        self._silence: str | None = None  # as last written; None: not known

    async def read(self) -> bool:
        """Take in what is new on the stream. True if `published` began anew, as it does at
        first, when the clock is another, and when the server has lost some of it."""
        # The mark before the stream: who publishes in between is noticed by `append`.
        raw: Any = await self._client.hget(self._marks, self.zone)
        mark = Mark.parse(raw.decode()) if raw else None
        if self._table is None:
            anew = True
        elif mark is None:
            anew = self._mark is not None
        else:
            # A server that came back may have lost the last commits, and their points with them.
            lost = self._mark is not None and mark.count < self._mark.count
            anew = lost or mark.since != self.published.since
        if anew:
            since = await self._last_entry() if mark is None else mark.since
            self.published = Published(self.zone, since, self.published.kept_ms)
            self._table = Table(self._client, CODEC, self._stream, self.published.apply)
            self._silence = None
        self._mark, self._written = mark, raw.decode() if raw else ""
        assert self._table is not None
        await self._table.load()
        return anew

    async def append(self, events: Sequence[IntensityObserved]) -> bool:
        """Publish them, the newest last; call after `read`. False if somebody else has published
        since then, and nothing was done."""
        last, mark = events[-1], self._mark
        change = Transaction().require_field(self._marks, self.zone, self._written)
        if mark is None:
            mark = Mark(last.time, last.intensity, 0, self.published.since)
        if last.forecast or last.time >= mark.time:
            mark = Mark(last.time, last.intensity, mark.count, mark.since)
        mark = Mark(mark.time, mark.value, mark.count + 1, mark.since)
        written = str(mark)
        change.set_fields(self._marks, {self.zone: written})
        if self._silence != "":
            change.write("HDEL", self._marks, silence(self.zone))
        for event in events:
            change.emit(self._stream, envelope(event, "signal"))
        if not await self._committer.apply(change):
            return False
        self._mark, self._written, self._silence = mark, written, ""
        return True

    async def silent(self, why: str) -> None:
        """Put on record why nothing is published, for people."""
        if why != self._silence:
            change = Transaction().set_fields(self._marks, {silence(self.zone): why})
            await self._committer.apply(change)
            self._silence = why

    async def _last_entry(self) -> str:
        rows: Any = await self._client.execute_command(
            "XREVRANGE", self._stream, "+", "-", "COUNT", 1
        )
        return rows[0][0].decode() if rows else "0-0"
