"""Requests for Prometheus: how many there were, and how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

#: Seconds; the last is infinite.
_BOUNDS = Histogram.DEFAULT_BUCKETS


class Requests(Collector):
    """Counts them in numbers of its own: the library's are made for several threads and take ten
    times as long, as long as reading a job."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._slots: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one."""
        self._answered[method, route, status] += 1
        slots = self._slots.get(route)
        if slots is None:
            slots = self._slots[route] = [0] * len(_BOUNDS)
            self._seconds[route] = 0
        slots[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        """Both families."""
        counter = CounterMetricFamily(
            "carbon_http_requests",
            "HTTP requests by route and status.",
            labels=("method", "route", "status"),
        )
        for (method, route, status), number in self._answered.items():
            counter.add_metric((method, route, str(status)), number)
        yield counter
        times = HistogramMetricFamily(
            "carbon_http_request_seconds", "Time to answer, by route.", labels=("route",)
        )
        for route, slots in self._slots.items():
            bounds = map(floatToGoString, _BOUNDS)
            below = list(zip(bounds, accumulate(slots), strict=True))
            times.add_metric((route,), below, self._seconds[route])
        yield times
