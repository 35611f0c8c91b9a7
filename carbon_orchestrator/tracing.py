"""Spans of what becomes of a job, for who has OpenTelemetry: `submit TYPE` in the gateway, a child
of the client's span where it sent one, and below that `run TYPE` for every attempt. The trace
context travels in the events (CloudEvents' `traceparent`), and on to the handler.

Nothing of this is loaded unless the environment says where spans go, by OpenTelemetry's own
variables (OTEL_EXPORTER_OTLP_ENDPOINT; OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and so on hold,
too), or a program that runs us has set up its SDK.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from carbon_orchestrator import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
#: For the last spans, at the end, should nobody take them.
_LAST_SECONDS = 2.0
_TRACEPARENT = "traceparent"


@contextmanager
def exporting(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Send spans meanwhile, where the environment says so. Without the extra `otel` that is a
    warning: nothing of ours depends on it."""
    if not any(map(environment.get, _ENDPOINTS)) or _disabled(environment):
        yield
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        hint = "pip install 'carbon-orchestrator[otel]'"
        log.warning("no spans are sent", missing=error.name, hint=hint)
        yield
        return
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "carbon-orchestrator"}
    exporter = OTLPSpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.version": __version__, **named}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # It would try again for as long as a supervisor waits for us.
        patience = threading.Timer(_LAST_SECONDS, exporter.shutdown)
        patience.start()
        provider.shutdown()
        patience.cancel()


def _disabled(environment: Mapping[str, str]) -> bool:
    return (
        environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environment.get("OTEL_TRACES_EXPORTER") == "none"
    )


def tracer() -> Tracer | None:
    """What makes spans; None where nobody wants any."""
    if "opentelemetry.sdk.trace" not in sys.modules:  # who set it up has loaded it
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return trace.get_tracer("carbon_orchestrator", __version__)


def context_of(traceparent: str | None) -> Context | None:
    """For a child of that span; None for that of the current one, if any."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if traceparent is None:
        return None
    return TraceContextTextMapPropagator().extract({_TRACEPARENT: traceparent})


def traceparent_of(span: Span) -> str | None:
    """W3C trace context for what follows from the span; None for one that has no context."""
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get(_TRACEPARENT)
