"""A built-in daily profile of carbon intensity, for use offline. It describes no real grid."""

from __future__ import annotations

from math import exp, pi, sin

from carbon_orchestrator.signal.provider import Expected, Kind, Point

DAY_MS = 86_400_000
STEP_MS = 1_800_000
LOWEST, HIGHEST = 120.0, 480.0  # gCO2e/kWh


def intensity(t: int) -> float:
    """gCO2e/kWh of the half hour that begins at `t` (ms since the Unix epoch, read as UTC).

    A morning and an evening peak with a solar dip between them, times a slow wander that makes
    days differ by some 10 %. Depends on `t` alone.
    """
    hour = t % DAY_MS / 3_600_000
    day = t / DAY_MS
    profile = 290 + _bump(hour, 8, 1.8, 90) + _bump(hour, 19, 2.2, 140) - _bump(hour, 13, 2.4, 140)
    # Periods that share no multiple, so no two weeks are alike.
    wander = 1 + 0.06 * sin(2 * pi * day / 3.7) + 0.04 * sin(2 * pi * day / 8.3)
    return round(min(max(profile * wander, LOWEST), HIGHEST), 1)


def _bump(hour: float, center: float, width: float, height: float) -> float:
    distance = (hour - center + 12) % 24 - 12  # around midnight too
    return height * exp(-0.5 * (distance / width) ** 2)


class Simulated:
    """The profile as a Provider: a value each half hour, at any time."""

    source = "simulated daily profile"
    kind: Kind = "average"
    simulated = True
    resolution_ms = STEP_MS
    start: int | None = None
    end: int | None = None

    def __init__(self, zone: str = "local") -> None:
        self.zone = zone

    async def now(self, t: int) -> Point | None:
        time = t - t % STEP_MS
        return Point(time, intensity(time))

    async def history(self, t0: int, t1: int) -> list[Point]:
        return [Point(time, intensity(time)) for time in range(t0 + -t0 % STEP_MS, t1 + 1, STEP_MS)]

    async def forecast(self, t: int) -> list[Expected]:
        return []

    async def aclose(self) -> None:
        """Nothing is held open."""
