"""The interface of a carbon signal."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Kind = Literal["average", "marginal"]


class SignalError(ValueError):
    """A signal cannot be had as asked for; the message says what to do.

    `retry_after`: seconds for which the source asks to be left alone. `permanent`: asking again
    cannot help until the operator changes something (a wrong key, an unknown zone).
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, permanent: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.permanent = permanent


class Point(NamedTuple):
    """Intensity from `time` (ms since the Unix epoch, grid clock) on, in gCO2e/kWh."""

    time: int
    value: float
    estimated: bool = False  # by the source's own word; it may be revised


class Expected(NamedTuple):
    """Intensity expected from `time` on, gCO2e/kWh, as a source forecasts it."""

    time: int
    value: float


class Provider(Protocol):
    """A source of intensities for one zone. Times are ms since the Unix epoch, grid clock.

    `source`: who says so, as it stands on record ("NESO", "WattTime co2_moer"); one source has
    one `kind`. `resolution_ms`: usual time between points; `start`, `end`: first and last
    point of a recorded trace, None for a live signal. Methods raise SignalError when the source
    cannot be reached or understood, within a bounded time.
    """

    zone: str
    source: str
    kind: Kind
    simulated: bool
    resolution_ms: int
    start: int | None
    end: int | None

    async def now(self, t: int) -> Point | None:
        """The latest point at or before `t`, however old; None if there is none."""
        ...

    async def history(self, t0: int, t1: int) -> list[Point]:
        """The points with t0 <= time <= t1, oldest first, no time twice."""
        ...

    async def forecast(self, t: int) -> list[Expected]:
        """What the source itself expects after `t`, as known at `t`, ascending; [] if nothing."""
        ...

    async def aclose(self) -> None:
        """Release connections; afterwards no method is called."""
        ...
