"""How decisions are put into words."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from carbon_orchestrator.events import Pool

NAMES: dict[Pool, str] = {"fast": "FAST", "eco": "ECO"}


def grams(value: float) -> str:
    """An intensity for people: whole grams, one decimal below 100."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def utc(time: int) -> str:
    """A time in ms since the Unix epoch as "2020-01-01 13:00", UTC, seconds cut off."""
    return _minute(time // 60_000)


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M")


def length(ms: int) -> str:
    """A length of time as "45 s", "12 min", "3.5 h" or "2.1 d"."""
    if ms < 120_000:
        return f"{ms / 1000:.0f} s"
    if ms < 7_200_000:
        return f"{ms / 60_000:.0f} min"
    hours = ms / 3_600_000
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"
