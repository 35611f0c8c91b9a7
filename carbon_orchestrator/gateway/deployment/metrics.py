"""Prometheus metrics of one gateway, and of the streams as it sees them when asked."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from carbon_orchestrator.gateway.deployment.emission_counters import EmissionCounters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry per gateway, so that several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.emissions = EmissionCounters()
        self._registry.register(self.emissions)
        self._counts: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}
        self.requests = Counter(
            "carbon_http_requests_total",
            "HTTP requests by route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "carbon_http_request_seconds",
            "Time to answer, by route.",
            ("route",),
            registry=self._registry,
        )
        self.connections = Gauge(
            "carbon_http_connections", "Open connections.", registry=self._registry
        )
        self.ended = Counter(
            "carbon_http_connections_ended_total",
            "Connections ended or not taken, by reason.",
            ("why",),
            registry=self._registry,
        )
        self.jobs = Gauge(
            "carbon_jobs", "Jobs on record by state.", ("state",), registry=self._registry
        )
        self.lag = Gauge(
            "carbon_stream_lag",
            "Entries not yet delivered, by stream and group.",
            ("stream", "group"),
            registry=self._registry,
        )
        self.pending = Gauge(
            "carbon_stream_pending",
            "Entries delivered and not acknowledged.",
            ("stream", "group"),
            registry=self._registry,
        )
        self.consumers = Gauge(
            "carbon_stream_live_consumers",
            "Consumers heard of lately.",
            ("stream", "group"),
            registry=self._registry,
        )
        self.intensity = Gauge(
            "carbon_intensity_grams_per_kwh",
            "Latest carbon intensity, gCO2e/kWh.",
            ("zone", "kind", "simulated"),
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        # Finding the children by their labels takes longer than counting.
        count = self._counts.get((method, route, status))
        if count is None:
            count = self._counts[method, route, status] = self.requests.labels(
                method, route, status
            )
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self.seconds.labels(route)
        count.inc()
        timer.observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
