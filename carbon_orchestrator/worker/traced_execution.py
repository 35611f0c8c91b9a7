"""Execution with a span for each attempt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from carbon_orchestrator.config import Config
from carbon_orchestrator.events import Pool, Spec
from carbon_orchestrator.tracing import context_of, traceparent_of, tracer
from carbon_orchestrator.worker.attempt import Halt
from carbon_orchestrator.worker.energy import EnergyMeter
from carbon_orchestrator.worker.execution import Execution, Executor
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.telling import Telling

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


def executor_of(
    config: Config,
    pool: Pool,
    guardian: Guardian,
    data_dir: Path,
    meter: EnergyMeter | None = None,
) -> Executor:
    """With spans, where somebody wants them."""
    spans = tracer()
    if spans is None:
        return Executor(config, pool, guardian, data_dir, meter)
    return TracedExecutor(config, pool, guardian, data_dir, meter, spans)


class TracedExecutor(Executor):
    """The handler's work is a child of the attempt's span."""

    def __init__(
        self,
        config: Config,
        pool: Pool,
        guardian: Guardian,
        data_dir: Path,
        meter: EnergyMeter | None,
        spans: Tracer,
    ) -> None:
        super().__init__(config, pool, guardian, data_dir, meter)
        self._spans = spans

    async def run(
        self, spec: Spec, attempt: int, fence: str, halt: Halt, telling: Telling | None = None
    ) -> Execution:
        from opentelemetry.trace import SpanKind, StatusCode

        with self._spans.start_as_current_span(
            f"run {spec.type}",
            context_of(spec.traceparent),
            SpanKind.CONSUMER,
            {
                "carbon.job.id": spec.job_id,
                "carbon.job.type": spec.type,
                "carbon.job.attempt": attempt,
                "carbon.pool": self._pool,
            },
        ) as span:
            ours = msgspec.structs.replace(spec, traceparent=traceparent_of(span))
            execution = await super().run(ours, attempt, fence, halt, telling)
            span.set_attribute("carbon.outcome", execution.outcome)
            span.set_attribute("carbon.energy_mj", execution.energy.mj)
            span.set_attribute("carbon.energy_method", execution.energy.method)
            if execution.outcome in ("failed", "timeout"):
                span.set_status(StatusCode.ERROR, execution.error)
        return execution
