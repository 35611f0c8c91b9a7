"""From a job and an outlook to a decision on record: pure, shared with audit and simulation."""

from __future__ import annotations

import msgspec

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Decision, Spec
from carbon_orchestrator.router.expectation import RunTimes, expected_seconds
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Policy
from carbon_orchestrator.router.run_now import RunNow
from carbon_orchestrator.router.threshold import Threshold
from carbon_orchestrator.topology import Lane

_encode = msgspec.json.Encoder().encode


def policy_of(config: Config) -> tuple[Policy, msgspec.Raw]:
    """The configured policy, and its parameters as JSON for the record."""
    if config.policy == "run_now":
        return RunNow(), msgspec.Raw(b"{}")
    return Threshold(), msgspec.Raw(_encode(config.threshold))


def view(spec: Spec, config: Config, learned: RunTimes, speed: float) -> JobView:
    """What the policy sees of the job; wall lengths become grid lengths by the speed."""
    per_second = 1000 * speed
    return JobView(
        urgency=spec.urgency,
        submitted_at=spec.submitted_at,
        deadline=spec.deadline,
        fast_ms=round(expected_seconds(spec, "fast", config, learned) * per_second),
        eco_ms=round(expected_seconds(spec, "eco", config, learned) * per_second),
        margin_ms=round(seconds(config.margin) * per_second),
    )


def on_record(
    answer: Dispatch | Defer,
    job: JobView,
    outlook: Outlook,
    policy: Policy,
    params: msgspec.Raw,
    now: int,
) -> Decision:
    """The decision with all that it was made from."""
    usable = outlook.band_at(now) is not None
    return Decision(
        at=now,
        policy=policy.name,
        policy_version=policy.version,
        params=params,
        intensity_id=outlook.intensity_id,
        intensity=outlook.intensity if usable else None,
        band=answer.band,
        low=outlook.low if usable else None,
        high=outlook.high if usable else None,
        fast_ms=job.fast_ms,
        eco_ms=job.eco_ms,
        margin_ms=job.margin_ms,
        pool=answer.pool,
        start=answer.planned_start if isinstance(answer, Defer) else now,
        latest_start=answer.latest_start,
        reason=answer.reason,
    )


def lane(spec: Spec, answer: Dispatch) -> Lane:
    """Urgent jobs first, then those that may wait no longer, then the rest."""
    if spec.urgency == "urgent":
        return "urgent"
    return "due" if answer.due else ""
