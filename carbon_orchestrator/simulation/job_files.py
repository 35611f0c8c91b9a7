"""Jobs from CSV files: Let's Wait Awhile's, GAIA's, and a plain format of our own."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from carbon_orchestrator.config import DEFAULT_URGENCY
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.events import URGENCIES, Urgency
from carbon_orchestrator.simulation.workload import (
    HOUR_MS,
    Job,
    Options,
    WorkloadError,
    in_order,
    job,
)

_SLOT_MS = 1_800_000
_LWA_START = 1_577_836_800_000  # 2020-01-01, slot 0 of its jobs
#: Power per job in the paper's notebook (CONSUMPTION_PER_JOB).
_LWA_WATTS = 2036.6
Row = dict[str, str]


def read_jobs(path: Path, options: Options) -> list[Job]:
    """The jobs of a file, by submission; its columns tell the format:

    - `arrival_slot, duration_slots, flex_slots_RULE…`: Let's Wait Awhile (Wiesner et al.,
      Middleware 2021): slots of 30 min from 2020-01-01 on. `options.rule` (next_workday,
      semi_weekly) picks the slack; as by the paper's code a window has one slot more than that.
    - `arrival_time, length, cpus`: GAIA (ASPLOS 2024): seconds from the start of the trace, 1 W
      a CPU. `options.rule` is "SHORT/LONG" (default "6h/24h"): how long jobs below 2 h and others
      may wait.
    - `submitted, length` and, as far as wanted, `deadline` or `max_wait`, `urgency`, `type`,
      `interruptible`, `watts` or `energy_wh`, `id`. Times are ISO 8601 (UTC unless they say
      otherwise) or durations from the start of the trace; a deadline given as a duration counts
      from submission. Without either, the urgency's own deadline holds, as in the router.

    Raises WorkloadError with file and line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            columns = set(reader.fieldnames or ())
            parse = _format(path, columns, options)
            return in_order(list(_parsed(path, reader, parse)))
    except FileNotFoundError:
        raise WorkloadError(f"{path}: there is no such file; give --jobs FILE") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkloadError(f"{path}: cannot be read as CSV text: {error}") from None


Parse = Callable[[int, Row], Job]


def _parsed(path: Path, reader: csv.DictReader[str], parse: Parse) -> Iterator[Job]:
    for number, row in enumerate(reader):
        try:
            yield parse(number, {name: cell or "" for name, cell in row.items() if name})
        except ValueError as error:
            raise WorkloadError(f"{path}, line {reader.line_num}: {error}") from None


def _format(path: Path, columns: set[str], options: Options) -> Parse:
    if {"arrival_slot", "duration_slots"} <= columns:
        rules = sorted(each[11:] for each in columns if each.startswith("flex_slots_"))
        rule = options.rule or "next_workday"
        if rule not in rules:
            raise WorkloadError(
                f"{path}: has no deadline rule {rule!r}; give --deadline-rule {' or '.join(rules)}"
            )
        return lambda number, row: _lwa(number, row, f"flex_slots_{rule}", options)
    if {"arrival_time", "length", "cpus"} <= columns:
        short_ms, long_ms = _waits(options.rule or "6h/24h")
        return lambda number, row: _gaia(number, row, short_ms, long_ms, options)
    if {"submitted", "length"} <= columns:
        return lambda number, row: _own(number, row, options)
    raise WorkloadError(
        f"{path}: its columns are of no known format; it needs submitted and length"
        f" (it has: {', '.join(sorted(columns)) or 'none'})"
    )


def _lwa(number: int, row: Row, flex: str, options: Options) -> Job:
    arrival, length = _whole(row, "arrival_slot"), _whole(row, "duration_slots", 1)
    slots = arrival + length + _whole(row, flex) + 1
    return job(
        number,
        _LWA_START + arrival * _SLOT_MS,
        length * _SLOT_MS,
        options,
        name=row.get("job_id", ""),
        deadline=_LWA_START + slots * _SLOT_MS,
        watts=_LWA_WATTS,
    )


def _waits(rule: str) -> tuple[int, int]:
    try:
        short, _, long = rule.partition("/")
        return milliseconds(short), milliseconds(long or short)
    except ValueError as error:
        raise WorkloadError(f"--deadline-rule: {error}; write SHORT/LONG, as 6h/24h") from None


def _gaia(number: int, row: Row, short_ms: int, long_ms: int, options: Options) -> Job:
    length_ms = round(_number(row, "length", least=0.001) * 1000)
    short = length_ms < 2 * HOUR_MS
    return job(
        number,
        options.start + round(_number(row, "arrival_time") * 1000),
        length_ms,
        options,
        # The queues of the paper: which one a job is in is known when it is submitted.
        type="short" if short else "long",
        max_wait_ms=short_ms if short else long_ms,
        watts=_number(row, "cpus"),
    )


def _own(number: int, row: Row, options: Options) -> Job:
    submitted = _time(row["submitted"], options.start)
    length_ms = milliseconds(row["length"])
    if length_ms < 1:
        raise ValueError("length must be above 0")
    deadline = _time(row["deadline"], submitted) if row.get("deadline") else None
    if deadline is not None and deadline <= submitted:
        raise ValueError("the deadline must be after submitted")
    urgency = _urgency(row.get("urgency") or "normal")
    wait = row.get("max_wait")
    if deadline is None and not wait and DEFAULT_URGENCY[urgency].deadline != "none":
        deadline = submitted + milliseconds(DEFAULT_URGENCY[urgency].deadline)
    watts = _number(row, "watts") if row.get("watts") else options.watts
    if row.get("energy_wh"):
        watts = _number(row, "energy_wh") * HOUR_MS / length_ms
    return job(
        number,
        submitted,
        length_ms,
        options,
        name=row.get("id", ""),
        type=row.get("type") or "simulated",
        urgency=urgency,
        deadline=deadline,
        max_wait_ms=milliseconds(wait) if wait else None,
        interruptible=_flag(row["interruptible"]) if row.get("interruptible") else None,
        watts=watts,
    )


def _time(text: str, base: int) -> int:
    """An ISO 8601 time, or a duration from `base` on."""
    if "-" not in text:
        return base + milliseconds(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _urgency(text: str) -> Urgency:
    for urgency in URGENCIES:
        if text == urgency:
            return urgency
    raise ValueError(f"urgency {text!r} must be one of {', '.join(URGENCIES)}")


def _flag(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(f"interruptible is true or false, not {text!r}")


def _whole(row: Row, column: str, least: int = 0) -> int:
    number = _number(row, column, least)
    if number != int(number):
        raise ValueError(f"{column} {row[column]!r} is no whole number")
    return int(number)


def _number(row: Row, column: str, least: float = 0.0) -> float:
    try:
        number = float(row[column])
    except ValueError:
        number = -1.0
    if not least <= number < 1e12:
        raise ValueError(f"{column} {row[column]!r} is no number of {least:g} or more")
    return number
