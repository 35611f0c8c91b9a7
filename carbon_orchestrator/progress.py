"""How far a job has come, as it says itself, and when it will be done. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from carbon_orchestrator.clock import rfc3339

#: A longer line of a command is no report; bytes.
LONGEST_LINE = 4096
_LONGEST_MESSAGE = 200  # characters
_ROUNDED_ONE = 1.001
_LOOKED_AT = 100  # lines that come together, from the last one back
_PLAIN = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(%?)(?:\s+(.*))?$", re.DOTALL)
#: A job that takes longer than expected is expected to run this share of its length on.
_OVERRUN = 0.05
#: A pace by which it would go on for longer tells nothing, ms: ten years.
_FARTHEST = 10 * 365 * 86_400_000


class Report(msgspec.Struct, frozen=True):
    """What a handler says: the share of the work that is done (0 to 1), and what it is at."""

    fraction: float | None = None
    message: str | None = None

    @classmethod
    def of(cls, fraction: float | None, message: str | None = None) -> Report:
        """Fractions beyond 0 and 1 become these, what is no number is unknown; messages are cut
        at 200 characters. Raises TypeError, ValueError for what float does not take."""
        if fraction is not None:
            fraction = float(fraction)
            fraction = None if math.isnan(fraction) else min(max(fraction, 0.0), 1.0)
        return cls(fraction, _one_line(message) if message is not None else None)


class _Said(msgspec.Struct):
    fraction: float | None = None
    message: str | None = None


_decode_said = msgspec.json.Decoder(_Said).decode


def parse(line: bytes) -> Report | None:
    """A line of a command: `0.42`, `42%`, either with a message behind it, or a JSON object with
    `fraction` and `message`. None for all else, such as lines that begin with other numbers."""
    if len(line) > LONGEST_LINE:
        return None
    text = line.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            said = _decode_said(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        found = Report.of(said.fraction, said.message)
        return found if found != Report() else None
    match = _PLAIN.match(text)
    if match is None:
        return None
    number, percent, message = match.groups()
    fraction = float(number) / (100 if percent else 1)
    return Report.of(fraction, message) if percent or fraction <= _ROUNDED_ONE else None


class Lines:
    """Reports out of what a command writes, in whole lines or not."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Report | None:
        """The last report that these bytes complete."""
        *lines, rest = (self._rest + data).split(b"\n")
        # A line that is too long stays too long, however it goes on.
        self._rest = rest[: LONGEST_LINE + 1]
        for line in reversed(lines[-_LOOKED_AT:]):
            if (report := parse(line)) is not None:
                return report
        return None


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The latest report of an attempt, and its first with a fraction. Grid ms."""

    at: int
    fraction: float | None = None
    message: str | None = None
    first_at: int | None = None
    first_fraction: float | None = None

    def then(self, report: Report, at: int) -> Progress:
        """After a further report; one without a message or a fraction leaves the one before."""
        fraction = self.fraction if report.fraction is None else report.fraction
        begins = self.first_at is None or (
            fraction is not None and fraction < (self.first_fraction or 0.0)
        )  # it begins anew
        return Progress(
            at=at,
            fraction=fraction,
            message=self.message if report.message is None else report.message,
            first_at=at if begins and fraction is not None else self.first_at,
            first_fraction=fraction if begins else self.first_fraction,
        )


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Progress).decode


def finish(
    progress: Progress | None, started_at: int, expected_ms: float | None, resumed: bool, now: int
) -> int | None:
    """When a running attempt should be done, grid ms; None where nothing tells.

    `expected_ms`: what it was expected to take in all, grid ms; `resumed`: it goes on from what
    earlier attempts did. From the second report on, the rest takes as long for each share of the
    work as what lies between the first report and the last; from one report on, as long as what
    came before it, unless that was done by earlier attempts. Between two steps of a job that
    reports at their ends only, this is still the time after the last one.
    """
    if progress is None or progress.fraction is None:
        if expected_ms is None:
            return None
        return round(max(started_at + expected_ms, now + _OVERRUN * expected_ms))
    done = progress.fraction
    if done >= 1:
        return max(progress.at, now)
    since, before = started_at, 0.0
    if progress.first_at is not None and progress.first_fraction is not None:
        several = done > progress.first_fraction and progress.at > progress.first_at
        if several:
            since, before = progress.first_at, progress.first_fraction
        elif resumed:
            since, before = progress.at, done
    if done <= before or progress.at <= since:  # it tells no pace
        if expected_ms is None:
            return None
        end = progress.at + (1 - done) * expected_ms
    else:
        end = progress.at + (1 - done) * (progress.at - since) / (done - before)
    return round(max(end, now)) if end - now < _FARTHEST else None


def view(progress: Progress | None, started_at: int, finish_at: int | None) -> dict[str, Any]:
    """As JSON; `at`: when it was reported, or else when the attempt began."""
    return {
        "fraction": None if progress is None else progress.fraction,
        "message": None if progress is None else progress.message,
        "at": rfc3339(started_at if progress is None else progress.at),
        "finish_at": None if finish_at is None else rfc3339(finish_at),
    }


def _one_line(text: str) -> str | None:
    words = "".join(each if each.isprintable() else " " for each in text[:LONGEST_LINE]).split()
    return " ".join(words)[:_LONGEST_MESSAGE] or None
