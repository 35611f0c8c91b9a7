"""A recorded grid on an even raster of time, which a simulation prices and plans by."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Self

import msgspec
import numpy as np

from carbon_orchestrator.router.curve import Curve, Values
from carbon_orchestrator.signal.provider import Point, SignalError
from carbon_orchestrator.signal.series import Series

_NO_NUMBERS = {"", "nan", "na", "n/a", "null", "none", "-"}


class Trace(msgspec.Struct, frozen=True, dict=True):
    """`values[i]` gCO2e/kWh holds for `step_ms` from `start + i * step_ms` on (ms, grid clock)."""

    start: int
    step_ms: int
    values: Values
    zone: str = "local"

    @classmethod
    def of(cls, points: Iterable[Point], step_ms: int | None = None, zone: str = "local") -> Self:
        """Points on a raster of `step_ms` (by default their usual distance): the raster's times
        get the value that holds then, so finer points are sampled and gaps bridged.

        Raises SignalError for less than two points.
        """
        pairs = sorted((point.time, point.value) for point in points)
        if len(pairs) < 2:
            raise SignalError("a simulation needs a trace of two values at least")
        times = np.array([time for time, _ in pairs], dtype=np.int64)
        step = step_ms or median_low([after[0] - before[0] for before, after in pairwise(pairs)])
        raster = np.arange(times[0], times[-1] + 1, step)
        holding = np.searchsorted(times, raster, "right") - 1
        values = np.array([value for _, value in pairs], dtype=np.float64)
        return cls(int(times[0]), int(step), values[holding], zone)

    @property
    def end(self) -> int:
        """When the last value ceases to hold, ms."""
        return self.start + len(self.values) * self.step_ms

    def time(self, index: int) -> int:
        return self.start + index * self.step_ms

    def index(self, time: int) -> int:
        """The number of the value that holds at `time`."""
        return (time - self.start) // self.step_ms

    def since(self, time: int) -> Self:
        """The trace without what lies before `time`, which must be on its raster."""
        first = self.index(time)
        return type(self)(self.time(first), self.step_ms, self.values[first:], self.zone)

    @cached_property
    def series(self) -> Series:
        """For pricing."""
        series = Series(self.step_ms)
        for index, value in enumerate(self.values.tolist()):
            series.add(self.time(index), value)
        return series

    @cached_property
    def curve(self) -> Curve:
        """For looking for the greenest times."""
        edges = self.start + self.step_ms * np.arange(len(self.values) + 1, dtype=np.int64)
        return Curve(edges, self.values)


def read_values(path: Path, column: str | None, start: int, step_ms: int, zone: str) -> Trace:
    """A file without times: one value a row from `start` on, every `step_ms`; gzipped if it
    ends in .gz. `column`: a header or a number from 1, by default the first.

    Blank cells hold the value before. Raises SignalError.
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as text:
            rows = [row for row in csv.reader(text) if row]
    except FileNotFoundError:
        raise SignalError(f"{path}: there is no such file; give --carbon FILE[:COLUMN]") from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise SignalError(f"{path}: cannot be read as CSV text: {error}") from None
    if not rows:
        raise SignalError(f"{path}: has no rows")
    at = _column(path, rows[0], column)
    headed = _number(rows[0][at]) is None
    values: list[float] = []
    for line, row in enumerate(rows[headed:], 1 + headed):
        cell = row[at] if at < len(row) else ""
        number = _number(cell)
        if number is None and cell.strip().lower() in _NO_NUMBERS and values:
            number = values[-1]
        if number is None:
            raise SignalError(f"{path}, line {line}: {cell!r} is no intensity (gCO2e/kWh)")
        values.append(number)
    return Trace(start, step_ms, np.array(values, dtype=np.float64), zone)


def _column(path: Path, headers: list[str], column: str | None) -> int:
    if column is None:
        return 0
    if column in headers:
        return headers.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(headers):
        return int(column) - 1
    raise SignalError(f"{path}: has no column {column!r}; it has {', '.join(headers)}")


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
