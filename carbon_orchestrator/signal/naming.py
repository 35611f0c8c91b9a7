"""The text form in which an operator names a carbon signal."""

from __future__ import annotations

from pathlib import Path

from carbon_orchestrator.signal.csv_trace import CsvTrace
from carbon_orchestrator.signal.provider import Provider, SignalError
from carbon_orchestrator.signal.simulated import Simulated

PROVIDERS = {
    "simulated": "a built-in daily profile, for trying things out offline",
    "csv:PATH[:COLUMN]": "a recorded trace; COLUMN is a header or a number from 1",
}


def parse(spec: str, zone: str = "local") -> Provider:
    """The provider that `spec` names (see PROVIDERS), for `zone`. Raises SignalError."""
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
