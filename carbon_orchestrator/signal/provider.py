"""The interface of a carbon signal."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Kind = Literal["average", "marginal"]


class SignalError(ValueError):
    """A signal cannot be had as asked for; the message says what to do."""


class Point(NamedTuple):
    """Intensity from `time` (ms since the Unix epoch, grid clock) on, in gCO2e/kWh."""

    time: int
    value: float


class Provider(Protocol):
    """A source of intensities for one zone. Times are ms since the Unix epoch, grid clock.

    `estimated`: at least some values are estimates; `resolution_ms`: usual time between
    points; `start`, `end`: first and last point of a recorded trace, None for a live signal.
    Methods raise SignalError when the source cannot be reached or understood.
    """

    zone: str
    source: str
    kind: Kind
    estimated: bool
    simulated: bool
    resolution_ms: int
    start: int | None
    end: int | None

    async def now(self, t: int) -> Point | None:
        """The latest point at or before `t`, however old; None if there is none."""
        ...

    async def history(self, t0: int, t1: int) -> list[Point]:
        """The points with t0 <= time <= t1, oldest first."""
        ...

    async def forecast(self, t: int) -> tuple[list[Point], str | None]:
        """Points expected after `t`, as known at `t`, and who expects them; [] and None if none."""
        ...
