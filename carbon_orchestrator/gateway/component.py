"""The gateway: HTTP in, events out. A 202 is given only once the server has the job."""

from __future__ import annotations

import time
from typing import Any

import anyio
import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator import __version__, record
from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.accounting.totals import GROUPS, METRICS
from carbon_orchestrator.clock import day, parse_time, rfc3339
from carbon_orchestrator.events import CancelRequested, JobSubmitted
from carbon_orchestrator.gateway.grids import Grids
from carbon_orchestrator.gateway.metrics import CONTENT_TYPE, Metrics
from carbon_orchestrator.gateway.problems import problem, problems, unavailable
from carbon_orchestrator.gateway.reading import BadCursor, Reading
from carbon_orchestrator.lifecycle import STATES, TERMINAL
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
from carbon_orchestrator.topology import CODEC
from streams.codec import envelope
from streams.commit import Transaction
from streams.table import Table

log = structlog.get_logger(__name__)

SOURCE = "gateway"
_PATIENCE_SECONDS = 5.0
_COUNT_SECONDS = 0.5
_MOST_LISTED = 500
_encode = msgspec.json.Encoder().encode
_submission = msgspec.json.Decoder(JobSubmitted)


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=_encode(body), content_type="application/json", headers=headers
    )


class Gateway:
    def __init__(self, runtime: Runtime, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.runtime = runtime
        self.host, self.port = host, port
        config, topology = runtime.config, runtime.topology
        self._committer = runtime.committer(
            _PATIENCE_SECONDS, replicas=1 if config.durability == "replica" else 0
        )
        self._reading = Reading(runtime.connect(), topology)
        self._grids = Grids(config)
        self._table = Table(runtime.connect(), CODEC, topology.intensity, self._grids.observe)
        self._metrics = Metrics()
        self._unfinished = (0.0, 0)
        self.started = anyio.Event()

    # -- serving -------------------------------------------------------------------------------

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=self.runtime.config.limits.max_body,
            middlewares=[self._measured, problems],
        )
        app.add_routes(
            [
                web.get("/", self._index),
                web.get("/health", self._health),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._show_metrics),
                web.post("/jobs", self._submit),
                web.get("/jobs", self._list),
                web.get("/jobs/{id}", self._show),
                web.delete("/jobs/{id}", self._cancel),
                web.get("/carbon", self._carbon),
                web.get("/emissions", self._emissions),
            ]
        )
        return app

    async def run(self) -> None:
        """Serve until stopped; requests under way are answered."""
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port, backlog=1024)
            await site.start()
            if self.port == 0:
                self.port = runner.addresses[0][1]
            log.info("serving", url=f"http://{self.host}:{self.port}")
            self.started.set()
            await self._table.run(self.runtime.stop)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await runner.cleanup()

    @web.middleware
    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        response = await handler(request)
        resource = request.match_info.route.resource
        # The route, never the path: labels must not grow with what clients ask for.
        route = resource.canonical if resource is not None else "none"
        self._metrics.requests.labels(request.method, route, response.status).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
        return response

    # -- jobs ----------------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.Response:
        if request.content_type not in ("application/json", "application/octet-stream"):
            return problem(415, "unsupported-media-type", "send application/json")
        body = await request.read()
        try:
            submitted = _submission.decode(body)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$")
            return problem(422, "invalid-job", str(error), field=path.strip("`.") or text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return problem(400, "malformed-json", f"the body is not JSON: {error}")
        config, topology = self.runtime.config, self.runtime.topology
        number = topology.partition.number
        key = request.headers.get("Idempotency-Key")
        if key is not None and not 1 <= len(key) <= 255:
            return problem(422, "invalid-idempotency-key", "1 to 255 characters")
        job_id = derived_job_id(number, "key", key) if key is not None else new_job_id(number)
        now = self.runtime.now()
        submitted = msgspec.structs.replace(submitted, job_id=None, submitted_at=None)
        traceparent = request.headers.get("traceparent")
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
        if await self._full() and not await self._known(key, job_id):
            return unavailable(f"{config.limits.max_waiting} jobs wait already", 10)
        fields: dict[str, str | bytes | int] = {"spec": _encode(spec)}
        if key is not None:
            fields["digest"] = digest(submitted)
        transaction = Transaction()
        record.create(transaction, topology, job_id, now, fields)
        event = msgspec.structs.replace(submitted, job_id=job_id, submitted_at=now)
        transaction.emit(topology.jobs_lane(spec.urgency), envelope(event, SOURCE, traceparent))
        if not await self._committer.apply(transaction):
            return await self._repeated(job_id, str(fields.get("digest", "")))
        head = {
            "id": job_id,
            "state": "submitted",
            "type": spec.type,
            "urgency": spec.urgency,
            "submitted_at": rfc3339(now),
            "deadline": None if spec.deadline is None else rfc3339(spec.deadline),
        }
        return _json(head, 202, {"Location": f"/jobs/{job_id}"})

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
        return _json(job, 200, {"Location": f"/jobs/{job_id}"})

    async def _full(self) -> bool:
        counted, count = self._unfinished
        if time.monotonic() - counted > _COUNT_SECONDS:
            self._unfinished = (time.monotonic(), count)  # others need not count meanwhile
            count = await self._reading.unfinished()
            self._unfinished = (time.monotonic(), count)
        return count >= self.runtime.config.limits.max_waiting

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        states = [each for part in query.getall("state", []) for each in part.split(",") if each]
        for state in states:
            if state not in STATES:
                return problem(
                    422, "invalid-query", f"no state {state[:40]!r}; one of {', '.join(STATES)}"
                )
        try:
            limit = int(query.get("limit", "50"))
            if not 1 <= limit <= _MOST_LISTED:
                raise ValueError
        except ValueError:
            return problem(422, "invalid-query", f"limit is a number from 1 to {_MOST_LISTED}")
        try:
            jobs, cursor = await self._reading.jobs(
                states or list(STATES), limit, query.get("cursor")
            )
        except BadCursor as error:
            return problem(422, "invalid-query", str(error))
        return _json({"jobs": jobs, "next": cursor})

    def _id(self, request: web.Request) -> str | None:
        job_id = request.match_info["id"]
        return job_id if is_job_id(job_id, self.runtime.topology.partition.number) else None

    async def _show(self, request: web.Request) -> web.Response:
        job_id = self._id(request)
        job = await self._reading.job(job_id) if job_id else None
        return _json(job) if job is not None else self._unknown()

    def _unknown(self) -> web.Response:
        kept = self.runtime.config.retention.jobs
        return problem(404, "no-such-job", f"no job has this id, or it ended more than {kept} ago")

    async def _cancel(self, request: web.Request) -> web.Response:
        job_id = self._id(request)
        job = await self._reading.job(job_id) if job_id else None
        if job is None or job_id is None:
            return self._unknown()
        if job["state"] in TERMINAL:
            return problem(409, "job-has-ended", f"the job is {job['state']} already")
        event = CancelRequested(job_id=job_id)
        # In the urgent lane: a cancellation must not wait behind the jobs that it may spare.
        transaction = Transaction().emit(self.runtime.topology.jobs_urgent, envelope(event, SOURCE))
        await self._committer.apply(transaction)
        return _json(job, 202, {"Location": f"/jobs/{job_id}"})

    # -- the grid and the sums -------------------------------------------------------------------

    async def _carbon(self, request: web.Request) -> web.Response:
        zone = request.query.get("zone", self._grids.home.zone)
        if zone not in self._grids.zones:
            known = ", ".join(self._grids.zones)
            return problem(404, "unknown-zone", f"no such zone; known: {known}")
        return _json(await self._grid(zone))

    async def _grid(self, zone: str = "") -> dict[str, Any]:
        clock, zone = self.runtime.clock, zone or self._grids.home.zone
        view = self._grids.view(zone, clock, clock.now())
        if view["signal"] == "none" and (why := await self._reading.silence(zone)):
            view["unusable"] = f"{view['unusable']}: {why}"
        return view

    async def _emissions(self, request: web.Request) -> web.Response:
        by = tuple(each for each in request.query.get("by", "day").split(",") if each)
        for group in by:
            if group not in GROUPS:
                return problem(422, "invalid-query", f"by is among {', '.join(GROUPS)}")
        first, last = request.query.get("from"), request.query.get("to")
        for moment in (first, last):
            if moment is not None and not _is_day(moment):
                return problem(422, "invalid-query", "from and to are days such as 2026-01-31")
        rows = report(await self._reading.totals(first, last), by)
        latest = self._grids.home.latest
        return _json(
            {
                "by": by,
                "rows": [{**row.group, **row.sums, "avoided_ug": row.avoided_ug} for row in rows],
                "metrics": {**METRICS, "avoided_ug": "baseline less emitted, µg CO2e"},
                "simulated": latest.simulated if latest is not None else None,
            }
        )

    # -- the state of the house --------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.Response:
        return _json(
            {
                "name": "carbon-orchestrator",
                "version": __version__,
                "see": ["/health", "/jobs", "/carbon", "/emissions", "/metrics"],
            }
        )

    async def _livez(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        await self._reading.counts()
        return _json({"status": "ok"})

    async def _health(self, request: web.Request) -> web.Response:
        counts, groups = await self._reading.counts(), await self._reading.groups()
        # A busy worker reads nothing, but keeps its leases on some lane of its pool.
        alive = {each.stream for each in groups if each.live}
        name = self.runtime.topology.partition.name
        readers = self.runtime.topology.readers
        missing = [role for role, streams in readers.items() if alive.isdisjoint(streams)]
        grid = await self._grid()
        grid.pop("forecast", None)
        return _json(
            {
                "status": "degraded" if missing or grid["signal"] == "none" else "ok",
                "version": __version__,
                "no_consumers": missing,
                "jobs": counts,
                "dead_letters": await self._reading.dead_letters(),
                "carbon": grid,
                "streams": [
                    {
                        "stream": name(each.stream),
                        "group": each.group,
                        "lag": each.lag,
                        "pending": each.pending,
                        "live_consumers": each.live,
                    }
                    for each in groups
                ],
            }
        )

    async def _show_metrics(self, request: web.Request) -> web.Response:
        metrics, name = self._metrics, self.runtime.topology.partition.name
        for state, count in (await self._reading.counts()).items():
            metrics.jobs.labels(state).set(count)
        for each in await self._reading.groups():
            labels = name(each.stream), each.group
            metrics.pending.labels(*labels).set(each.pending)
            metrics.consumers.labels(*labels).set(each.live)
            if each.lag is not None:
                metrics.lag.labels(*labels).set(each.lag)
        for latest in self._grids.latest:
            labels3 = (latest.zone, latest.kind, str(latest.simulated).lower())
            metrics.intensity.labels(*labels3).set(latest.intensity)
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _is_day(text: str) -> bool:
    try:
        return day(parse_time(text)) == text
    except ValueError:
        return False
