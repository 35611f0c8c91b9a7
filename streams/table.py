"""A table: the latest of a stream, kept in memory by every reader that wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import structlog
from redis.asyncio import Redis

from streams.codec import Codec
from streams.connection import BLOCK_MS
from streams.errors import is_transient
from streams.event import Message, entry_order
from streams.retry import backoff
from streams.stop import Stop

log = structlog.get_logger(__name__)

BEGIN = "0-0"


class Table:
    """Follows one stream without a group, from its oldest entry, and applies each event.

    `apply` is called in stream order, once per event per start of the reader, and must not
    fail; undecodable entries are skipped (a consumer group dead-letters them).
    """

    def __init__(
        self,
        redis: Redis,
        codec: Codec,
        stream: str,
        apply: Callable[[Message], None],
    ) -> None:
        self.redis = redis
        self.stream = stream
        self._codec = codec
        self._apply = apply
        self._last = BEGIN
        self._page = 1000
        self._moved = asyncio.Event()

    async def load(self) -> None:
        """Apply all that is in the stream now."""
        while True:
            rows = await self.redis.execute_command(
                "XRANGE", self.stream, f"({self._last}", "+", "COUNT", self._page
            )
            self._take(rows)
            if len(rows) < self._page:
                return

    async def reached(self, entry_id: str, seconds: float) -> bool:
        """Wait until what `run` has applied includes the entry; False if that takes longer."""
        wanted = entry_order(entry_id)
        with anyio.move_on_after(seconds):
            while entry_order(self._last) < wanted:
                self._moved.clear()
                await self._moved.wait()
            return True
        return False

    async def run(self, stop: Stop) -> None:
        """Keep up until `stop` is set."""
        waits = backoff()
        while not stop.is_set():
            try:
                await self._restart_if_replaced()
                with stop.cut():
                    while True:
                        reply = await self.redis.execute_command(
                            "XREAD",
                            "COUNT",
                            self._page,
                            "BLOCK",
                            BLOCK_MS,
                            "STREAMS",
                            self.stream,
                            self._last,
                        )
                        for _, rows in reply or ():
                            self._take(rows)
                        waits = backoff()
            except Exception as error:
                if not is_transient(error):
                    log.exception("table failed, going on", stream=self.stream)
                await stop.sleep(next(waits))

    async def _restart_if_replaced(self) -> None:
        """What we have read last is gone, with the server that had it: read all that there is."""
        if self._last != BEGIN and not await self.redis.execute_command(
            "XRANGE", self.stream, self._last, self._last
        ):
            self._last = BEGIN

    def _take(self, rows: list[tuple[bytes, list[bytes]]]) -> None:
        for entry_id, fields in rows:
            self._last = entry_id.decode()
            for message in self._codec.entry(self.stream, self._last, tuple(fields)).messages:
                self._apply(message)
        self._moved.set()
