"""Job type `analytics`: statistics over half-hourly electricity readings of many households.

Payload, all optional: `rows` (readings), `households`, `seed`, `quantiles`, `top`. Prints one
JSON object.

The readings are made up: a day's shape times a household's size times chance. They pass by
once, and memory grows with the households, not with the rows: meters tell whole watt-hours up
to what the main fuse lets through, so a count of each possible reading is small, and the
quantiles taken from it are exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from random import Random
from typing import Any, NamedTuple

from carbon_orchestrator.examples.payload import Payload, run
from carbon_orchestrator.examples.progress import Progress

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
MAX_WH = 9_999  # in half an hour: 20 kW

# Mean watt-hours in half an hour, by hour of the day: least at night, most in the evening.
DAY_SHAPE = (
    *(130, 110, 100, 95, 95, 105, 150, 220, 230, 200, 185, 190),
    *(205, 195, 180, 185, 225, 310, 380, 395, 360, 310, 240, 175),
)


class Parameters(NamedTuple):
    rows: int
    households: int
    seed: int
    quantiles: list[float]
    top: int


def check(payload: Payload) -> Parameters:
    return Parameters(
        rows=payload.integer("rows", 800_000, 1, 5_000_000),
        households=payload.integer("households", 500, 1, 10_000),
        seed=payload.integer("seed", 1, 0, 2**31 - 1),
        quantiles=payload.numbers("quantiles", [0.05, 0.25, 0.5, 0.75, 0.95, 0.99], 0.0, 1.0, 20),
        top=payload.integer("top", 5, 1, 50),
    )


def readings(parameters: Parameters) -> Iterator[list[int]]:
    """Half-hour after half-hour, what each household used (Wh); the last may lack the last few."""
    random = Random(parameters.seed)
    sizes = [random.lognormvariate(0.0, 0.4) for _ in range(parameters.households)]
    left, half_hour = parameters.rows, 0
    chance = random.lognormvariate
    while left:
        usual = DAY_SHAPE[half_hour // 2 % 24]
        yield [min(MAX_WH, int(usual * size * chance(0.0, 0.6))) for size in sizes[:left]]
        left -= min(left, len(sizes))
        half_hour += 1


class Statistics:
    """Everything the report needs, folded from one half-hour at a time; integers throughout."""

    def __init__(self, households: int) -> None:
        self.rows = 0
        self.half_hours = 0
        self.by_household = [0] * households  # Wh
        self.by_hour = [0] * 24  # Wh
        self.rows_by_hour = [0] * 24
        self.by_reading = [0] * (MAX_WH + 1)  # how often each number of Wh was read
        self.peak = (0, 0)  # Wh of all households together, and in which half-hour

    def add(self, used: Sequence[int]) -> None:
        """used: Wh by household, of the half-hour that follows the last one added."""
        for household, reading in enumerate(used):
            self.by_household[household] += reading
            self.by_reading[reading] += 1
        hour = self.half_hours // 2 % 24
        total = sum(used)
        self.by_hour[hour] += total
        self.rows_by_hour[hour] += len(used)
        self.rows += len(used)
        if total > self.peak[0]:
            self.peak = (total, self.half_hours)
        self.half_hours += 1

    def quantile(self, share: float) -> int:
        """The smallest reading that at least `share` of all do not exceed: the inverse of the
        empirical distribution (Hyndman and Fan, Sample Quantiles, 1996, definition 1).
        """
        # Rounded first: 0.07 * 100 is a little over 7 in floating point.
        rank = max(1, ceil(round(share * self.rows, 6)))
        for reading, count in enumerate(self.by_reading):
            rank -= count
            if rank <= 0:
                return reading
        raise ValueError("no readings")

    def report(self, quantiles: Sequence[float], top: int) -> dict[str, Any]:
        wh, at = self.peak
        order = sorted(
            range(len(self.by_household)), key=self.by_household.__getitem__, reverse=True
        )
        total = sum(self.by_household)
        return {
            "rows": self.rows,
            "households": len(self.by_household),
            "from": moment(0),
            "to": moment(self.half_hours),
            "total_kwh": total / 1000,
            "mean_wh": round(total / self.rows, 3),
            "peak": {"at": moment(at), "kw": wh * 2 / 1000},
            "mean_kw_by_hour": {
                f"{hour:02}": round(wh * 2 / 1000 / rows, 4)
                for hour, (wh, rows) in enumerate(zip(self.by_hour, self.rows_by_hour, strict=True))
                if rows
            },
            "quantiles_wh": {str(share): self.quantile(share) for share in quantiles},
            "top_consumers": [
                {"household": f"H{household:05}", "kwh": self.by_household[household] / 1000}
                for household in order[:top]
            ],
        }


def moment(half_hour: int) -> str:
    return (FIRST + timedelta(minutes=30 * half_hour)).isoformat(timespec="minutes")


def job(parameters: Parameters) -> int:
    statistics = Statistics(parameters.households)
    progress = Progress()
    for used in readings(parameters):
        statistics.add(used)
        progress.tell(statistics.rows, parameters.rows, "readings")
    print(json.dumps(statistics.report(parameters.quantiles, parameters.top), indent=2))
    return 0


if __name__ == "__main__":
    run(check, job)
