"""Energy and emissions for Prometheus, from the sums that accounting keeps of all days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PLACE = ("pool", "zone")
#: Counter, what it is, and the metric that it shows with the number that makes one unit of it.
_AMOUNTS = (
    ("carbon_energy_joules", "Energy of all attempts.", "energy_mj", 1000),
    ("carbon_emissions_grams", "CO2e emitted, as first recorded.", "emissions_ug", 10**6),
    (
        "carbon_baseline_grams",
        "CO2e had each job run at once on FAST at home, as first recorded.",
        "baseline_ug",
        10**6,
    ),
    (
        "carbon_embodied_grams",
        "CO2e of making the machines, the share that was used up.",
        "embodied_ug",
        10**6,
    ),
    ("carbon_attempts", "Attempts that ended.", "attempts", 1),
)
_OUTCOMES = (
    (
        "carbon_jobs_ended",
        "Jobs that ended after they had begun to run.",
        {"completed": "completed", "failed": "failed", "cancelled": "cancelled"},
    ),
    (
        "carbon_deadlines",
        "Deadlines of ended jobs.",
        {"met": "deadlines_met", "missed": "deadlines_missed"},
    ),
)


class EmissionCounters(Collector):
    """Shows `sums`, the hash `totals:ever`, as it was last read."""

    def __init__(self) -> None:
        self.sums: Mapping[bytes, bytes] = {}

    def collect(self) -> Iterator[Metric]:
        """One family for each figure, by pool and zone."""
        places: defaultdict[tuple[str, str], defaultdict[str, int]]
        places = defaultdict(lambda: defaultdict(int))
        for field, value in self.sums.items():
            metric, pool, zone = field.decode().split("|")
            places[pool, zone][metric] = int(value)
        for name, what, metric, unit in _AMOUNTS:
            counter = CounterMetricFamily(name, what, labels=_PLACE)
            for place, sums in places.items():
                counter.add_metric(place, sums[metric] / unit)
            yield counter
        for name, what, outcomes in _OUTCOMES:
            counter = CounterMetricFamily(name, what, labels=(*_PLACE, "outcome"))
            for place, sums in places.items():
                for outcome, metric in outcomes.items():
                    counter.add_metric((*place, outcome), sums[metric])
            yield counter
        # It falls where waiting made it worse, and where what is known changes.
        avoided = GaugeMetricFamily(
            "carbon_avoided_grams",
            "Baseline less emitted, CO2e, by the intensities known by now.",
            labels=_PLACE,
        )
        for place, sums in places.items():
            emitted = sums["emissions_ug"] + sums["restated_ug"]
            baseline = sums["baseline_ug"] + sums["baseline_restated_ug"]
            avoided.add_metric(place, (baseline - emitted) / 10**6)
        yield avoided
