"""A job's payload: one JSON object on stdin, written by someone who is not trusted.

Every parameter has a default and limits, none becomes a path, a command or code, and whatever
is wrong is said in one line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

MAX_BYTES = 1 << 20
_MISSING: Any = object()
Parameters = TypeVar("Parameters")


class PayloadError(ValueError):
    """The payload cannot be used; the message is one line that says what to change."""


class Payload:
    """The parameters of a payload, each taken once by the job that knows it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = dict(values)
        self._known: list[str] = []

    @classmethod
    def parse(cls, data: bytes) -> Payload:
        """`data`: JSON text of an object, or nothing at all for an empty one.

        Raises PayloadError, and nothing else, whatever `data` holds.
        """
        if len(data) > MAX_BYTES:
            raise PayloadError(f"larger than {MAX_BYTES} bytes")
        if not data.strip():
            return cls({})
        try:
            values = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise PayloadError(f"not JSON: {error.msg} at {where}") from None
        except UnicodeDecodeError:
            raise PayloadError("not JSON: the text is not UTF-8") from None
        except RecursionError:
            raise PayloadError("nested too deeply") from None
        except ValueError as error:  # a number with thousands of digits, NaN, Infinity
            raise PayloadError(f"not JSON: {error}") from None
        if not isinstance(values, dict):
            raise PayloadError('must be a JSON object such as {"seed": 1}')
        return cls(values)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        value = self._take(name, default)
        if type(value) is not int or not low <= value <= high:
            raise PayloadError(f"{name} must be a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`, both included."""
        value = self._take(name, default)
        if not _is_number(value) or not low <= value <= high:
            raise PayloadError(f"{name} must be a number from {low:g} to {high:g}")
        return float(value)

    def numbers(
        self, name: str, default: list[float], low: float, high: float, most: int
    ) -> list[float]:
        """A list of 1 to `most` numbers, each from `low` to `high`."""
        values = self._take(name, default)
        if not isinstance(values, list) or not 1 <= len(values) <= most:
            raise PayloadError(f"{name} must be a list of 1 to {most} numbers")
        if not all(_is_number(value) and low <= value <= high for value in values):
            raise PayloadError(f"each of {name} must be a number from {low:g} to {high:g}")
        return [float(value) for value in values]

    def points(self, name: str, limit: float, most: int) -> list[tuple[float, float]] | None:
        """A list of 1 to `most` pairs [x, y], each within ±`limit`; None where it is not given."""
        values = self._take(name, _MISSING)
        if values is _MISSING:
            return None
        if not isinstance(values, list) or not 1 <= len(values) <= most:
            raise PayloadError(f"{name} must be a list of 1 to {most} points")
        for place, value in enumerate(values):
            if not (
                isinstance(value, list)
                and len(value) == 2
                and all(_is_number(part) and abs(part) <= limit for part in value)
            ):
                raise PayloadError(f"{name}[{place}] must be [x, y], each within ±{limit:g}")
        return [(float(x), float(y)) for x, y in values]

    def finish(self) -> None:
        """Raises PayloadError if a parameter is left that the job does not know."""
        for name in self._values:
            known = ", ".join(self._known)
            # ascii() and the cut keep a hostile name on one short line.
            raise PayloadError(f"unknown parameter {ascii(name)[:60]}; known are {known}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._values.pop(name, default)


def _is_number(value: object) -> bool:
    # bool is an int to Python, yet not a number to JSON.
    return type(value) is int or (type(value) is float and isfinite(value))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def run(check: Callable[[Payload], Parameters], job: Callable[[Parameters], int]) -> None:
    """Read the payload from stdin, check it, run `job` with what `check` made of it, and exit.

    Exit status: what `job` returns; 2, with one line on stderr, for a payload that is refused.
    """
    try:
        # By hand at a terminal there is no payload to wait for.
        data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read(MAX_BYTES + 1)
        payload = Payload.parse(data)
        parameters = check(payload)
        payload.finish()
    except PayloadError as error:
        print(f"payload: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(job(parameters))
