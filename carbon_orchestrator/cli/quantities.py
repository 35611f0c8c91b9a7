"""Energies, emissions, durations and times as people read them. Pure."""

from __future__ import annotations

from carbon_orchestrator.clock import parse_time

_ENERGY = ((3.6e12, "MWh"), (3.6e9, "kWh"), (3.6e6, "Wh"), (1e3, "J"), (1.0, "mJ"))
_MASS = ((1e12, "t"), (1e9, "kg"), (1e6, "g"), (1e3, "mg"), (1.0, "µg"))


def energy(mj: int) -> str:
    """Millijoules with the unit that suits their size, from mJ to MWh."""
    return _scaled(mj, _ENERGY)


def mass(ug: int) -> str:
    """Micrograms of CO2e with the unit that suits their size, from µg to t."""
    return _scaled(ug, _MASS)


def _scaled(value: int, units: tuple[tuple[float, str], ...]) -> str:
    # 0.99995 of a unit would be written as 1000 of the next smaller one.
    factor, unit = next((each for each in units if abs(value) >= each[0] * 0.9995), units[-1])
    return f"{_three_digits(value / factor)} {unit}"


def _three_digits(value: float) -> str:
    size = abs(value)
    if size == int(size) or size >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def percent(part: int, whole: int) -> str:
    """`part` of `whole`, signed, whole percents; nothing where there is no whole."""
    if not whole:
        return ""
    share = 100 * part / whole
    # Never "-0 %", and never "+0 %" for what is not nothing.
    return f"{share:+.0f} %" if abs(share) >= 0.5 else ("0 %" if not part else "<1 %")


def duration(ms: float) -> str:
    """A length of time, its two largest units; negative lengths get a minus sign."""
    if ms < 0:
        return f"-{duration(-ms)}"
    if ms < 999.5:
        return f"{ms:.0f}ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f}s"
    seconds = round(ms / 1000)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if hours == 0:
        return f"{minutes}m{seconds % 60:02}s"
    return f"{hours}h{minutes % 60:02}m" if days == 0 else f"{days}d{hours % 24:02}h"


def moment(text: str) -> str:
    """An RFC 3339 time in UTC as "2026-01-31 18:00:00"."""
    return text[:19].replace("T", " ")


def until(text: str, now: str) -> str:
    """From `now` to a time, both RFC 3339: "in 3h20m" or "5m00s ago"."""
    ahead = parse_time(text) - parse_time(now)
    return f"in {duration(ahead)}" if ahead >= 0 else f"{duration(-ahead)} ago"
