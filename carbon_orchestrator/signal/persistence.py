"""The seasonal-naive forecast: the coming day will be as the last one was.

The benchmark that any better forecaster must beat (Hyndman & Athanasopoulos, Forecasting:
Principles and Practice, 3rd ed., section 5.2). It needs the signal's own past and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from carbon_orchestrator.signal.provider import Point

DAY_MS = 86_400_000
SOURCE = "persistence-24h"


def persistence(history: Iterable[Point], t: int) -> tuple[list[Point], str | None]:
    """The 24 hours after `t` (ms), each point 24 h later than one known at `t`; and SOURCE.

    Points of `history` after `t` are not looked at. [] and None without a point in the last day.
    """
    points = [Point(time + DAY_MS, value) for time, value in history if t - DAY_MS < time <= t]
    return points, SOURCE if points else None
