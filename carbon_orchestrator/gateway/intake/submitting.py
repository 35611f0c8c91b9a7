"""Submitting, whatever way it was asked for: checked, made, answered, and no job twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import msgspec
import structlog

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.intake.making import New, making
from carbon_orchestrator.gateway.intake.outcome import (
    INTERNAL,
    Accepted,
    Asked,
    Outcome,
    Refused,
    Repeated,
    unable,
    wrong,
)
from carbon_orchestrator.gateway.intake.room import Room
from carbon_orchestrator.gateway.intake.together import Together
from carbon_orchestrator.gateway.problems import fault
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.submission import (
    DeadlinePassed,
    Invalid,
    UnknownType,
    accept,
    derived_job_id,
    digest,
    new_job_id,
)
from streams.commit import Committer
from streams.errors import WriteFailed

log = structlog.get_logger(__name__)

#: Jobs asked for one by one that are made together at most.
_MOST = 500
_GONE = unable("the job that came of it before has just been forgotten; send it again")


class _Doubtful(NamedTuple):
    """What is refused unless it came before."""

    place: int
    job_id: str
    digest: str | None
    refusal: Refused

    @classmethod
    def of(cls, job: New, refusal: Refused) -> _Doubtful:
        return cls(job.place, job.spec.job_id, job.digest, refusal)


class Submitting:
    """Makes jobs. Everything that is asked for together is checked by one time on the clock."""

    def __init__(
        self, runtime: Runtime, reading: Reading, committer: Committer, room: Room
    ) -> None:
        self._runtime = runtime
        self._config, self._number = runtime.config, runtime.topology.partition.number
        self._reading = reading
        self._committer = committer
        self._room = room
        self._places = count()  # of those that are asked for one by one
        self._together: Together[New, Outcome] = Together(self._made, _MOST)

    def now(self) -> int:
        """Grid time, ms."""
        return self._runtime.now()

    async def submit(
        self, asked: Sequence[Asked], asking: Caller, now: int | None = None
    ) -> list[Outcome]:
        """What came of each, in order; a server that fails is a refusal of all that needed it.
        `now`: when they were submitted, grid ms."""
        now = self._runtime.now() if now is None else now
        outcomes: dict[int, Outcome] = {}
        new, doubtful = self._checked(asked, asking, now, outcomes)
        try:
            await self._decide(new, doubtful, asking, outcomes)
        except Exception as error:
            refusal = _fault(error, len(new))
            for place in [*(each.place for each in new), *(each.place for each in doubtful)]:
                outcomes[place] = refusal
        return [outcomes.get(place, INTERNAL) for place in range(len(asked))]

    async def one(self, asked: Asked, asking: Caller) -> Outcome:
        """As `submit`, of one. Those of concurrent callers are made together."""
        if asked.identity is not None:
            (outcome,) = await self.submit([asked], asking)
            return outcome
        at = wall_ms()
        job = self._check(next(self._places), asked, asking, self._runtime.clock.grid(at), at)
        if isinstance(job, Refused):
            return job
        assert isinstance(job, New)  # only what may have come before is doubtful
        try:
            if not self._room.has_one(asking) and await self._room.left(asking) < 1:
                return await self._room.why(asking)
        except Exception as error:
            return _fault(error, 1)
        self._room.taking(asking, 1)
        try:
            return await self._together.ask(job)
        finally:
            self._room.taken(asking, 1)

    async def _made(self, jobs: list[New]) -> list[Outcome]:
        """What came of jobs that were asked for one by one."""
        outcomes: dict[int, Outcome] = {}
        try:
            await self._make(jobs, outcomes)
        except Exception as error:
            return [_fault(error, len(jobs))] * len(jobs)
        return [outcomes.get(job.place, INTERNAL) for job in jobs]

    async def _decide(
        self,
        new: list[New],
        doubtful: list[_Doubtful],
        asking: Caller,
        outcomes: dict[int, Outcome],
    ) -> None:
        if await self._room.left(asking) < len(new):
            full = await self._room.why(asking)
            # What came before needs no room.
            known = await self._recall(
                [*doubtful, *(_Doubtful.of(job, full) for job in new if job.guarded)], outcomes
            )
            doubtful, new = [], [job for job in new if job.place not in known]
            left = max(0, await self._room.left(asking))
            for job in new[left:]:
                outcomes[job.place] = full
            new = new[:left]
        self._room.taking(asking, len(new))  # before anything else is waited for
        try:
            repeated = await self._make(new, outcomes) if new else []
        finally:
            self._room.taken(asking, len(new))
        await self._recall([*doubtful, *repeated], outcomes)

    def check(self, asked: Asked, asking: Caller) -> Accepted | Refused:
        """What would be made of this, or why nothing; nobody looks whether it came before."""
        checked = self._check(0, asked, asking, self._runtime.now(), wall_ms())
        if isinstance(checked, New):
            return Accepted(checked.spec)
        return checked if isinstance(checked, Refused) else checked.refusal

    def _checked(
        self, asked: Sequence[Asked], asking: Caller, now: int, outcomes: dict[int, Outcome]
    ) -> tuple[list[New], list[_Doubtful]]:
        """Those that can be accepted; of the others the outcome is told, or doubtful."""
        new: list[New] = []
        doubtful: list[_Doubtful] = []
        at = wall_ms()
        for place, each in enumerate(asked):
            checked = self._check(place, each, asking, now, at)
            if isinstance(checked, New):
                new.append(checked)
            elif isinstance(checked, Refused):
                outcomes[place] = checked
            else:
                doubtful.append(checked)
        return new, doubtful

    def _check(
        self, place: int, asked: Asked, asking: Caller, now: int, at: int
    ) -> New | _Doubtful | Refused:
        """`now`: grid ms; `at`: wall ms."""
        submitted, data, identity = asked.submitted, asked.data, asked.identity
        if asking.project is not None and submitted.project != asking.project:
            if asked.named_project:
                return _bound(asking.project)
            submitted = msgspec.structs.replace(submitted, project=asking.project)
            data = msgspec.json.encode(submitted)
        if identity is None:
            job_id = new_job_id(self._number, at)
        else:
            job_id = self._job_id(identity, asking)
        refusal: Refused | None = None
        try:
            spec = accept(submitted, self._config, job_id, now, asked.traceparent)
        except Invalid as error:
            refusal = _invalid(error, list(self._config.types))
            # Sent again later, an accepted job's own deadline may be over: it is taken still.
            if identity is None or not isinstance(error, DeadlinePassed):
                return refusal
        if identity is None:
            return New(place, data, spec, False, None, asking.key_id)
        fingerprint = digest(submitted) if identity[0] == "key" else None
        if refusal is not None:
            return _Doubtful(place, job_id, fingerprint, refusal)
        return New(place, data, spec, True, fingerprint, asking.key_id)

    def _job_id(self, identity: tuple[str, ...], asking: Caller) -> str:
        # Projects that are kept apart do not meet in a key, either.
        scope = () if asking.project is None else (asking.project,)
        return derived_job_id(self._number, identity[0], *scope, *identity[1:])

    async def _make(self, new: list[New], outcomes: dict[int, Outcome]) -> list[_Doubtful]:
        """Make them; those that there are already."""
        made = list(making(self._runtime.topology, new))
        failed: frozenset[int] = frozenset()
        held: Sequence[bool]
        try:
            held = await self._committer.commit([each.transaction for each in made])
        except WriteFailed as error:
            log.error("jobs could not be made", reason=str(error), failed=len(error.failed))
            held, failed = error.held, frozenset(error.failed)
        repeated: list[_Doubtful] = []
        for number, (each, took_effect) in enumerate(zip(made, held, strict=True)):
            for job in each.jobs:
                if took_effect:
                    outcomes[job.place] = Accepted(job.spec)
                elif number not in failed:
                    repeated.append(_Doubtful.of(job, _GONE))
        return repeated

    async def _recall(self, doubtful: list[_Doubtful], outcomes: dict[int, Outcome]) -> set[int]:
        """Tell of each whether it came before; the places of those that did."""
        if not doubtful:
            return set()
        known: set[int] = set()
        rows = await self._reading.remembered([each.job_id for each in doubtful])
        for each, row in zip(doubtful, rows, strict=True):
            if row is None:
                outcomes[each.place] = each.refusal
                continue
            known.add(each.place)
            state, fingerprint = row
            if each.digest is not None and fingerprint != each.digest:
                outcomes[each.place] = wrong(
                    "idempotency-key-reused",
                    "this Idempotency-Key came with another body before; use a new one",
                )
            else:
                outcomes[each.place] = Repeated(each.job_id, state)
        return known


def _fault(error: Exception, jobs: int) -> Refused:
    """What is said of so many jobs that could not be made."""
    refusal = fault(error)
    if refusal is INTERNAL:
        log.error("jobs could not be made", jobs=jobs, exc_info=error)
    return refusal


def _invalid(error: Invalid, types: list[str]) -> Refused:
    if isinstance(error, UnknownType):
        return wrong("unknown-type", str(error), "type", known=sorted(types))
    return wrong("invalid-job", str(error), error.field)


def _bound(project: str) -> Refused:
    return Refused(
        status=403,
        kind="project-bound",
        detail=f"this API key submits to the project {project} only",
        more={"field": "project"},
    )
