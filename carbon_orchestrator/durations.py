"""Lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

import msgspec

_SHORT = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST = 32  # characters of a text that is worth remembering
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: float | str) -> float:
    """Length of time in seconds.

    Takes a number of seconds, a short form ("90s", "1h30m", "7d", "250ms") or an
    ISO 8601 duration ("PT1H30M"). Raises ValueError, saying the accepted forms.
    """
    if type(value) is str and len(value) <= _LONGEST:
        return _remembered(value)
    return _seconds(value)


def _seconds(value: float | str) -> float:
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds or text such as '90s' or 'PT15M'")
    try:
        length = float(value) if isinstance(value, int | float) else _from_text(value.strip())
    except OverflowError:  # an integer of hundreds of digits
        length = float("inf")
    if not 0 <= length < 10 * 366 * 86400:
        shown = value[:40] if isinstance(value, str) else f"{length:g}"
        raise ValueError(f"a duration lies between 0 and ten years, not {shown!r}")
    return length


#: Most jobs are given one of a few lengths. Errors are not remembered.
_remembered = lru_cache(maxsize=1024)(_seconds)


def _from_text(text: str) -> float:
    if text[:1] == "P":
        try:
            return msgspec.convert(text, timedelta).total_seconds()
        except msgspec.ValidationError:
            raise ValueError(
                f"{text[:40]!r} is not an ISO 8601 duration such as 'PT1H30M'"
            ) from None
    parts = _SHORT.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is not a duration; write seconds, '90s', '1h30m', '7d' or 'PT1H30M'"
        ) from None


def milliseconds(value: float | str) -> int:
    """`seconds`, rounded to whole milliseconds."""
    if type(value) is str and len(value) <= _LONGEST:
        return _remembered_ms(value)
    return round(_seconds(value) * 1000)


@lru_cache(maxsize=1024)
def _remembered_ms(value: str) -> int:
    return round(_seconds(value) * 1000)
