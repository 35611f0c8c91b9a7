"""How long jobs of a type take: a histogram of logarithmic buckets, and its quantiles.

Bucket i holds run times from 2**(i/4) up to 2**((i+1)/4) milliseconds, so a quantile is
at most 19 % too high and never too low. Counts are integers: histograms add up in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_PER_OCTAVE = 4
#: Below so many samples a histogram says too little.
ENOUGH = 5


def bucket(run_ms: int) -> int:
    """The bucket of a run time in ms; 0 for all below 1.19 ms."""
    return int(math.log2(max(1, run_ms)) * _PER_OCTAVE + 1e-9)


def quantile(counts: Mapping[int, int], fraction: float) -> int | None:
    """The run time, in ms, that `fraction` of the samples do not exceed; None if too few."""
    total = sum(counts.values())
    if total < ENOUGH:
        return None
    needed = math.ceil(total * fraction)
    seen = 0
    for index in sorted(counts):
        seen += counts[index]
        if seen >= needed:
            return math.ceil(2 ** ((index + 1) / _PER_OCTAVE))
    raise ValueError("fraction must be at most 1")
