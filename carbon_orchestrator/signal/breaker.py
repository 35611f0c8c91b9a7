"""When a source that fails is asked again: a circuit breaker (Nygard, Release It!, 2nd ed., 2018).

Closed: the source is asked; after a failure it is asked again soon. Open: after several failures
in a row it is left alone for a while, and the next source is asked. Half-open: the while is over,
and one answer decides between the two. Times are seconds on a clock that never goes back.
"""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["closed", "open", "half-open"]

FAILURES = 3  # in a row that open it
PERMANENT_SECONDS = 1800.0  # asking again cannot help; but the operator may repair it meanwhile


class Breaker(msgspec.Struct, frozen=True):
    """`failures` in a row; the source is not asked before `until`."""

    failures: int = 0
    until: float = 0.0
    tripped: bool = False

    def state(self, now: float) -> State:
        if not self.tripped:
            return "closed"
        return "half-open" if self.allows(now) else "open"

    def allows(self, now: float) -> bool:
        """Whether the source may be asked."""
        return now >= self.until

    def succeeded(self) -> Breaker:
        return Breaker()

    def failed(
        self,
        now: float,
        wait: float,
        *,
        retry_after: float | None = None,
        permanent: bool = False,
    ) -> Breaker:
        """After a failure: asked again in `wait` seconds, but not before `retry_after`. A source
        that wants to be left alone, or whose fault is `permanent`, opens the breaker at once."""
        failures = self.failures + 1
        tripped = self.tripped or permanent or retry_after is not None or failures >= FAILURES
        quiet = max(wait, retry_after or 0.0, PERMANENT_SECONDS if permanent else 0.0)
        return Breaker(failures, now + quiet, tripped)
