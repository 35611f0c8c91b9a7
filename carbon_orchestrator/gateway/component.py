"""The gateway: HTTP in, events out. A 202 is given only once the server has the job."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property, partial
from pathlib import Path

import anyio
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.accounting.record_keeping import archive_directory
from carbon_orchestrator.every_letter import EveryLetter
from carbon_orchestrator.gateway import pages
from carbon_orchestrator.gateway.deployment.emissions import Emissions
from carbon_orchestrator.gateway.deployment.house import House
from carbon_orchestrator.gateway.deployment.letters import DeadLetterOffice
from carbon_orchestrator.gateway.deployment.metrics import Metrics
from carbon_orchestrator.gateway.deployment.needs import Needs
from carbon_orchestrator.gateway.door.connections import Connection, Connections, Site
from carbon_orchestrator.gateway.door.guard import Guard, caller
from carbon_orchestrator.gateway.door.keyring import Keyring
from carbon_orchestrator.gateway.door.measuring import Measuring
from carbon_orchestrator.gateway.door.negotiation import negotiated
from carbon_orchestrator.gateway.door.options import Options
from carbon_orchestrator.gateway.grid.carbon import Carbon
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.grid.job_starts import JobStarts
from carbon_orchestrator.gateway.intake.bodies import Bodies
from carbon_orchestrator.gateway.intake.express import Express, ExpressConnection
from carbon_orchestrator.gateway.intake.posting import Posting
from carbon_orchestrator.gateway.intake.preview import Preview
from carbon_orchestrator.gateway.intake.taking_events import TakingEvents
from carbon_orchestrator.gateway.live.events import Live
from carbon_orchestrator.gateway.live.feeds import Feeds
from carbon_orchestrator.gateway.part import Part
from carbon_orchestrator.gateway.problems import problems
from carbon_orchestrator.gateway.routes import ROUTES
from carbon_orchestrator.gateway.spread import (
    SpreadJobs,
    SpreadListing,
    SpreadOverview,
    SpreadPools,
    SpreadReading,
    SpreadSubmitting,
    by_id,
)
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC
from streams.errors import is_transient
from streams.retry import backoff
from streams.table import Table

log = structlog.get_logger(__name__)


class Gateway:
    """`require_keys`: who comes from loopback needs an API key, too; `insecure`: nobody needs one,
    wherever the gateway listens, `named`: but has to call it by one of these names, if there are
    any; `archive`: the directory, by default as configured."""

    def __init__(
        self,
        runtime: Runtime,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        require_keys: bool = False,
        insecure: bool = False,
        named: Collection[str] = (),
        archive: Path | None = None,
    ) -> None:
        self.runtime = runtime
        self.host, self.port = host, port
        config, limits = runtime.config, runtime.config.limits
        grids = Grids(config)
        self._table = Table(runtime.connect(), CODEC, runtime.topology.intensity, grids.observe)
        self._metrics = Metrics()
        self._measuring = Measuring(self._metrics.requests)
        self._keyring = Keyring(runtime.connect(), runtime.topology)
        self._guard = Guard(
            self._keyring, limits, host, require_keys=require_keys, insecure=insecure, hosts=named
        )
        self._connections = Connections(limits, lambda why: self._metrics.ended.labels(why).inc())
        archive = archive or archive_directory(config)
        self._parts = parts = [Part(each, grids, archive) for each in runtime.each()]
        first, several = parts[0], len(parts) > 1
        reading = SpreadReading(parts) if several else first.reading
        submitting = SpreadSubmitting(parts) if several else first.submitting
        self._listing = SpreadListing(parts) if several else first.listing
        self._pools = SpreadPools(parts) if several else first.pools
        self._overview = SpreadOverview(parts) if several else first.overview
        bodies, preview = Bodies(limits.max_bulk), Preview(first.runtime, grids)
        self._posting = Posting(runtime, reading, submitting, preview, bodies)
        jobs = SpreadJobs(parts) if several else first.jobs
        self._taking = TakingEvents(runtime, self._posting, submitting, jobs, bodies)
        self._carbon = Carbon(runtime, reading, grids)
        self._needs = Needs(runtime, grids)
        self._house = House(runtime, reading, grids, self._carbon, self._metrics, self._connections)
        self._emissions = Emissions(reading, grids)
        letters = EveryLetter({each.number: each.letters for each in parts})
        self._letters = DeadLetterOffice(reading, letters if several else first.letters)
        self._live = Live(runtime.stop, Feeds([each.source for each in parts]))
        self._job_starts = JobStarts(
            runtime, [each.past for each in parts], [each.planned for each in parts]
        )
        self.started = anyio.Event()

    @cached_property
    def _handlers(self) -> Mapping[str, Handler]:
        """By operation."""
        return {
            "index": self._index,
            "asset": pages.asset,
            "docs": pages.docs,
            "openapi": partial(self._house.contract, "openapi"),
            "asyncapi": partial(self._house.contract, "asyncapi"),
            "schemas": partial(self._house.contract, "schemas"),
            "livez": self._house.livez,
            "readyz": self._house.readyz,
            "health": self._house.health,
            "metrics": self._house.metrics,
            "list_types": self._house.types,
            "submit_job": self._posting.submit,
            "list_jobs": self._listing.show,
            "show_job": self._by_id(lambda each: each.jobs.show),
            "cancel_job": self._by_id(lambda each: each.jobs.cancel),
            "job_logs": self._by_id(lambda each: each.logs.show),
            "carbon": self._carbon.show,
            "best_window": self._carbon.best_window,
            "carbon_history": self._carbon.history,
            "emissions": self._show_emissions,
            "events": self._live.show,
            "take_events": self._taking.take,
            "job_events": self._by_id(lambda each: each.job_events.show),
            "job_starts": self._job_starts.show,
            "overview": self._overview.show,
            "list_letters": self._letters.list,
            "show_letter": self._letters.show,
            "retry_letters": self._letters.retry,
            "drop_letters": self._letters.drop,
            "list_pools": self._pools.show_all,
            "pool_demand": self._needs.show,
        }

    def _by_id(self, of: Callable[[Part], Handler]) -> Handler:
        """The handler of the job's partition."""
        handlers = [of(each) for each in self._parts]
        return by_id(self._parts, handlers) if len(handlers) > 1 else handlers[0]

    async def _index(self, request: web.Request) -> web.StreamResponse:
        """The dashboard for a browser, for a program what there is to see."""
        if pages.wants_page(request):
            return await pages.page(request, "index.html")
        return await self._house.index(request)

    async def _show_emissions(self, request: web.Request) -> web.StreamResponse:
        return await self._emissions.show(request, caller(request).project)

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=self.runtime.config.limits.max_body,
            middlewares=[self._measuring.measured, negotiated, problems, self._guard.admit],
        )
        for route in ROUTES:
            handler = self._handlers[route.operation]
            app.router.add_route(route.method, route.template, handler)
            if route.method == "GET":
                app.router.add_route("HEAD", route.template, handler)
        Options(self.runtime.config.cors.origins).install(app)
        return app

    async def run(self) -> None:
        """Serve until stopped; requests under way are answered. Raises Exposed, OSError."""
        stop = self.runtime.stop
        await self._load_keys()
        self._guard.check()
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=5)
        await runner.setup()
        try:
            if stop.is_set():
                return
            limits = self.runtime.config.limits
            await Site(runner, self._connection, limits, self.host, self.port).start()
            if self.port == 0:
                self.port = runner.addresses[0][1]
            log.info("serving", url=f"http://{self.host}:{self.port}")
            self.started.set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keyring.follow, stop, self._guard.forget)
                for part in self._parts:
                    tasks.start_soon(part.run, lambda: self._keyring.keys)
                tasks.start_soon(self._connections.watch, stop)
                tasks.start_soon(self._table.run, stop)
                tasks.start_soon(self._live.run)
        finally:
            self._guard.end_long()
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await runner.cleanup()

    @cached_property
    def _connection(self) -> Callable[..., Connection]:
        limits = self.runtime.config.limits
        if self.runtime.config.cors.origins:
            # Each answer says for whom it is; the application sees to that.
            return partial(Connection, self._connections)
        express = Express(self._guard, self._posting, self._metrics.requests, limits.max_body)
        return partial(ExpressConnection, self._connections, express)

    async def _load_keys(self) -> None:
        """Know the keys before the first request; a server that is away is waited for."""
        waits = backoff(0.1, 3.0)
        while not self.runtime.stop.is_set():
            try:
                await self._keyring.load()
                return
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("waiting for the API keys", error=str(error))
                await self.runtime.stop.sleep(next(waits))
