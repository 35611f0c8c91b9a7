"""How many more jobs are taken for now: of all, and of each API key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from carbon_orchestrator.gateway.access import Caller
from carbon_orchestrator.gateway.held import Held
from carbon_orchestrator.gateway.outcome import Refused, unable
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.gateway.tally import Tally

_RETRY_SECONDS = 10


class Room:
    """At most `most` jobs that have not ended, and of each key what `held` says."""

    def __init__(self, reading: Reading, held: Held, most: int) -> None:
        self._held = held
        self._most = most
        self.unfinished = Tally(reading.unfinished)

    async def left(self, asking: Caller) -> tuple[int, Refused]:
        """How many more there is room for, and why for no more than that."""
        left = self._most - await self.unfinished.known()
        if asking.key_id is not None:
            own = self._held.most - await self._held.tally(asking.key_id).known()
            if own < left:
                detail = f"{self._held.most} jobs of this API key have not ended yet"
                return max(0, own), Refused(
                    status=429, kind="queue-share", detail=detail, retry_after=_RETRY_SECONDS
                )
        return max(0, left), unable(f"{self._most} jobs wait already", _RETRY_SECONDS)

    @contextmanager
    def taken(self, asking: Caller, jobs: int) -> Iterator[None]:
        """Room is taken for jobs that are being made."""
        with self.unfinished.adding(jobs):
            if asking.key_id is None:
                yield
            else:
                with self._held.tally(asking.key_id).adding(jobs):
                    yield
