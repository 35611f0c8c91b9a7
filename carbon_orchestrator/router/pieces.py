"""The cheapest pieces of time for a run that may be broken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from carbon_orchestrator.router.curve import Times, Values


class Chosen(NamedTuple):
    """A choice of pieces: when it first runs, how often it starts, mean value and mean price."""

    start: int
    runs: int
    mean: float
    price: float


class Pieces(NamedTuple):
    """Free stretches of time in ascending order: start and length (ms), value (g/kWh), and
    price, the value with all that is to be weighed against it."""

    starts: Times
    lengths: Times
    values: Values
    prices: Values

    def begins(self, need: int) -> int:
        """How much of the first piece is among the cheapest that add up to `need` ms; 0: none."""
        cheaper = int(self.lengths[self.prices < self.prices[0]].sum())
        return min(max(need - cheaper, 0), int(self.lengths[0]))

    def cheapest(self, need: int) -> Chosen | None:
        """The cheapest pieces that add up to `need` ms (> 0), of equals the earlier; None if
        all together are shorter. Of the dearest only the
        end is taken where not all of it is needed and no other ends where it begins."""
        order = np.argsort(self.prices, kind="stable")
        reach = np.cumsum(self.lengths[order])
        if not len(reach) or reach[-1] < need:
            return None
        last = int(np.searchsorted(reach, need, "left"))
        taken = order[: last + 1]
        share = self.lengths[taken].astype(np.float64)
        share[-1] -= float(reach[last] - need)
        places = np.sort(taken)
        begins, ends = self.starts[places], (self.starts + self.lengths)[places]
        part = int(np.searchsorted(places, order[last]))
        if part == 0 or begins[part] != ends[part - 1]:
            begins[part] += reach[last] - need
        breaks = begins[1:] != ends[:-1]
        return Chosen(
            int(begins[0]),
            1 + int(np.count_nonzero(breaks)),
            float(share @ self.values[taken]) / need,
            float(share @ self.prices[taken]) / need,
        )
