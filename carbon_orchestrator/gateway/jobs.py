"""Jobs over HTTP: submitted, listed, shown, cancelled."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
from aiohttp import web

from carbon_orchestrator import record
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import CancelRequested, JobSubmitted, Spec
from carbon_orchestrator.gateway.access import Caller
from carbon_orchestrator.gateway.guard import caller, lacking
from carbon_orchestrator.gateway.held import Held
from carbon_orchestrator.gateway.problems import answer, problem, unavailable
from carbon_orchestrator.gateway.reading import BadCursor, Reading
from carbon_orchestrator.gateway.strict import Malformed, WrongField, submission
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.operations import acted
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.submission import (
    DeadlinePassed,
    Invalid,
    UnknownType,
    accept,
    derived_job_id,
    digest,
    is_job_id,
    new_job_id,
)
from streams.codec import envelope
from streams.commit import Committer, Transaction

SOURCE = "gateway"
MOST_LISTED = 500
LONGEST_KEY = 255
_COUNT_SECONDS = 0.5
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_encode = msgspec.json.Encoder().encode


class Jobs:
    """What is asked of jobs. `held`: counts those of each API key."""

    def __init__(
        self, runtime: Runtime, reading: Reading, committer: Committer, held: Held
    ) -> None:
        self._runtime = runtime
        self._reading = reading
        self._committer = committer
        self._held = held
        self._unfinished = (0.0, 0)

    # -- in --------------------------------------------------------------------------------------

    async def submit(self, request: web.Request) -> web.Response:
        """A new job, or the one that came with the same Idempotency-Key before."""
        asking, config = caller(request), self._runtime.config
        if request.content_type not in ("application/json", "application/octet-stream"):
            return problem(415, "unsupported-media-type", "send application/json")
        try:
            submitted, given = submission(await request.read(), config.limits.max_payload)
        except WrongField as error:
            return problem(422, "invalid-job", str(error), field=error.field)
        except Malformed as error:
            return problem(400, "malformed-json", str(error))
        if asking.project is not None:
            if "project" in given and submitted.project != asking.project:
                return problem(
                    403,
                    "project-bound",
                    f"this API key submits to the project {asking.project} only",
                    field="project",
                )
            submitted = msgspec.structs.replace(submitted, project=asking.project)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not (1 <= len(key) <= LONGEST_KEY and key.isascii()):
            return problem(422, "invalid-idempotency-key", f"1 to {LONGEST_KEY} ASCII characters")
        job_id, now = self._job_id(key, asking), self._runtime.now()
        traceparent = request.headers.get("traceparent")
        if traceparent is not None and not _TRACEPARENT.fullmatch(traceparent):
            traceparent = None  # as the standard asks
        try:
            spec = accept(submitted, config, job_id, now, traceparent)
        except UnknownType as error:
            known = sorted(config.types)
            return problem(422, "unknown-type", str(error), field="type", known=known)
        except Invalid as error:
            # Sent again later, an accepted job's own deadline may be over: it is accepted still.
            if isinstance(error, DeadlinePassed) and await self._known(key, job_id):
                return await self._repeated(job_id, digest(submitted))
            return problem(422, "invalid-job", str(error), field=error.field)
        refusal = await self._full(asking)
        if refusal is not None and not await self._known(key, job_id):
            return refusal
        fingerprint = None if key is None else digest(submitted)
        if not await self._commit(submitted, spec, asking, fingerprint, traceparent):
            return await self._repeated(job_id, fingerprint or "")
        head = {
            "id": job_id,
            "state": "submitted",
            "type": spec.type,
            "urgency": spec.urgency,
            "submitted_at": rfc3339(now),
            "deadline": None if spec.deadline is None else rfc3339(spec.deadline),
        }
        return answer(head, 202, {"Location": f"/jobs/{job_id}"})

    def _job_id(self, key: str | None, asking: Caller) -> str:
        number = self._runtime.topology.partition.number
        if key is None:
            return new_job_id(number)
        # Projects that are kept apart do not meet in a key, either.
        scope = () if asking.project is None else (asking.project,)
        return derived_job_id(number, "key", *scope, key)

    async def _commit(
        self,
        submitted: JobSubmitted,
        spec: Spec,
        asking: Caller,
        fingerprint: str | None,
        traceparent: str | None,
    ) -> bool:
        """Make the job; False if there is one of this id."""
        topology, job_id, now = self._runtime.topology, spec.job_id, spec.submitted_at
        fields: dict[str, str | bytes | int] = {"spec": _encode(spec)}
        if fingerprint is not None:
            fields["digest"] = fingerprint
        transaction = Transaction()
        record.create(transaction, topology, job_id, now, fields)
        if asking.key_id is not None:
            self._held.add(transaction, asking.key_id, job_id, now)
        event = msgspec.structs.replace(submitted, job_id=job_id, submitted_at=now)
        transaction.emit(topology.jobs_lane(spec.urgency), envelope(event, SOURCE, traceparent))
        return await self._committer.apply(transaction)

    async def _known(self, key: str | None, job_id: str) -> bool:
        """Whether a job came with this Idempotency-Key before."""
        return key is not None and await self._reading.digest(job_id) is not None

    async def _repeated(self, job_id: str, fingerprint: str) -> web.Response:
        """The key was used before: the same job for the same body, else an error."""
        if await self._reading.digest(job_id) != fingerprint:
            return problem(
                422,
                "idempotency-key-reused",
                "this Idempotency-Key came with another body before; use a new one",
            )
        job = await self._reading.job(job_id)
        return answer(job, 200, {"Location": f"/jobs/{job_id}"})

    async def _full(self, asking: Caller) -> web.Response | None:
        """Why no further job is taken for now."""
        if await self._queue_full():
            waiting = self._runtime.config.limits.max_waiting
            return unavailable(f"{waiting} jobs wait already", 10)
        if asking.key_id is not None and await self._held.full(asking.key_id):
            return problem(
                429,
                "queue-share",
                f"{self._held.most} jobs of this API key have not ended yet",
                headers={"Retry-After": "10"},
            )
        return None

    async def _queue_full(self) -> bool:
        counted, count = self._unfinished
        if time.monotonic() - counted > _COUNT_SECONDS:
            self._unfinished = (time.monotonic(), count)  # others need not count meanwhile
            count = await self._reading.unfinished()
            self._unfinished = (time.monotonic(), count)
        return count >= self._runtime.config.limits.max_waiting

    # -- out -------------------------------------------------------------------------------------

    async def list(self, request: web.Request) -> web.Response:
        """A page of jobs, the latest first."""
        query = request.query
        states = [each for part in query.getall("state", []) for each in part.split(",") if each]
        for state in states:
            if state not in STATES:
                return problem(
                    422, "invalid-query", f"no state {state[:40]!r}; one of {', '.join(STATES)}"
                )
        try:
            limit = int(query.get("limit", "50"))
            if not 1 <= limit <= MOST_LISTED:
                raise ValueError
        except ValueError:
            return problem(422, "invalid-query", f"limit is a number from 1 to {MOST_LISTED}")
        try:
            jobs, cursor = await self._reading.jobs(
                states or list(STATES), limit, query.get("cursor"), caller(request).project
            )
        except BadCursor as error:
            return problem(422, "invalid-query", str(error))
        return answer({"jobs": jobs, "next": cursor})

    async def _job(self, request: web.Request) -> dict[str, Any] | None:
        """The job in the path, if there is one for whoever asks."""
        job_id = request.match_info["id"]
        if not is_job_id(job_id, self._runtime.topology.partition.number):
            return None
        job = await self._reading.job(job_id)
        return job if job is not None and caller(request).sees(job["project"]) else None

    async def show(self, request: web.Request) -> web.Response:
        """A job with its timeline."""
        job = await self._job(request)
        return answer(job) if job is not None else self._unknown()

    def _unknown(self) -> web.Response:
        kept = self._runtime.config.retention.jobs
        return problem(404, "no-such-job", f"no job has this id, or it ended more than {kept} ago")

    async def cancel(self, request: web.Request) -> web.Response:
        """Ask for a job's end. With the scope `submit`, of what came with the same key, or is of
        the project that the key is bound to; with `operate`, of any, and that is put on record."""
        asking, job = caller(request), await self._job(request)
        if job is None:
            return self._unknown()
        job_id, topology = str(job["id"]), self._runtime.topology
        own = asking.may("submit") and (
            asking.project is not None
            or (asking.key_id is not None and await self._held.has(asking.key_id, job_id))
        )
        if not own and not asking.may("operate"):
            return lacking("operate")
        if job["state"] in TERMINAL:
            return problem(409, "job-has-ended", f"the job is {job['state']} already")
        event = CancelRequested(job_id=job_id)
        # In the urgent lane: a cancellation must not wait behind the jobs that it may spare.
        transaction = Transaction().emit(topology.jobs_urgent, envelope(event, SOURCE))
        if not own and asking.key_id is not None:
            transaction.absorb(acted(topology, asking.name, "job.cancel", job_id))
        await self._committer.apply(transaction)
        return answer(job, 202, {"Location": f"/jobs/{job_id}"})
