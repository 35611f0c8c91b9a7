"""The part of an audit that goes over all jobs: their histories, and every decision about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from carbon_orchestrator.audit.configurations import Announced
from carbon_orchestrator.audit.decisions import Facts, Made, Policies, again, places
from carbon_orchestrator.audit.findings import Findings, Place, differing
from carbon_orchestrator.audit.grids import place_order
from carbon_orchestrator.audit.histories import Histories, Job
from carbon_orchestrator.audit.outlooks import NotOnRecord, Outlooks
from carbon_orchestrator.audit.reading import COMPLETIONS, DEFERRALS, EMISSIONS, JOBS, Reading
from carbon_orchestrator.audit.submissions import Refused, Submissions, Taken
from carbon_orchestrator.events import (
    Decision,
    EmissionsRecorded,
    JobDeferred,
    JobDispatched,
    JobRejected,
    JobSubmitted,
    Spec,
    SuspendRequested,
)
from carbon_orchestrator.lifecycle import State
from carbon_orchestrator.router.policies import UnknownPolicy
from carbon_orchestrator.topology import CODEC
from streams.event import Message, entry_order

#: Decisions that are made again together.
_BATCH = 500
_TOLD = 500
_NO_CONFIGURATION = "no router's configuration on record"
#: By stream, up to which entry a group has read, and which of those it has not acknowledged.
Progress = dict[str, tuple[str, frozenset[str]]]
Tell = Callable[[int], None]


class _Asked(NamedTuple):
    """A decision to be made again."""

    decision: Decision
    deferred: bool
    facts: list[Facts]  # any of them may be the job's
    place: Place
    lane: str | None  # of a dispatch: the stream that it went to


class Checks:
    """Listens to histories; keeps what it cannot check at once for `settle`."""

    def __init__(self, reading: Reading, findings: Findings) -> None:
        self._reading, self._findings = reading, findings
        self._configurations = reading.configurations
        self._topology = reading.topology
        routers = [each.config for each in self._configurations.of("router")]
        self._submissions = Submissions(routers[::-1], self._configurations.clocks)
        self._outlooks = Outlooks(reading)
        self._policies = Policies()
        self._asked: list[_Asked] = []
        self._strange: list[tuple[tuple[str, str, int] | None, Spec, Place]] = []

    # -- as a Listener -----------------------------------------------------------------------------

    def outcomes(self, message: Message, job_id: str) -> list[Taken | Refused]:
        return self._submissions.outcomes(message, job_id)

    def ended(self, job: Job) -> None:
        pass

    def applied(self, job: Job, before: State | None, stream: str, message: Message) -> None:
        event = message.event
        if isinstance(event, JobDispatched):
            place = Place(stream, message.entry_id, message.index, job.job_id)
            self._accepted(job, event.spec, place)
            facts = [Facts.of(event.spec)]
            self._asked.append(_Asked(event.decision, False, facts, place, stream))
        elif isinstance(event, (JobDeferred, SuspendRequested)):
            place = Place(stream, message.entry_id, message.index, job.job_id)
            self._deferred(job, event.decision, place)
        elif isinstance(event, JobRejected):
            place = Place(stream, message.entry_id, message.index, job.job_id)
            self._rejected(job, event, place)
        elif isinstance(event, EmissionsRecorded) and event.attempt == job.attempt:
            self._on_fast(job, event, stream, message)

    def _accepted(self, job: Job, spec: Spec, place: Place) -> None:
        taken = Taken.of(spec)
        if not job.outcomes:
            why = "their submissions are not on record" if job.outcomes is None else ""
            self._findings.skip("submissions", why or _NO_CONFIGURATION)
        elif taken in job.outcomes:
            self._findings.check("submissions")
        else:
            self._findings.check("submissions")
            self._strange.append((job.submitted, spec, place))
        # What was said once stands: a job is told of once.
        job.outcomes = [taken]

    def _deferred(self, job: Job, decision: Decision, place: Place) -> None:
        facts = [each.facts for each in job.outcomes or () if isinstance(each, Taken)]
        if facts:
            self._asked.append(_Asked(decision, True, facts, place, None))
        elif not job.outcomes:
            self._findings.skip("decisions", "about jobs of which nothing else is on record")
        else:
            self._findings.check("decisions")
            self._findings.find(
                "decisions",
                "a job was deferred that was to be refused",
                place,
                expected=job.outcomes[0].reason if isinstance(job.outcomes[0], Refused) else None,
                found=decision.reason,
            )

    def _rejected(self, job: Job, event: JobRejected, place: Place) -> None:
        if not job.outcomes:
            self._findings.skip("submissions", _NO_CONFIGURATION)
            return
        self._findings.check("submissions")
        reasons = [each.reason for each in job.outcomes if isinstance(each, Refused)]
        if event.reason not in reasons:
            self._findings.find(
                "submissions",
                "a job was rejected, and for another reason or for none",
                place,
                expected=reasons[-1] if reasons else "accepted",
                found=event.reason,
            )

    def _on_fast(self, job: Job, event: EmissionsRecorded, stream: str, message: Message) -> None:
        """The energy of the baseline is that of the attempt, as its dispatch says for FAST."""
        expected = round(event.energy_mj * (job.fast[0] if job.fast else 1.0))
        if event.submitted_at and event.baseline_mj != expected:
            self._findings.find(
                "figures",
                "baseline_mj is not what the dispatch makes of energy_mj",
                Place(stream, message.entry_id, message.index, job.job_id),
                expected=str(expected),
                found=str(event.baseline_mj),
            )

    # -- what takes reading ------------------------------------------------------------------------

    async def settle(self, *, all_of_them: bool = False) -> None:
        """Make decisions again, once there are enough to be worth it."""
        if len(self._asked) < _BATCH and not all_of_them:
            return
        asked, self._asked = self._asked, []
        strange, self._strange = self._strange, []
        await self._outlooks.need(place for each in asked for _, place in places(each.decision, ""))
        for each in asked:
            self._again(each)
        for submitted, spec, place in strange:
            await self._tell_spec(submitted, spec, place)

    async def close(self) -> None:
        await self._outlooks.close()

    def _again(self, asked: _Asked) -> None:
        decision, findings = asked.decision, self._findings
        by = list(self._candidates(asked))
        if not by:
            findings.skip("decisions", _NO_CONFIGURATION)
            return
        findings.check("decisions")
        first: Made | None = None
        try:
            policy = self._policies.of(decision)
            for each in by:
                for facts in asked.facts:
                    made = again(decision, facts, policy, each, self._outlooks.outlook)
                    if self._same(made, asked):
                        return
                    first = first or made
        except UnknownPolicy as error:
            findings.find("decisions", str(error), asked.place)
            return
        except NotOnRecord as error:
            if first is None and not self._reached(decision):
                findings.skip("decisions", "made from intensities that this archive does not reach")
                return
            if first is None:
                findings.find(
                    "decisions", f"it was made from what is not there: {error}", asked.place
                )
                return
        except Exception as error:  # whatever absurd inputs lead to
            what = f"it cannot be made again: {type(error).__name__}: {error}"
            findings.find("decisions", what, asked.place)
            return
        assert first is not None
        self._tell(first, asked)

    def _reached(self, decision: Decision) -> bool:
        return all(self._reading.reached(place) for _, place in places(decision, ""))

    def _candidates(self, asked: _Asked) -> list[Announced]:
        order = place_order(asked.place.entry)
        policy = asked.decision.policy
        return [
            each
            for each in self._configurations.of("router", order)
            if each.config.policy == policy
        ]

    def _same(self, made: Made, asked: _Asked) -> bool:
        if made.decision != asked.decision or made.deferred != asked.deferred:
            return False
        return asked.lane is None or asked.lane == self._lane(made)

    def _lane(self, made: Made) -> str:
        into = self._topology.dispatch(made.decision.pool, made.lane, made.decision.zone or "")
        return self._reading.partition.name(into)

    def _tell(self, made: Made, asked: _Asked) -> None:
        find = self._findings.find
        if (difference := differing(made.decision, asked.decision)) is not None:
            name, expected, found = difference
            what = f"{name} of the decision is not what its inputs lead to"
            find("decisions", what, asked.place, expected=expected, found=found)
        elif made.deferred != asked.deferred:
            expected, found = ("deferred", "dispatched")[:: 1 if made.deferred else -1]
            find(
                "decisions", "it led to another event", asked.place, expected=expected, found=found
            )
        else:
            what, lane = "the dispatch went to another lane", self._lane(made)
            find("decisions", what, asked.place, expected=lane, found=asked.lane)

    async def _tell_spec(
        self, submitted: tuple[str, str, int] | None, spec: Spec, place: Place
    ) -> None:
        """In which field a job that was handed to a pool is not as it was submitted."""
        expected: Spec | Refused | None = None
        if submitted is not None:
            stream, entry_id, index = submitted
            entry = await self._reading.entry(stream, entry_id)
            for message in entry.messages if entry is not None else ():
                if message.index == index:
                    expected = self._submissions.specs(message, spec.job_id)[-1]
        what, values = "the job is not as it was submitted", ("unknown", "accepted")
        if isinstance(expected, Refused):
            values = (f"refused: {expected.reason}", "accepted")
        elif expected is not None and (difference := differing(expected, spec)) is not None:
            name, one, other = difference
            what = f"{name} of the job is not as it was submitted"
            values = one, other
        self._findings.find("submissions", what, place, expected=values[0], found=values[1])


async def check_jobs(
    reading: Reading,
    findings: Findings,
    router: Progress | None = None,
    tell: Tell = lambda count: None,
) -> None:
    """All jobs of the record. `router`: how far the routers were when `until` was chosen."""
    for message, why in reading.configurations.unreadable:
        findings.skip("decisions", f"a configuration cannot be read: {why} ({message.entry_id})")
    checks = Checks(reading, findings)
    histories = Histories(findings, checks, reading.identify, late=reading.source.late)
    dispatches = await reading.dispatches()
    streams = [*JOBS, DEFERRALS, *dispatches, COMPLETIONS, EMISSIONS]
    source = reading.source
    entries = 0
    try:
        async for stream, entry_id, fields in reading.history.merged(
            streams, source.after, source.until
        ):
            for message in CODEC.entry(stream, entry_id, fields).messages:
                histories.take(stream, message)
            await checks.settle()
            entries += 1
            if entries == _TOLD:
                tell(entries)
                entries = 0
        await checks.settle(all_of_them=True)
    finally:
        await checks.close()
    tell(entries)
    edge = await reading.edge([JOBS[1], DEFERRALS, COMPLETIONS, EMISSIONS])
    histories.finish(edge, reading.put_back)
    if router is not None and not source.late:
        _undecided(reading, findings, histories, router)


def _undecided(
    reading: Reading, findings: Findings, histories: Histories, router: Progress
) -> None:
    """Submissions that routers are done with, of which nothing came."""
    for job in histories.jobs.values():
        if job.state != "submitted" or job.submitted is None or job.outside:
            continue
        stream, entry_id, index = job.submitted
        last, pending = router.get(stream, ("0-0", frozenset[str]()))
        done = entry_order(entry_id) <= entry_order(last) and entry_id not in pending
        dead = any(isinstance(each, Refused) and not each.rejected for each in job.outcomes or ())
        if done and not dead and (stream, entry_id) not in reading.buried:
            findings.find(
                "histories",
                f"{JobSubmitted.event_type} was dealt with, and nothing came of it",
                Place(stream, entry_id, index, job.job_id),
            )
