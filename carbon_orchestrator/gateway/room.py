"""How many more jobs are taken for now: of all, and of each API key."""

from __future__ import annotations

import time

from carbon_orchestrator.gateway.access import Caller
from carbon_orchestrator.gateway.held import Held
from carbon_orchestrator.gateway.outcome import Refused
from carbon_orchestrator.gateway.reading import Reading

COUNT_SECONDS = 0.5
_RETRY_SECONDS = 10


class Room:
    """At most `most` jobs that have not ended, and of each key what `held` says. Counted twice a
    second, and those that this gateway takes in between besides."""

    def __init__(self, reading: Reading, held: Held, most: int) -> None:
        self._reading = reading
        self._held = held
        self._most = most
        self.counted = (0.0, 0)  # when, and how many then or since

    async def left(self, asking: Caller) -> tuple[int, Refused]:
        """How many more there is room for, and why for no more than that."""
        left = self._most - await self._unfinished()
        refusal = Refused(
            status=503,
            kind="server-unavailable",
            detail=f"{self._most} jobs wait already",
            retry_after=_RETRY_SECONDS,
        )
        if asking.key_id is not None:
            own = await self._held.left(asking.key_id)
            if own < left:
                detail = f"{self._held.most} jobs of this API key have not ended yet"
                return max(0, own), Refused(
                    status=429, kind="queue-share", detail=detail, retry_after=_RETRY_SECONDS
                )
        return max(0, left), refusal

    def take(self, asking: Caller, jobs: int) -> None:
        """Count so many more as there; negative: so many were not made after all."""
        when, count = self.counted
        self.counted = (when, count + jobs)
        if asking.key_id is not None:
            self._held.count(asking.key_id, jobs)

    async def _unfinished(self) -> int:
        counted, count = self.counted
        if time.monotonic() - counted > COUNT_SECONDS:
            self.counted = (time.monotonic(), count)  # others need not count meanwhile
            count = await self._reading.unfinished()
            self.counted = (time.monotonic(), count)
        return count
