"""What a submission comes to, by every configuration and clock on record. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from carbon_orchestrator.audit.decisions import Facts
from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import Config
from carbon_orchestrator.events import JobSubmitted, Spec
from carbon_orchestrator.submission import DeadlinePassed, Invalid, UnknownType, accept
from streams.event import Message

_encode = msgspec.json.Encoder().encode


class Taken(NamedTuple):
    """Accepted as this job. `spec` stands for the whole of it."""

    facts: Facts
    spec: int

    @classmethod
    def of(cls, spec: Spec) -> Taken:
        return cls(Facts.of(spec), hash(_encode(spec)))


class Refused(NamedTuple):
    """Not accepted; `rejected`: told as a rejection, else a dead letter."""

    reason: str
    rejected: bool


class Submissions:
    """`configs`: those of routers that differ in what they accept."""

    def __init__(self, configs: Sequence[Config], clocks: Sequence[GridClock]) -> None:
        by_rules = {
            _encode(
                (sorted(each.types), each.limits, each.urgency, each.zone, sorted(each.zones))
            ): each
            for each in configs
        }
        self._configs = list(by_rules.values())
        self._clocks = list(clocks) or [GridClock()]

    def specs(self, message: Message, job_id: str) -> list[Spec | Refused]:
        """All that differ; the last configuration's is the last."""
        event: JobSubmitted = message.event
        if event.submitted_at is not None:
            times = [event.submitted_at]
        else:
            times = list({clock.grid(message.at_ms) for clock in self._clocks})
        found: list[Spec | Refused] = []
        for config in self._configs:
            for at in times:
                each = _outcome(event, config, job_id, at, message.traceparent)
                if each not in found:
                    found.append(each)
        return found

    def outcomes(self, message: Message, job_id: str) -> list[Taken | Refused]:
        """The same, in little memory."""
        return [
            Taken.of(each) if isinstance(each, Spec) else each
            for each in self.specs(message, job_id)
        ]


def _outcome(
    event: JobSubmitted, config: Config, job_id: str, at: int, traceparent: str | None
) -> Spec | Refused:
    try:
        return accept(event, config, job_id, at, traceparent)
    except (UnknownType, DeadlinePassed) as error:
        return Refused(str(error), True)
    except Invalid as error:
        return Refused(str(error), False)
