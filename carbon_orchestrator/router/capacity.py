"""How much of a pool is booked when: the greenest hour is not given to more than it can run.

Time is cut into buckets of 15 minutes on the grid clock. A plan books an equal share of each
bucket that it touches, so that many short jobs fit where one long job would. The books of a
pool are kept as changes of the load: a booking is two increments, in whichever order, and what
nobody took back is over when its time has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streams.commit import Transaction

BUCKET_MS = 900_000
#: The load of one job that runs through a whole bucket.
WHOLE = 1000
_SPARE = 96  # buckets to grow by


class Booking(NamedTuple):
    """A job's share of the buckets first <= b < last."""

    first: int
    last: int
    weight: int

    @classmethod
    def of(cls, start: int, end: int) -> Booking:
        """For a run over [start, end), grid ms."""
        first = start // BUCKET_MS
        last = max(first + 1, -(-end // BUCKET_MS))
        weight = round(WHOLE * (end - start) / ((last - first) * BUCKET_MS))
        return cls(first, last, min(max(weight, 1), WHOLE))

    def write(self, transaction: Transaction, key: str, sign: int = 1) -> None:
        """Book it, or take it back (-1), in the books under `key`."""
        transaction.increment(key, str(self.first), sign * self.weight)
        transaction.increment(key, str(self.last), -sign * self.weight)


class Ledger:
    """The load of one pool, in memory. `slots`: jobs that it runs at once; None: any number."""

    __slots__ = ("_base", "_load", "slots")

    def __init__(self, slots: int | None) -> None:
        self.slots = slots
        self._base = 0
        self._load = np.zeros(0, dtype=np.int64)

    @classmethod
    def read(cls, slots: int | None, changes: Mapping[bytes, bytes]) -> Ledger:
        """From the books as `Booking.write` keeps them."""
        ledger = cls(slots)
        if changes:
            by_bucket = {int(bucket): int(change) for bucket, change in changes.items()}
            ledger._base = min(by_bucket)
            steps = np.zeros(max(by_bucket) + 1 - ledger._base, dtype=np.int64)
            for bucket, change in by_bucket.items():
                steps[bucket - ledger._base] = change
            ledger._load = np.cumsum(steps)
        return ledger

    def book(self, booking: Booking, sign: int = 1) -> None:
        """Add its load, or take it away (-1)."""
        if self.slots is None:
            return
        if not len(self._load):
            self._base = booking.first
        if booking.first < self._base:
            grow = self._base - booking.first + _SPARE
            self._load = np.concatenate((np.zeros(grow, dtype=np.int64), self._load))
            self._base -= grow
        end = booking.last - self._base
        if end > len(self._load):
            more = np.zeros(end - len(self._load) + _SPARE, dtype=np.int64)
            self._load = np.concatenate((self._load, more))
        self._load[booking.first - self._base : end] += sign * booking.weight

    def digest(self) -> int:
        """Equal as long as the load is the same."""
        return hash(self._load.tobytes())

    def full(self, length: int, since: int, until: int) -> tuple[tuple[int, int], ...]:
        """The stretches (start, end) of [since, until), grid ms, in which a job of `length` ms
        has no room. Ascending, disjoint."""
        if self.slots is None:
            return ()
        weight = WHOLE if length >= BUCKET_MS else max(1, round(WHOLE * length / BUCKET_MS))
        first = since // BUCKET_MS
        low = max(first - self._base, 0)
        load = self._load[low : max(-(-until // BUCKET_MS) - self._base, 0)]
        if not len(load) or int(load.max()) + weight <= self.slots * WHOLE:
            return ()
        taken = np.concatenate(([False], load + weight > self.slots * WHOLE, [False]))
        bounds = (np.flatnonzero(taken[1:] != taken[:-1]) + self._base + low) * BUCKET_MS
        edges: list[int] = bounds.tolist()
        return tuple(zip(edges[::2], edges[1::2], strict=True))
