"""The times of one router's decisions, told so that they say what it knew.

A clock has one time for all that happens within its tick. Here all that was decided before
something became known has an earlier time than that, and all that was decided after it a later
one: the order of a logical clock (Lamport, 1978), at most a few ms ahead of the grid clock.
"""

from __future__ import annotations

from collections.abc import Callable


class Moments:
    """`clock`: grid ms now."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._read = 0
        self._forget()

    def _forget(self) -> None:
        self._last = -1  # of all that were told
        self._change = -1

    def now(self) -> int:
        """When something is decided with what is known since the last change."""
        moment = max(self._reading(), self._change + 1)
        self._last = max(self._last, moment)
        return moment

    def change(self) -> int:
        """When more is known than before, or booked."""
        self._last = self._change = max(self._reading(), self._last + 1)
        return self._change

    def _reading(self) -> int:
        reading = self._clock()
        if reading < self._read:  # set back: what was told before is of another time
            self._forget()
        self._read = reading
        return reading
