"""The grid clock: wall time, or the time of a recorded or simulated grid played faster.

Deadlines, planned starts, decisions and emissions live on the grid clock; leases, timeouts,
run times and retention on the wall clock. At speed 1 from now the two are the same. The
clock is fixed when the deployment's signal first starts, and kept in Redis, so that every
role and every restart reads the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from carbon_orchestrator.wall_clock import CLOCK

#: The `signal` of a deployment whose clock nobody has set.
WALL = "wall"


def wall_ms() -> int:
    """Milliseconds since the Unix epoch, by the clock that all roles go by."""
    return CLOCK.now()


class GridClock(msgspec.Struct, frozen=True):
    """`origin_grid` ms on the grid is `origin_wall` ms on the wall; `speed` grid ms per ms."""

    origin_wall: int = 0
    origin_grid: int = 0
    speed: float = 1.0
    signal: str = WALL  # the signal that the clock was made for

    def grid(self, wall: int) -> int:
        """Grid time at a wall time, both ms."""
        return self.origin_grid + round((wall - self.origin_wall) * self.speed)

    def wall(self, grid: int) -> int:
        """Wall time at a grid time, both ms."""
        return self.origin_wall + round((grid - self.origin_grid) / self.speed)

    def now(self, wall: Callable[[], int] = wall_ms) -> int:
        return self.grid(wall())

    def seconds_until(self, grid: int, wall: int) -> float:
        """Wall seconds from `wall` until the grid time; negative if past."""
        return (self.wall(grid) - wall) / 1000

    def length(self, seconds: float) -> int:
        """Grid ms that pass in so many wall seconds."""
        return round(seconds * 1000 * self.speed)

    def fields(self) -> dict[str, str]:
        """As the fields of the `clock` hash."""
        return {
            "origin_wall": str(self.origin_wall),
            "origin_grid": str(self.origin_grid),
            "speed": repr(self.speed),
            "signal": self.signal,
        }


def from_fields(fields: Mapping[Any, Any]) -> GridClock:
    """The clock in a `clock` hash; wall time where there is none."""
    if not fields:
        return GridClock()
    return GridClock(
        int(fields[b"origin_wall"]),
        int(fields[b"origin_grid"]),
        float(fields[b"speed"]),
        fields[b"signal"].decode(),
    )


def rfc3339(ms: int) -> str:
    """Text of a time in ms since the epoch, UTC."""
    second, rest = divmod(ms, 1000)
    return _second(second) + _REST[rest]


_REST = [f".{ms:03d}Z" for ms in range(1000)]


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def day(ms: int) -> str:
    """The UTC day of a time in ms, as 2020-01-31."""
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def parse_time(text: str) -> int:
    """Ms since the epoch of an RFC 3339 time; without an offset it is UTC. ValueError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):  # the latter at the ends of the calendar
        raise ValueError(f"{text[:40]!r} is not a time such as 2026-01-31T18:00:00Z") from None
