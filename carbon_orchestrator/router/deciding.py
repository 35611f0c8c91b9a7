"""From a job and its sites to a decision on record: pure, shared with audit and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from carbon_orchestrator.config import Config, PolicyName
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Considered, Decision, Spec, Urgency
from carbon_orchestrator.router.expectation import Done, RunTimes, expected, left, longest
from carbon_orchestrator.router.greenest import GreenestSlots, GreenestWindow
from carbon_orchestrator.router.outlook import Outlook
from carbon_orchestrator.router.policies import recorded_policy
from carbon_orchestrator.router.policy import Defer, Dispatch, JobView, Policy, Site
from carbon_orchestrator.topology import Lane

_encode = msgspec.json.Encoder().encode
NOTHING_DONE = Done()
#: The share of an intensity's usual step that a plan waits for it to be observed.
_PATIENCE = 0.2


#: The version that decides today, of each policy.
_VERSIONS: dict[PolicyName, int] = {
    "run_now": 2,
    "threshold": 2,
    "greenest_window": 1,
    "greenest_slots": 1,
}


def policy_of(config: Config) -> tuple[Policy, msgspec.Raw]:
    """The configured policy, and its parameters as JSON for the record."""
    params: Any
    match config.policy:
        case "run_now":
            params = {}
        case "threshold":
            params = config.threshold
        case "greenest_window":
            params = GreenestWindow.of(config.greenest)
        case "greenest_slots":
            params = GreenestSlots.of(config.greenest)
    encoded = msgspec.Raw(_encode(params))
    return recorded_policy(config.policy, _VERSIONS[config.policy], encoded), encoded


def view(
    spec: Spec,
    config: Config,
    learned: RunTimes,
    speed: float,
    policy: Policy,
    done: Done = NOTHING_DONE,
) -> JobView:
    """What the policy sees of the job, of which `done` has run; wall lengths become grid
    lengths by the speed."""
    if not policy.forecasts:
        return JobView(
            urgency=spec.urgency,
            submitted_at=spec.submitted_at,
            deadline=spec.deadline,
            fast_ms=round(longest(spec, "fast", config, learned) * speed),
            eco_ms=round(longest(spec, "eco", config, learned) * speed),
            margin_ms=round(seconds(config.margin) * 1000 * speed),
        )
    fast, eco = left(expected(spec, config, learned), done)
    resume = seconds(config.greenest.resume_cost) * 1000
    # What it has run is no progress as far as it was resumed, and it may be still to be; on which
    # pool is not known, so it counts as on the faster one.
    slowdown = eco.mean / fast.mean
    again = resume * done.segments
    fast_again, eco_again = again * max(1, 1 / slowdown), again * max(1, slowdown)
    return JobView(
        urgency=spec.urgency,
        submitted_at=spec.submitted_at,
        deadline=spec.deadline,
        fast_ms=round((fast.longest + fast_again) * speed),
        eco_ms=round((eco.longest + eco_again) * speed),
        margin_ms=round(seconds(config.margin) * 1000 * speed),
        fast_mean_ms=max(round((fast.mean + fast_again) * speed), 1),
        eco_mean_ms=max(round((eco.mean + eco_again) * speed), 1),
        fast_energy=fast.energy,
        eco_energy=eco.energy,
        interruptible=spec.interruptible,
        resume_ms=round(resume * speed),
        running=done.running,
    )


def on_record(
    answer: Dispatch | Defer,
    job: JobView,
    sites: Sequence[Site],
    policy: Policy,
    params: msgspec.Raw,
    now: int,
    home: str,
    ended_id: str | None = None,
) -> Decision:
    """The decision with all that it was made from; `ended_id` as in Decision."""
    outlook = sites[0].outlook
    for site in sites:
        if site.outlook.zone == answer.zone:
            outlook = site.outlook
    usable = outlook.band_at(now) is not None
    start = answer.planned_start if isinstance(answer, Defer) else now
    decision = Decision(
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
        start=start,
        latest_start=answer.latest_start,
        reason=answer.reason,
    )
    if not policy.forecasts and len(sites) == 1 and answer.zone == home:
        return decision
    return msgspec.structs.replace(
        decision,
        zone=None if answer.zone == home else answer.zone,
        ended_id=ended_id,
        considered=[
            Considered(
                site.outlook.zone,
                site.outlook.intensity_id,
                None if site.fast_full is None else list(site.fast_full),
                None if site.eco_full is None else list(site.eco_full),
            )
            for site in sites
        ],
        fast_mean_ms=job.fast_mean_ms,
        eco_mean_ms=job.eco_mean_ms,
        fast_energy=job.fast_energy,
        eco_energy=job.eco_energy,
        resume_ms=job.resume_ms,
        running=job.running,
        end=start + job.mean(answer.pool) if policy.forecasts else None,
    )


def wake(answer: Defer, outlook: Outlook, policy: Policy) -> int:
    """When to look again at the latest. A plan made for an intensity that is yet to be observed
    waits a little for it."""
    start, step = answer.planned_start, outlook.resolution_ms
    awaited = outlook.time is not None and start >= outlook.time + step
    if not policy.forecasts or not awaited or start >= answer.latest_start:
        return start
    return min(start + round(step * _PATIENCE), answer.latest_start)


def lane(urgency: Urgency, answer: Dispatch) -> Lane:
    """Urgent jobs first, then those that may wait no longer, then the rest."""
    if urgency == "urgent":
        return "urgent"
    return "due" if answer.due else ""
