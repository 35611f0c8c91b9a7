"""Sizes as operators write them: a number of bytes, or text such as "512MiB" or "2 GB"."""

from __future__ import annotations

import re

_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?([A-Za-z]{0,3})")


def size(value: str | int) -> int:
    """Bytes. Raises ValueError; a size is at least one byte."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None or match[2].upper() not in _UNITS:
            raise ValueError(f"{value!r} is no size such as 512MiB")
        value = round(float(match[1]) * _UNITS[match[2].upper()])
    if not 1 <= value < 2**62:
        raise ValueError(f"{value} is no size: at least 1 byte")
    return value


def shown(count: int) -> str:
    """Such as "512 MiB", for a person."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        of = _UNITS[unit.upper()]
        if count >= of:
            return f"{count / of:.4g} {unit}"
    return f"{count} bytes"
