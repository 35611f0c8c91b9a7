"""Submitting with a span for each job that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import msgspec

from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.intake.outcome import Accepted, Asked, Outcome, Refused
from carbon_orchestrator.gateway.intake.room import Room
from carbon_orchestrator.gateway.intake.submitting import Submitting
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.tracing import context_of, traceparent_of, tracer
from streams.commit import Committer

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


def submitting_of(
    runtime: Runtime, reading: Reading, committer: Committer, room: Room
) -> Submitting:
    """With spans, where somebody wants them."""
    spans = tracer()
    if spans is None:
        return Submitting(runtime, reading, committer, room)
    return TracedSubmitting(runtime, reading, committer, room, spans)


class TracedSubmitting(Submitting):
    """What comes of a job is a child of its span, or of the client's where it is not sampled."""

    def __init__(
        self,
        runtime: Runtime,
        reading: Reading,
        committer: Committer,
        room: Room,
        spans: Tracer,
    ) -> None:
        super().__init__(runtime, reading, committer, room)
        self._spans = spans

    async def submit(
        self, asked: Sequence[Asked], asking: Caller, now: int | None = None
    ) -> list[Outcome]:
        with ExitStack() as stack:
            entered = [stack.enter_context(self._span(each)) for each in asked]
            outcomes = await super().submit([each for _, each in entered], asking, now)
            for (span, _), outcome in zip(entered, outcomes, strict=True):
                _tell(span, outcome)
        return outcomes

    async def one(self, asked: Asked, asking: Caller) -> Outcome:
        if asked.identity is not None:
            return await super().one(asked, asking)  # which is `submit`
        with self._span(asked) as (span, ours):
            outcome = await super().one(ours, asking)
            _tell(span, outcome)
        return outcome

    @contextmanager
    def _span(self, asked: Asked) -> Iterator[tuple[Span, Asked]]:
        from opentelemetry.trace import SpanKind

        with self._spans.start_as_current_span(
            f"submit {asked.submitted.type}",
            context_of(asked.traceparent),
            SpanKind.PRODUCER,
            {
                "carbon.job.type": asked.submitted.type,
                "carbon.job.urgency": asked.submitted.urgency,
            },
        ) as span:
            yield span, msgspec.structs.replace(asked, traceparent=traceparent_of(span))


def _tell(span: Span, outcome: Outcome) -> None:
    from opentelemetry.trace import StatusCode

    if isinstance(outcome, Refused):
        span.set_status(StatusCode.ERROR, outcome.kind)
        return
    job_id = outcome.spec.job_id if isinstance(outcome, Accepted) else outcome.job_id
    span.set_attribute("carbon.job.id", job_id)
    span.set_attribute("carbon.job.repeated", not isinstance(outcome, Accepted))
