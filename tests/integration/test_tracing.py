"""What OpenTelemetry sees: one trace a job, from whoever submitted it to what its handler does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from deployment import Deploy, command_type
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from structlog.testing import capture_logs

from carbon_orchestrator import tracing
from carbon_orchestrator.gateway.intake import traced_submitting
from carbon_orchestrator.worker import traced_execution
from streams.testing import until

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "a" * 32, "b" * 16
TYPES = {
    "traced": command_type("sh", "-c", "echo $TRACEPARENT"),
    "failing": command_type("sh", "-c", "exit 3", max_attempts=1),
}


class Spans:
    """Those that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def of(self, name: str, job_id: str) -> ReadableSpan:
        (span,) = (each for each in self.named(name) if said(each)["carbon.job.id"] == job_id)
        return span


def said(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """For this test alone: a program has one provider, once and for all."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (traced_submitting, traced_execution):
        monkeypatch.setattr(module, "tracer", lambda: provider.get_tracer("test"))
    yield Spans(exporter)
    provider.shutdown()


async def test_a_job_continues_its_clients_trace(deploy: Deploy, spans: Spans) -> None:
    house = deploy(types=TYPES)
    await house.all()
    job = {"type": "traced", "urgency": "urgent"}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "Idempotency-Key": "one"}
    job_id = (await house.http("POST", "/jobs", json=job, headers=headers)).body["id"]
    await house.reach(job_id, "completed")

    submit, run = spans.of("submit traced", job_id), spans.of("run traced", job_id)
    assert (submit.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert submit.parent is not None
    assert format_span_id(submit.parent.span_id) == PARENT
    assert run.parent is not None
    assert run.parent.span_id == submit.context.span_id
    assert format_trace_id(run.context.trace_id) == TRACE
    assert said(run)["carbon.outcome"] == "completed"
    assert said(run)["carbon.job.attempt"] == 1
    printed = (await house.http("GET", f"/jobs/{job_id}/logs")).body.decode().strip()
    assert printed == f"00-{TRACE}-{format_span_id(run.context.span_id)}-01"

    again = await house.http("POST", "/jobs", json=job, headers=headers)
    assert (again.status, again.body["id"]) == (200, job_id)
    assert said(spans.named("submit traced")[-1])["carbon.job.repeated"]


async def test_a_trace_begins_where_the_client_has_none(deploy: Deploy, spans: Spans) -> None:
    house = deploy(types=TYPES)
    await house.all()
    job = {"type": "failing", "urgency": "urgent"}
    job_id = (await house.http("POST", "/jobs", json=job)).body["id"]
    await house.reach(job_id, "failed")
    submit, run = spans.of("submit failing", job_id), spans.of("run failing", job_id)
    assert submit.parent is None
    assert run.context.trace_id == submit.context.trace_id
    assert run.status.status_code is StatusCode.ERROR
    assert "exit code 3" in (run.status.description or "")

    refused = await house.http(
        "POST", "/jobs", json={"type": "traced", "deadline": "2001-01-01T00:00Z"}
    )
    assert refused.status == 422
    (span,) = spans.named("submit traced")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "invalid-job")


async def test_spans_go_where_the_environment_says(tmp_path: Path) -> None:
    """OTLP over HTTP, from a program that is told nothing else."""
    taken: dict[str, str] = {}

    async def take(request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                taken.update({span.name: service["service.name"] for span in scope.spans})
        return web.Response()

    collector = web.Application()
    collector.router.add_post("/v1/traces", take)
    runner = web.AppRunner(collector)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    program = """
from carbon_orchestrator.tracing import exporting, tracer
with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": "x"}):
    tracer().start_span("sent").end()
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=ROOT,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "PATH": ""},
    )
    try:
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        await until(lambda: taken == {"sent": "carbon-orchestrator"})
    finally:
        await runner.cleanup()


def test_a_collector_that_is_away_delays_no_end() -> None:
    program = """
import time
from carbon_orchestrator.tracing import exporting, tracer
with exporting():
    tracer().start_span("lost").end()
    began = time.monotonic()
print(time.monotonic() - began)
"""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 6


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nobody_is_asked_to_take_spans_unless_told(environment: dict[str, str]) -> None:
    with tracing.exporting(environment):
        assert tracing.tracer() is None


def test_without_the_extra_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with (
        capture_logs() as logs,
        tracing.exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there"}),
    ):
        assert tracing.tracer() is None
    assert "carbon-orchestrator[otel]" in logs[0]["hint"]
