"""How many there are of something that others change, too, nearly at all times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

COUNT_SECONDS = 0.5


class Tally:
    """Counted twice a second; in between, what we ourselves add is added up. What is under way
    counts as there, so that there are never more than we think for what we do."""

    def __init__(self, count: Callable[[], Awaitable[int]]) -> None:
        self._count = count
        self._first = asyncio.Lock()
        self.counted: float | None = None  # when, on the monotonic clock
        self._base = 0  # what was there then, less what we had added until then
        self._added = 0
        self._under_way = 0

    def lately(self) -> int | None:
        """How many there are; None where they are to be counted again."""
        if self.counted is None or time.monotonic() - self.counted > COUNT_SECONDS:
            return None
        return self._base + self._added + self._under_way

    async def known(self) -> int:
        """How many there are. Raises what counting raises."""
        if self.counted is None:
            async with self._first:
                if self.counted is None:
                    await self._recount()
        elif time.monotonic() - self.counted > COUNT_SECONDS:
            self.counted = time.monotonic()  # others need not count meanwhile
            await self._recount()
        return self._base + self._added + self._under_way

    def expire(self) -> None:
        """It is no longer so many: count again when next asked."""
        if self.counted is not None:
            self.counted -= COUNT_SECONDS

    async def _recount(self) -> None:
        added = self._added
        self._base = await self._count() - added
        self.counted = time.monotonic()

    def adding(self, number: int) -> None:
        """So many more are being added, until `added`."""
        self._under_way += number

    def added(self, number: int) -> None:
        """So many were added; where they were not, the next count will tell."""
        self._under_way -= number
        self._added += number
