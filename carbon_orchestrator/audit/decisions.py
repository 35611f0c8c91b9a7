"""Decisions made again from what they say that they were made from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from carbon_orchestrator.audit.configurations import Announced
from carbon_orchestrator.events import Decision, Spec, Urgency
from carbon_orchestrator.router.deciding import lane, on_record
from carbon_orchestrator.router.outlook import Bands, Outlook
from carbon_orchestrator.router.policies import recorded_policy
from carbon_orchestrator.router.policy import Defer, Dispatch, Full, JobView, Policy, Site
from carbon_orchestrator.topology import Lane

#: The outlook of a zone that an intensity event opened, by the place of that event.
Outlooks = Callable[[str, str, Bands], Outlook]


class Facts(NamedTuple):
    """What a decision takes from its job's submission; the rest is in the decision."""

    urgency: Urgency
    submitted_at: int
    deadline: int | None
    interruptible: bool

    @classmethod
    def of(cls, spec: Spec) -> Facts:
        return cls(spec.urgency, spec.submitted_at, spec.deadline, spec.interruptible)


class Made(NamedTuple):
    """A decision as it has to be on record; `lane`, of a dispatch: in which it goes."""

    deferred: bool
    decision: Decision
    lane: Lane


def places(decision: Decision, home: str) -> Iterator[tuple[str, str]]:
    """The zone and place of every intensity event that a decision was made from."""
    for zone, place in _considered(decision, home):
        if place is not None:
            yield zone, place


def _considered(decision: Decision, home: str) -> Iterator[tuple[str, str | None]]:
    if not decision.considered:
        yield home, decision.intensity_id
    for each in decision.considered:
        yield each.zone, each.intensity_id


def again(
    decision: Decision, facts: Facts, policy: Policy, by: Announced, outlooks: Outlooks
) -> Made:
    """The same policy asked the same. `by`: the configuration of the router that decided."""
    job = JobView(
        urgency=facts.urgency,
        submitted_at=facts.submitted_at,
        deadline=facts.deadline,
        fast_ms=decision.fast_ms,
        eco_ms=decision.eco_ms,
        margin_ms=decision.margin_ms,
        fast_mean_ms=decision.fast_mean_ms,
        eco_mean_ms=decision.eco_mean_ms,
        fast_energy=decision.fast_energy,
        eco_energy=decision.eco_energy,
        interruptible=facts.interruptible,
        resume_ms=decision.resume_ms,
        running=decision.running,
    )
    home = by.config.zone
    rooms: list[tuple[Full, Full]] = [((), ())]
    if decision.considered:
        rooms = [(each.fast_full, each.eco_full) for each in decision.considered]
    sites = [
        Site(Outlook(zone=zone) if place is None else outlooks(zone, place, by.bands), *room)
        for (zone, place), room in zip(_considered(decision, home), rooms, strict=True)
    ]
    answer: Dispatch | Defer = policy.decide(job, sites, decision.at)
    made = on_record(
        answer, job, sites, policy, decision.params, decision.at, home, decision.ended_id
    )
    if isinstance(answer, Defer):
        return Made(True, made, "")
    return Made(False, made, lane(facts.urgency, answer))


class Policies:
    """Policies as decisions name them, each made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, int, bytes], Policy] = {}

    def of(self, decision: Decision) -> Policy:
        """The one that made a decision. Raises UnknownPolicy."""
        key = decision.policy, decision.policy_version, bytes(decision.params)
        policy = self._made.get(key)
        if policy is None:
            policy = self._made[key] = recorded_policy(*key[:2], msgspec.Raw(key[2]))
        return policy
