"""The interface of a carbon signal, and the text form in which an operator names one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Kind = Literal["average", "marginal"]
PROVIDERS = {
    "simulated": "a built-in daily profile, for trying things out offline",
    "csv:PATH[:COLUMN]": "a recorded trace; COLUMN is a header or a number from 1",
}


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


def parse(spec: str, zone: str = "local") -> Provider:
    """The provider that `spec` names (see PROVIDERS), for `zone`. Raises SignalError."""
    # Imported here because these modules are built on this one.
    from carbon_orchestrator.signal.csv_trace import CsvTrace
    from carbon_orchestrator.signal.simulated import Simulated

    name, _, argument = spec.partition(":")
    if spec == "simulated":
        return Simulated(zone)
    if name == "csv" and argument:
        path, column = _path_and_column(argument)
        return CsvTrace.read(path, column, zone)
    known = "; ".join(f"{form} ({meaning})" for form, meaning in PROVIDERS.items())
    raise SignalError(f"no carbon signal named {spec!r}; use one of: {known}")


def _path_and_column(argument: str) -> tuple[Path, str | None]:
    """Both may hold colons, so the longest path that exists decides where the column begins."""
    path, column = argument, ""
    while not Path(path).is_file():
        path, colon, rest = path.rpartition(":")
        if not colon:
            return Path(argument), None
        column = f"{rest}:{column}" if column else rest
    return Path(path), column or None
