"""A recorded trace of carbon intensity from a CSV file, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Self

from carbon_orchestrator.signal.provider import Expected, Kind, Point, SignalError

MISSING = {"", "nan", "na", "n/a", "null", "none", "-"}


def path_and_column(argument: str) -> tuple[Path, str | None]:
    """PATH[:COLUMN]. Both may hold colons, so the longest path that exists decides where the
    column begins."""
    path, column = argument, ""
    while not Path(path).is_file():
        path, colon, rest = path.rpartition(":")
        if not colon:
            return Path(argument), None
        column = f"{rest}:{column}" if column else rest
    return Path(path), column or None


class CsvTrace:
    """Points of a file as a Provider, which forecasts nothing."""

    simulated = False

    def __init__(
        self,
        times: array[int],
        values: array[float],
        *,
        zone: str,
        source: str,
        kind: Kind = "average",
        estimated: bytearray | None = None,
    ) -> None:
        """`times` (ms since the Unix epoch) strictly ascending and not empty; gCO2e/kWh;
        `estimated`: 1 for each value that is, by default none."""
        self._times, self._values = times, values
        self._estimated = estimated or bytearray(len(times))
        self.zone, self.source, self.kind = zone, source, kind
        self.start: int | None = times[0]
        self.end: int | None = times[-1]
        steps = [after - before for before, after in pairwise(times)]
        self.resolution_ms = median_low(steps) if steps else 3_600_000

    @classmethod
    def read(cls, path: Path, column: str | None = None, zone: str = "local") -> Self:
        """The trace in `path` (gzipped if it ends in .gz). Raises SignalError.

        The first row names the columns. Times: the first column that holds ISO 8601 times (UTC
        unless they say otherwise), else the first that holds Unix times (s or ms). Intensities:
        `column`, a header or a number from 1; by default the first header with "carbon
        intensity" in it, else the second column. Rows may come in any order; of rows of one
        time the last counts; rows without a value are skipped. A column with "estimated" in its
        header says which values are.
        """
        try:
            with _open(path) as text:
                reader = csv.reader(text)
                rows = ((reader.line_num, row) for row in reader if any(row))
                return cls._parse(path, rows, column, zone)
        except FileNotFoundError:
            raise SignalError(f"{path}: there is no such file; write csv:PATH[:COLUMN]") from None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise SignalError(f"{path}: cannot be read as CSV text: {error}") from None

    @classmethod
    def _parse(
        cls, path: Path, rows: Iterator[tuple[int, list[str]]], column: str | None, zone: str
    ) -> Self:
        _, headers = next(rows, (0, []))
        line, row = next(rows, (0, []))
        if not row:
            raise SignalError(f"{path}: has no rows; it needs a header and at least one value")
        value_column = _value_column(path, headers, column)
        time_column = _time_column(path, headers, row, value_column)
        flag_column = _find(headers, "estimated")
        times, values, estimated = array("q"), array("d"), bytearray()
        while row:
            cell = _cell(row, value_column)
            if cell.strip().lower() not in MISSING:
                times.append(_time(path, line, _cell(row, time_column)))
                values.append(_value(path, line, headers[value_column], cell))
                flag = "" if flag_column is None else _cell(row, flag_column)
                estimated.append(flag.strip().lower() in ("true", "1", "yes"))
            line, row = next(rows, (0, []))
        if not times:
            raise SignalError(f"{path}: has no value in column {headers[value_column]!r}")
        times, values, estimated = _in_order(times, values, estimated)
        kind: Kind = "marginal" if "marginal" in headers[value_column].lower() else "average"
        source = f"{path.name} ({headers[value_column]})"
        return cls(times, values, zone=zone, source=source, kind=kind, estimated=estimated)

    async def now(self, t: int) -> Point | None:
        index = bisect_right(self._times, t) - 1
        return self._point(index) if index >= 0 else None

    async def history(self, t0: int, t1: int) -> list[Point]:
        first, last = bisect_left(self._times, t0), bisect_right(self._times, t1)
        return [self._point(index) for index in range(first, last)]

    async def forecast(self, t: int) -> list[Expected]:
        return []

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _point(self, index: int) -> Point:
        return Point(self._times[index], self._values[index], bool(self._estimated[index]))


def _open(path: Path) -> io.TextIOBase:
    # utf-8-sig: spreadsheets put a byte order mark before the first header.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _cell(row: list[str], column: int) -> str:
    return row[column] if column < len(row) else ""


def _find(headers: list[str], words: str) -> int | None:
    for index, header in enumerate(headers):
        if words in header.lower().replace("_", " "):
            return index
    return None


def _time_column(path: Path, headers: list[str], row: list[str], value_column: int) -> int:
    # ISO first: a log of polls has the poll's Unix time before the time that the value is of.
    candidates = [index for index in range(len(row)) if index != value_column]
    for index in candidates:
        if _iso(row[index]) is not None:
            return index
    for index in candidates:
        timely = index == 0 or "time" in _cell(headers, index).lower()
        if timely and _unix(row[index]) is not None:
            return index
    raise SignalError(
        f"{path}: no column holds times; one must, as 2020-01-01 00:30 or as Unix time"
        f" (columns: {', '.join(headers)})"
    )


def _value_column(path: Path, headers: list[str], column: str | None) -> int:
    if column is None:
        found = _find(headers, "carbon intensity")
        if found is None and len(headers) < 2:
            raise SignalError(f"{path}: has one column only; it needs times and intensities")
        return 1 if found is None else found
    if column in headers:
        return headers.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(headers):
        return int(column) - 1
    listed = ", ".join(f"{number} {header!r}" for number, header in enumerate(headers, 1))
    raise SignalError(f"{path}: has no column {column!r}; it has {listed}")


def _time(path: Path, line: int, cell: str) -> int:
    time = _iso(cell)
    if time is None:
        time = _unix(cell)
    if time is None:
        raise SignalError(
            f"{path}, line {line}: {cell!r} is not a time; write 2020-01-01 00:30 or Unix time"
        )
    return time


def _iso(cell: str) -> int | None:
    text = cell.strip()
    if "-" not in text[1:]:  # digits alone are Unix time, though 20200101 is a date to ISO 8601
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _unix(cell: str) -> int | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    # 1e11 s lies in the year 5138, 1e11 ms in 1973.
    if not 0 <= number < 1e14:
        return None
    return round(number if number >= 1e11 else number * 1000)


def _value(path: Path, line: int, header: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise SignalError(
            f"{path}, line {line}: {cell!r} in column {header!r} is not an intensity"
            " (gCO2e/kWh, 0 or more); correct it, or leave it blank"
        )
    return value


def _in_order(
    times: array[int], values: array[float], estimated: bytearray
) -> tuple[array[int], array[float], bytearray]:
    if all(before < after for before, after in pairwise(times)):
        return times, values, estimated
    rows = {time: (value, flag) for time, value, flag in zip(times, values, estimated, strict=True)}
    ordered = sorted(rows)
    return (
        array("q", ordered),
        array("d", (rows[time][0] for time in ordered)),
        bytearray(rows[time][1] for time in ordered),
    )
