"""What deadlines ask of a pool whose lane is read in order. Times are grid ms."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import NamedTuple


class Wait(NamedTuple):
    """A job in a lane: by when it must start (None: whenever), and how long it may run."""

    latest: int | None
    length: int


class Pressure(NamedTuple):
    """`pressing`: how many jobs must be taken at once; `pace`: how many slots in all must work,
    so that those behind them come to their turn in time."""

    pressing: int = 0
    pace: int = 0


def pressure(lane: Iterable[Wait], now: int, ahead: int) -> Pressure:
    """A job whose latest start is within `ahead` must be taken, and so must all before it. Of
    the others each has until its latest start for the work that is before it."""
    pressing, pace, before = 0, 0, 0
    for position, wait in enumerate(lane, 1):
        if wait.latest is not None:
            left = wait.latest - now - ahead
            if left <= 0:
                pressing = position
            elif before > pace * left:
                pace = min(position, ceil(before / left))
        before += wait.length
    return Pressure(pressing, pace)
