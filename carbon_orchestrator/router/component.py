"""The router: joins jobs with the grid's intensity and hands each to a pool, or defers it.

Three loops: one consumes jobs and cancellations, one reconsiders every deferred job at each
intensity event, one releases those whose planned start has come. Any number of routers may
run; guards make each change happen once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import anyio
import structlog

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import POOLS, CancelRequested, JobsReviewed, JobSubmitted
from carbon_orchestrator.router.books import Books
from carbon_orchestrator.router.expectation import RunTimes
from carbon_orchestrator.router.learning import read_run_times
from carbon_orchestrator.router.moments import Moments
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.router.routing import SOURCE, Known, Routing
from carbon_orchestrator.router.sites import Sites
from carbon_orchestrator.router.waiting import (
    RUNNING_FIELDS,
    WAITING_FIELDS,
    attempt_fields,
    running,
    waiting,
)
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.intensities import Intensities, young
from carbon_orchestrator.topology import CODEC, ROUTER
from streams.codec import envelope
from streams.commit import Transaction
from streams.consumer import Consumer
from streams.errors import CommitUnknown, Unprocessable, is_transient
from streams.event import Entry, Message
from streams.retry import backoff
from streams.scripts import GATHER
from streams.table import Table

log = structlog.get_logger(__name__)

_CHUNK = 500
_POLL_SECONDS = 0.1
_LEARN_SECONDS = 2.0
_ASIDE_SECONDS = 60.0
#: How long the table may lag behind the group before a look is made with what is known.
_TABLE_SECONDS = 5.0


class Look(NamedTuple):
    """When jobs were decided about, grid ms, how many of them changed, and the last completion
    that the room of the pools took account of."""

    at: int
    moved: int
    ended_id: str | None


class Swept(NamedTuple):
    """Looks at all jobs of a kind, as in JobsReviewed."""

    looks: list[tuple[int, int, int]]
    ended: list[tuple[int, str]]


class Router:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        config, topology = runtime.config, runtime.topology
        self.routing = Routing(topology, config)
        bands = Bands.of(config.threshold)
        self.grids = [Intensities(zone, bands) for zone in (config.zone, *config.zones)]
        self.table = Table(runtime.connect(), CODEC, topology.intensity, self._observe)
        self._name = name = runtime.consumer_name("router")
        lease_ms = round(config.lease_s * 1000)
        self._jobs = Consumer(
            runtime.group(ROUTER, name, [topology.jobs_urgent, topology.jobs]),
            runtime.committer(),
            self.process_jobs,
            lease_ms=lease_ms,
            max_deliveries=config.limits.deliveries,
        )
        self._intensity = Consumer(
            runtime.group(ROUTER, name, [topology.intensity]),
            runtime.committer(),
            self.process_intensity,
            # A sweep over a million deferred jobs takes longer than one lease.
            lease_ms=lease_ms * 10,
            max_deliveries=config.limits.deliveries,
        )
        self._committer = runtime.committer()
        bookers = (self._jobs.committer, self._committer)
        self.books = Books(runtime, bookers) if self.routing.policy.forecasts else None
        self._reader = runtime.connect()
        self._sweeper = runtime.connect()
        self._gatherer = runtime.connect()
        self.learned: RunTimes = {}
        #: One look at a time: two at once would decide twice about the same job.
        self._looking = anyio.Lock()
        self._moments = Moments(runtime.now)
        self._observed_at = 0  # when the newest of what is known of the grids came, grid ms
        self._pools = {config.zone: POOLS, **config.site_pools}

    async def run(self) -> None:
        """Route until stopped."""
        stop = self.runtime.stop
        await self._load()
        await self.runtime.announce(ROUTER, self._name, self._committer)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.table.run, stop)
            tasks.start_soon(self._learn)
            tasks.start_soon(self._jobs.run, stop)
            tasks.start_soon(self._intensity.run, stop)
            tasks.start_soon(self._release)

    def _observe(self, message: Message) -> None:
        for grid in self.grids:
            before = grid.outlook().intensity_id
            grid.apply(message)
            if grid.outlook().intensity_id != before:
                self._observed_at = self._moments.change()

    def _known(self, now: int) -> Known:
        outlooks = {grid.zone: grid.outlook() for grid in self.grids}
        ledgers = None if self.books is None else self.books.ledgers
        sites = Sites(outlooks, self._pools, ledgers)
        ended_id = None if self.books is None else self.books.ended_id
        return Known(
            sites,
            self.learned,
            now,
            self.runtime.clock.speed,
            ended_id,
            young((each.intensity_id for each in outlooks.values()), wall_ms()),
        )

    async def _known_anew(
        self, index: str = "", members: Sequence[str] = ()
    ) -> tuple[Known, list[bool]]:
        """With the room that the pools have at this moment, and who is in the index then."""
        there = [True] * len(members)
        if self.books is not None:
            there = await self.books.read(self._sweeper, index, members)
        return self._known(self._moments.change()), there

    async def _load(self) -> None:
        """The grid must be known before the first decision."""
        waits = backoff()
        while not self.runtime.stop.is_set():
            try:
                await self.table.load()
                await self._read_run_times()
                if self.books is not None:
                    await self.books.read(self._reader)
                return
            except Exception as error:
                if not is_transient(error):
                    raise
                await self.runtime.stop.sleep(next(waits))

    # -- jobs ----------------------------------------------------------------------------------

    async def process_jobs(self, entries: Sequence[Entry]) -> list[Transaction]:
        """One transaction per entry, with a step for each event in it."""
        rows = await self._cancelled_rows(entries)
        # Nothing is awaited from here to the commit: a sweep waits for what is handed in.
        clock, known = self.runtime.clock, self._known(self._moments.now())
        outcomes = []
        for entry in entries:
            outcome = Transaction()
            for message in entry.messages:
                event = message.event
                if isinstance(event, JobSubmitted):
                    arrived = clock.grid(message.at_ms)
                    step = self.routing.submitted(message, entry, arrived, known)
                elif isinstance(event, CancelRequested):
                    row = rows.get(event.job_id)
                    step = self.routing.cancel_requested(event, known.sites, known.now, row)
                else:
                    raise Unprocessable(f"{event.event_type} does not belong on this stream")
                outcome.then(step)
            outcomes.append(outcome)
        return outcomes

    async def _cancelled_rows(self, entries: Sequence[Entry]) -> dict[str, list[bytes | None]]:
        """What stands in the records of jobs to be cancelled, where their plans hold room."""
        if self.books is None:
            return {}
        events = [message.event for entry in entries for message in entry.messages]
        ids = list({each.job_id for each in events if isinstance(each, CancelRequested)})
        if not ids:
            return {}
        keys = [self.runtime.topology.record(job_id) for job_id in ids]
        rows = await GATHER(self._gatherer, keys, list(WAITING_FIELDS))
        return dict(zip(ids, rows, strict=True))

    # -- deferred jobs ---------------------------------------------------------------------------

    async def process_intensity(self, entries: Sequence[Entry]) -> list[Transaction]:
        """Reconsider every deferred job once for the whole batch."""
        # The table alone applies events, each once and in order: so what was known when something
        # was decided can be told from the stream.
        if any(entry.messages for entry in entries):
            await self.table.reached(entries[-1].id, _TABLE_SECONDS)
        topology = self.runtime.topology
        running = Swept([], [])
        # Who runs first, so that nobody is started and at once asked to pause.
        if self.routing.policy.pauses:
            running = await self._sweep(topology.interruptible, self._suspend)
        waiting = await self._sweep(topology.wake, self._replan)
        review = JobsReviewed(
            intensity_id=entries[-1].id,
            running=running.looks,
            waiting=waiting.looks,
            ended=running.ended + waiting.ended,
        )
        said = Transaction().emit(topology.reviews, envelope(review, SOURCE))
        return [*(Transaction() for _ in entries[1:]), said]

    async def _sweep(self, index: str, act: Callable[[list[str]], Awaitable[Look | None]]) -> Swept:
        """`act` on all members of a sorted set that are there throughout, in chunks."""
        cursor = b"0"
        swept = Swept([], [])
        while not self.runtime.stop.is_set():
            # What was decided before the event came must be among what is listed.
            await self._jobs.committer.settled()
            async with self._sweeper.pipeline(transaction=True) as pipeline:
                pipeline.time()
                pipeline.execute_command("ZSCAN", index, cursor, "COUNT", _CHUNK)
                (seconds, microseconds), (cursor, flat) = await pipeline.execute()
            listed_at = self.runtime.clock.grid(int(seconds) * 1000 + int(microseconds) // 1000)
            # Who comes first gets the greenest room: ids are in the order of submission.
            look = await act(sorted(member.decode() for member, _ in flat))
            if look is not None:
                swept.looks.append((listed_at, look.at, self.runtime.now()))
                if look.ended_id is not None:
                    swept.ended.append((look.at, look.ended_id))
            if int(cursor) == 0:
                break
        return swept

    async def _suspend(self, job_ids: list[str]) -> Look | None:
        """Ask those of these running jobs to pause for which that is greener."""
        if not job_ids:
            return None
        async with self._looking:
            return await self._ask_to_pause(job_ids)

    async def _ask_to_pause(self, job_ids: list[str]) -> Look:
        keys = [self.runtime.topology.record(each) for each in job_ids]
        rows = await GATHER(self._sweeper, keys, list(RUNNING_FIELDS))
        wanted = [(key, row, attempt_fields(row)) for key, row in zip(keys, rows, strict=True)]
        async with self._sweeper.pipeline(transaction=False) as pipeline:
            for key, _, fields in wanted:
                if fields is not None:
                    pipeline.hmget(key, list(fields))
            found = iter(await pipeline.execute())
        known, there = await self._known_anew(self.runtime.topology.interruptible, job_ids)
        changes = []
        for (key, row, fields), runs in zip(wanted, there, strict=True):
            dispatched, started = next(found) if fields is not None else (None, None)
            # A plan for a job that has ended since would keep room from the others.
            if dispatched is None or started is None or not runs:
                continue
            try:
                change = self.routing.suspended(running(row, dispatched, started), known)
            except Exception:
                log.exception("no decision possible about a running job", record=key)
                continue
            if change is not None:
                changes.append(change)
        return Look(known.now, sum(await self._committer.commit(changes)), known.ended_id)

    async def _release(self) -> None:
        """Reconsider jobs whose planned start has come."""
        stop, index = self.runtime.stop, self.runtime.topology.wake
        waits = backoff()
        while not stop.is_set():
            try:
                due: Any = await self._reader.zrange(
                    index,
                    "-inf",
                    self.runtime.now(),
                    byscore=True,
                    offset=0,
                    num=_CHUNK,
                )
                look = await self._reconsider(sorted(each.decode() for each in due))
                waits = backoff()
                if len(due) < _CHUNK or look is None or not look.moved:
                    await stop.sleep(_POLL_SECONDS)
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    log.exception("releasing failed, going on")
                await stop.sleep(next(waits))

    async def _replan(self, job_ids: list[str]) -> Look | None:
        """As `_reconsider`, without the jobs whose plans were made with all that is known."""
        return await self._reconsider(job_ids, unseen=True)

    async def _reconsider(self, job_ids: list[str], *, unseen: bool = False) -> Look | None:
        """Decide anew about those of these jobs whose time has come, or (`unseen`) whose plans are
        older than what is known of the grids."""
        if not job_ids:
            return None
        async with self._looking:
            return await self._decide_anew(job_ids, unseen)

    async def _decide_anew(self, job_ids: list[str], unseen: bool) -> Look:
        topology = self.runtime.topology
        rows = await GATHER(
            self._sweeper, [topology.record(each) for each in job_ids], list(WAITING_FIELDS)
        )
        known, _ = await self._known_anew()
        changes = []
        for job_id, row in zip(job_ids, rows, strict=True):
            try:
                change = self._change(job_id, row, known, unseen)
            except Exception:
                # One damaged record must not hold up all others.
                log.exception("no decision possible, looked at again in a minute", job=job_id)
                change = Transaction().require_field(topology.record(job_id), "state", "deferred")
                aside = known.now + self.runtime.clock.length(_ASIDE_SECONDS)
                change.put(topology.wake, aside, job_id)
            if change is not None:
                changes.append(change)
        return Look(known.now, sum(await self._committer.commit(changes)), known.ended_id)

    def _change(
        self, job_id: str, row: list[bytes | None], known: Known, unseen: bool
    ) -> Transaction | None:
        """What becomes of a job that stands in line, given the WAITING_FIELDS of its record."""
        topology = self.runtime.topology
        job = waiting(row)
        if job is not None:
            # What another look has settled since the job was chosen for this one, stands.
            settled = job.plan.at > self._observed_at if unseen else job.plan.wakes > known.now
            if settled and job.cancel is None:
                return None
            return self.routing.reconsidered(job, known)
        if row[0] is not None:
            return None
        # The record is gone (flushed or expired by hand): so is its place in line.
        stale = Transaction().require_absent(topology.record(job_id))
        stale.drop(topology.index("deferred"), job_id)
        return stale.drop(topology.wake, job_id)

    # -- run times ---------------------------------------------------------------------------------

    async def _learn(self) -> None:
        stop = self.runtime.stop
        while not stop.is_set():
            await stop.sleep(_LEARN_SECONDS)
            try:
                await self._read_run_times()
                if self.books is not None and self.books.age > _LEARN_SECONDS:
                    await self.books.read(self._reader)
                    self._moments.change()
            except Exception as error:
                if not is_transient(error):
                    log.exception("run times unreadable, going on")

    async def _read_run_times(self) -> None:
        self.learned = await read_run_times(
            self._reader, self.runtime.topology, self.runtime.config
        )
