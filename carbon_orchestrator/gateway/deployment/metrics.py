"""Prometheus metrics of one gateway, and of the streams as it sees them when asked."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from carbon_orchestrator.gateway.deployment.emission_counters import EmissionCounters
from carbon_orchestrator.gateway.deployment.requests import Requests

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry per gateway, so that several may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.emissions = EmissionCounters()
        self._registry.register(self.emissions)
        self.requests = Requests()
        self._registry.register(self.requests)
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

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
