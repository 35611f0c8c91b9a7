"""The least that a run could have emitted, had the intensities been known beforehand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from carbon_orchestrator.signal.series import Series


def least_ug(
    energy_mj: int, length: int, start: int, end: int, series: Series, *, broken: bool
) -> int | None:
    """µg CO2e of `energy_mj` spent evenly over `length` ms within [start, end], at the best time;
    `broken`: over the best pieces. None where any of the window is unknown.

    Exact, in integers, rounded down. Raises ValueError where the window is shorter than the run.
    """
    if end - start < length or length < 0:
        raise ValueError(f"{length} ms do not fit between {start} and {end}")
    if start == end:
        value = series.at(start)
        window = [] if value is None else [(value, 1)]
        length = span = 1
    else:
        window, span = list(series.pieces(start, end)), end - start
    if sum(ms for _, ms in window) < span:
        return None
    ratios = [value.as_integer_ratio() for value, _ in window]
    scale = max(denominator for _, denominator in ratios)
    pieces = [
        (numerator * (scale // denominator), ms)
        for (numerator, denominator), (_, ms) in zip(ratios, window, strict=True)
    ]
    if length == 0:
        least, length = min(value for value, _ in pieces), 1
    else:
        least = _in_pieces(pieces, length) if broken else _unbroken(pieces, length)
    return energy_mj * least // (3600 * scale * length)


def _in_pieces(pieces: Sequence[tuple[int, int]], length: int) -> int:
    """The least sum of value x ms over `length` ms of the pieces."""
    total = 0
    for value, ms in sorted(pieces):
        taken = min(ms, length)
        total += value * taken
        length -= taken
        if not length:
            break
    return total


def _unbroken(pieces: Sequence[tuple[int, int]], length: int) -> int:
    """The same of one run without a break. Between the starts where it begins or ends at an edge
    the sum is linear in the start, so the least is at one of them."""
    edges = [0, *accumulate(ms for _, ms in pieces)]
    sums = [0, *accumulate(value * ms for value, ms in pieces)]
    last = edges[-1] - length
    starts = sorted({each for edge in edges for each in (edge, edge - length) if 0 <= each <= last})

    def areas(times: Sequence[int]) -> list[int]:
        """The sum up to each of these times, which ascend."""
        found, at = [], 0
        for time in times:
            while at < len(pieces) - 1 and edges[at + 1] <= time:
                at += 1
            found.append(sums[at] + pieces[at][0] * (time - edges[at]))
        return found

    begins, ends = areas(starts), areas([each + length for each in starts])
    return min(after - before for before, after in zip(begins, ends, strict=True))
