"""What the record of an interruptible job says when one of its attempts ends: the segments that
it ran before, and whether it is asked to pause or to stop."""

from __future__ import annotations

from typing import Self

import msgspec
import structlog

from carbon_orchestrator.events import Pool
from carbon_orchestrator.router.waiting import Plan

log = structlog.get_logger(__name__)

#: The fields of a record that `Segments.of` needs, in order.
SEGMENTS_FIELDS = (
    *("state", "attempt", "segments", "ran_fast_ms", "ran_eco_ms"),
    *("suspend", "cancel"),
)


class Segments(msgspec.Struct, frozen=True):
    """Earlier segments and their run times, wall ms; `suspend` and `cancel` as in the record."""

    count: int = 0
    fast_ms: int = 0
    eco_ms: int = 0
    suspend: str | None = None
    cancel: str | None = None

    @classmethod
    def of(cls, row: list[bytes | None], attempt: int) -> Self | None:
        """From the SEGMENTS_FIELDS of the record; None where `attempt` runs no more."""
        state, current, count, fast, eco, suspend, cancel = row
        if state != b"running" or int(current or 0) != attempt:
            return None
        return cls(
            int(count or 0),
            int(fast or 0),
            int(eco or 0),
            None if suspend is None else suspend.decode(),
            None if cancel is None else cancel.decode("utf-8", "replace"),
        )

    @property
    def ran_ms(self) -> int:
        """Wall ms of all earlier segments."""
        return self.fast_ms + self.eco_ms

    def total_ms(self, pool: Pool, run_ms: int) -> int | None:
        """Wall ms of all segments with a last one of `run_ms` on `pool`; None where there was
        only that one, or they did not all run on that pool."""
        same, other = self.fast_ms, self.eco_ms
        if pool == "eco":
            same, other = other, same
        return same + run_ms if self.count and not other else None


FIRST = Segments()
_plan = msgspec.json.Decoder(Plan)


def pause_plan(suspend: str | None) -> Plan | None:
    """When and where a job goes on that is asked to pause; None where it is not asked to, or
    nobody can tell."""
    if suspend is None:
        return None
    try:
        return _plan.decode(suspend)
    except msgspec.DecodeError as error:
        log.warning("unreadable request to pause, the job runs on", error=str(error))
        return None
