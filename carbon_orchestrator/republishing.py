"""Recorded events as somebody would publish them now, to another deployment."""

from __future__ import annotations

import asyncio
import re
import time

import anyio
import msgspec

from carbon_orchestrator.clock import GridClock, parse_time, rfc3339
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.replaying import Recorded
from streams.codec import entry_fields
from streams.commit import Committer, Transaction
from streams.event import entry_order

_ABSOLUTE = re.compile(r"\d{4}-")
SOURCE = "replay"
TOGETHER = 200
_PATIENCE_SECONDS = 5.0


def anew(recorded: Recorded, clock: GridClock, now: int) -> list[str | bytes] | None:
    """The fields of an entry for the event at `now` (grid ms of the target); None where it could
    not be decoded. `clock`: the grid clock that it was recorded by.

    A submission becomes one of now: no `submitted_at`; its job's id stays, so that publishing it
    twice makes one job; a deadline that is a point in time is as far away as it was. All other
    events stay as they are.
    """
    message = recorded.message
    if message is None:
        return None
    event = message.event
    if isinstance(event, JobSubmitted):
        at = event.submitted_at
        if at is None:
            at = clock.grid(message.at_ms)
        event = msgspec.structs.replace(
            event,
            job_id=recorded.job_id,
            submitted_at=None,
            deadline=_shifted(event.deadline, now - at),
        )
    return entry_fields(event, message.source or SOURCE, message.traceparent)


def _shifted(deadline: str | float | int | None, by: int) -> str | float | int | None:
    if not isinstance(deadline, str) or not _ABSOLUTE.match(deadline):
        return deadline
    try:
        return rfc3339(parse_time(deadline) + by)
    except (ValueError, OverflowError, OSError):
        return deadline  # no time at all, or beyond all time: as it was, it is refused again


class Pace:
    """When to publish what: in the rhythm of the record, so many times faster."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: tuple[int, float] | None = None

    def wait(self, recorded_ms: int, now: float) -> float:
        """Seconds to wait for what was recorded then; `now` in seconds of a steady clock."""
        if self._speed is None:
            return 0.0
        if self._first is None:
            self._first = (recorded_ms, now)
        first_ms, begun = self._first
        return max(0.0, begun + (recorded_ms - first_ms) / 1000 / self._speed - now)


class Publishing:
    """Events on their way to the target, those that are due together in one commit."""

    def __init__(
        self,
        committer: Committer,
        stream: str,
        clock: GridClock,
        there: GridClock,
        speed: float | None,
    ) -> None:
        """`stream`: the target's key; `clock`, `there`: the grid clocks of the record and of the
        target; `speed` as for `Pace`."""
        self._committer = committer
        self._stream = stream
        self._clock = clock
        self._there = there
        self._pace = Pace(speed)
        self.published = self.undecodable = 0
        self._waiting: list[Transaction] = []
        self._commit: asyncio.Future[list[bool]] | None = None

    async def add(self, recorded: Recorded) -> None:
        """Publish it when its time has come."""
        pause = self._pace.wait(entry_order(recorded.entry_id)[0], time.monotonic())
        if pause > 0:
            await self.flush()
            await anyio.sleep(pause)
        fields = anew(recorded, self._clock, self._there.now())
        if fields is None:
            self.undecodable += 1
            return
        self._waiting.append(Transaction().add_entry(self._stream, fields))
        if len(self._waiting) >= TOGETHER:
            await self.flush()

    async def flush(self) -> None:
        """Publish what waits, and count it even if we are interrupted meanwhile."""
        waiting, self._waiting = self._waiting, []
        self._commit = asyncio.ensure_future(self._committer.commit(waiting))
        self._commit.add_done_callback(self._count)
        await asyncio.shield(self._commit)

    def _count(self, commit: asyncio.Future[list[bool]]) -> None:
        if not commit.cancelled() and commit.exception() is None:
            self.published += len(commit.result())

    async def end(self) -> None:
        """Wait, not for ever, for what is under way."""
        if self._commit is not None:
            await asyncio.wait({self._commit}, timeout=_PATIENCE_SECONDS)
