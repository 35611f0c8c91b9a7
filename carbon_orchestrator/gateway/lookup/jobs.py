"""A job over HTTP: shown, cancelled. How it comes in: posting.py; many: listing.py."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from carbon_orchestrator.events import CancelRequested
from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.door.guard import caller, missing
from carbon_orchestrator.gateway.intake.held import Held
from carbon_orchestrator.gateway.intake.making import SOURCE
from carbon_orchestrator.gateway.intake.outcome import Refused, no_such_job
from carbon_orchestrator.gateway.lookup.log_tail import on_record
from carbon_orchestrator.gateway.lookup.running import Running
from carbon_orchestrator.gateway.problems import answer, refused
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.operations import acted
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.submission import is_job_id
from streams.codec import envelope
from streams.commit import Committer, Transaction


class Jobs:
    """What is asked of jobs. `held`: counts those of each API key."""

    def __init__(
        self,
        runtime: Runtime,
        reading: Reading,
        committer: Committer,
        held: Held,
        running: Running,
    ) -> None:
        self._runtime = runtime
        self._reading = reading
        self._committer = committer
        self._held = held
        self._running = running

    async def job(self, request: web.Request) -> dict[str, Any] | None:
        """The job in the path, if there is one for whoever asks."""
        found = await self.job_and_output(request)
        return None if found is None else found[0]

    async def job_and_output(
        self, request: web.Request
    ) -> tuple[dict[str, Any], tuple[int, int] | None] | None:
        """The same, and from which offset to which its output is kept."""
        return await self._seen(request.match_info["id"], caller(request))

    async def _seen(
        self, job_id: str, asking: Caller
    ) -> tuple[dict[str, Any], tuple[int, int] | None] | None:
        """The job, and where its output begins and ends."""
        if not is_job_id(job_id, self._runtime.topology.partition.number):
            return None
        found = await self._reading.job_and_output(job_id)
        return found if found is not None and asking.sees(found[0]["project"]) else None

    async def show(self, request: web.Request) -> web.Response:
        """A job with its timeline."""
        found = await self.job_and_output(request)
        if found is None:
            return self.unknown()
        job, output = found
        await self._running.add([job])
        if output is None and job["state"] in TERMINAL and (text := on_record(job)):
            output = 0, len(text)
        job["log"] = None if output is None else {"bytes": output[1], "from": output[0]}
        return answer(job)

    def unknown(self) -> web.Response:
        """404 for what `job` does not find."""
        return refused(no_such_job(self._runtime.config))

    async def cancel(self, request: web.Request) -> web.Response:
        """Ask for a job's end."""
        event = CancelRequested(job_id=request.match_info["id"])
        return await self.ended(event, caller(request))

    async def ended(self, event: CancelRequested, asking: Caller) -> web.Response:
        """As `end`, as an answer."""
        job = await self.end(event, asking)
        if isinstance(job, Refused):
            return refused(job)
        return answer(job, 202, {"Location": f"/jobs/{job['id']}"})

    async def end(self, event: CancelRequested, asking: Caller) -> dict[str, Any] | Refused:
        """Ask for a job's end; the job as it still is. With the scope `submit`, of what came with
        the same key, or is of the project that the key is bound to; with `operate`, of any, and
        that is put on record."""
        found = await self._seen(event.job_id, asking)
        if found is None:
            return no_such_job(self._runtime.config)
        job, _ = found
        job_id, topology = event.job_id, self._runtime.topology
        own = asking.may("submit") and (
            asking.project is not None
            or (asking.key_id is not None and await self._held.has(asking.key_id, job_id))
        )
        if not own and not asking.may("operate"):
            return missing("operate")
        if job["state"] in TERMINAL:
            detail = f"the job is {job['state']} already"
            return Refused(status=409, kind="job-has-ended", detail=detail)
        # In the urgent lane: a cancellation must not wait behind the jobs that it may spare.
        transaction = Transaction().emit(topology.jobs_urgent, envelope(event, SOURCE))
        if not own and asking.key_id is not None:
            transaction.absorb(acted(topology, asking.name, "job.cancel", job_id))
        await self._committer.apply(transaction)
        return job
