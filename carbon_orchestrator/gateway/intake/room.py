"""How many more jobs are taken for now: of all, and of each API key."""

from __future__ import annotations

from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.intake.held import Held
from carbon_orchestrator.gateway.intake.outcome import Refused, unable
from carbon_orchestrator.gateway.intake.tally import Tally
from carbon_orchestrator.gateway.reading import Reading

_RETRY_SECONDS = 10


class Room:
    """At most `most` jobs that have not ended, and of each key what `held` says."""

    def __init__(self, reading: Reading, held: Held, most: int) -> None:
        self._held = held
        self._most = most
        self.unfinished = Tally(reading.unfinished)

    async def left(self, asking: Caller) -> int:
        """How many more there is room for; none or fewer where there is not."""
        left = self._most - await self.unfinished.known()
        if asking.key_id is None:
            return left
        return min(left, self._held.most - await self._held.tally(asking.key_id).known())

    def has_one(self, asking: Caller) -> bool:
        """Whether it is known without counting that there is room for one more."""
        known = self.unfinished.lately()
        if known is None or known >= self._most:
            return False
        if asking.key_id is None:
            return True
        known = self._held.tally(asking.key_id).lately()
        return known is not None and known < self._held.most

    async def why(self, asking: Caller) -> Refused:
        """Why there is no room for more."""
        left = self._most - await self.unfinished.known()
        if left <= await self.left(asking):
            return unable(f"{self._most} jobs wait already", _RETRY_SECONDS)
        detail = f"{self._held.most} jobs of this API key have not ended yet"
        return Refused(status=429, kind="queue-share", detail=detail, retry_after=_RETRY_SECONDS)

    def taking(self, asking: Caller, jobs: int) -> None:
        """Room is taken for jobs that are being made, until they are `taken`."""
        self.unfinished.adding(jobs)
        if asking.key_id is not None:
            self._held.tally(asking.key_id).adding(jobs)

    def taken(self, asking: Caller, jobs: int) -> None:
        """They were made, as far as they could be."""
        self.unfinished.added(jobs)
        if asking.key_id is not None:
            self._held.tally(asking.key_id).added(jobs)
