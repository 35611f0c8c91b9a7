"""Wall time, as the server has it: all roles of a deployment go by one clock.

Leases, streams and their ids go by the server's clock. A role whose own machine's clock is
right to the second keeps that; one that is further off, or is stepped while the role runs,
is corrected, so that a deadline or a plan does not depend on who judges it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_NS = 1_000_000
#: What a clock may be off without being corrected; below that, all clocks are taken as equal.
TOLERANCE_MS = 1000
#: An answer of the server that took longer tells its time too roughly.
_SLOWEST_MS = 500

#: Runs on while the machine sleeps, where there is such a clock.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_ms() -> int:
    """Milliseconds by a clock that is never set."""
    return time.clock_gettime_ns(_STEADY) // _NS


def own_ms() -> int:
    """Milliseconds since the Unix epoch, as this machine has it."""
    return time.time_ns() // _NS


class WallClock:
    """One machine's clock, held to the server's. Times are ms."""

    def __init__(
        self, own: Callable[[], int] = own_ms, steady: Callable[[], int] = steady_ms
    ) -> None:
        self._own = own
        self._steady = steady
        #: Added to the machine's own time.
        self.correction = 0
        self._base: tuple[int, int] | None = None  # steady time, and the right time then

    def now(self) -> int:
        """Ms since the Unix epoch."""
        told = self._own() + self.correction
        if self._base is None:
            return told
        steady, right = self._base
        expected = right + self._steady() - steady
        # Stepped since the server was last heard: the steady clock tells better.
        return told if abs(told - expected) < TOLERANCE_MS else expected

    def heard(self, server: int, sent: int) -> bool:
        """The server said `server` in answer to a question sent at steady time `sent`. Whether
        that changed the correction."""
        steady = self._steady()
        if steady - sent > _SLOWEST_MS:
            return False
        right = server + (steady - sent) // 2
        ahead = right - self._own()
        changed = abs(ahead - self.correction) >= TOLERANCE_MS
        if changed:
            self.correction = 0 if abs(ahead) < TOLERANCE_MS else ahead
        self._base = (steady, right)
        return changed


#: This process's.
CLOCK = WallClock()
