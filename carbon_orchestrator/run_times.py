"""How long jobs of a type take: a histogram of logarithmic buckets, and its quantiles.

Bucket i holds run times from 2**(i/4) up to 2**((i+1)/4) milliseconds, so a quantile is
at most 19 % too high and never too low. Counts are integers: histograms add up in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import msgspec

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


class Learned(msgspec.Struct, frozen=True):
    """What is known of the runs of a type on a pool. `counts`: the histogram of completed runs;
    `energy_mj`, `run_ms`: sums over all attempts that ended."""

    counts: Mapping[int, int] = {}
    energy_mj: int = 0
    run_ms: int = 0

    @classmethod
    def parse(cls, fields: Mapping[Any, Any]) -> Self:
        """From the hash that accounting keeps: bucket to count, and the two sums by name."""
        named = {name.decode(): int(value) for name, value in fields.items()}
        energy_mj, run_ms = named.pop("energy_mj", 0), named.pop("run_ms", 0)
        return cls({int(name): count for name, count in named.items()}, energy_mj, run_ms)

    def quantile(self, fraction: float) -> int | None:
        """As the function `quantile`."""
        return quantile(self.counts, fraction)

    def mean_ms(self) -> float | None:
        """Mean run time, each run taken at the middle of its bucket; None if too few."""
        total = sum(self.counts.values())
        if total < ENOUGH:
            return None
        middle = 0.5 / _PER_OCTAVE
        return (
            sum(count * 2 ** (index / _PER_OCTAVE + middle) for index, count in self.counts.items())
            / total
        )

    def power_mw(self) -> float | None:
        """Mean power while running, mW; None where too little has run or nothing was measured."""
        if self.run_ms < 1 or self.energy_mj < 1 or sum(self.counts.values()) < ENOUGH:
            return None
        return self.energy_mj / self.run_ms * 1000
