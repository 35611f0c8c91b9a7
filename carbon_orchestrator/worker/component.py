"""The worker: takes no more than it can run at once, keeps its leases, commits each end once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
import structlog

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import JobDispatched, Pool
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.intensities import Intensities, young
from carbon_orchestrator.topology import CODEC, WORKER, site
from carbon_orchestrator.worker.attempt import Halt
from carbon_orchestrator.worker.attempts import TAKEOVER_FIELDS, Attempt, Attempts, takeover
from carbon_orchestrator.worker.bench import Bench
from carbon_orchestrator.worker.burnt import Grid
from carbon_orchestrator.worker.energy import EnergyMeter
from carbon_orchestrator.worker.execution import Execution
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.leftovers import clear
from carbon_orchestrator.worker.segments import FIRST, SEGMENTS_FIELDS, Segments
from carbon_orchestrator.worker.telling import Tellings
from carbon_orchestrator.worker.traced_execution import executor_of
from streams.commit import Transaction
from streams.consumer import begin, bury_faults, dead_letter
from streams.errors import CommitUnknown, is_missing_group, is_transient
from streams.event import Entry, Message
from streams.group import Lease
from streams.retry import backoff
from streams.scripts import GATHER
from streams.table import Table

log = structlog.get_logger(__name__)


#: Seconds between tries to record an end, besides the committer's own patience.
_COMMIT_WAITS = (1.0, 2.0, 4.0, 8.0, *(10.0,) * 15)


class _Running(msgspec.Struct):
    attempt: Attempt
    halt: Halt
    task: asyncio.Task[None] | None = None
    lost: bool = False  # the lease is another's: whatever comes out does not count


class WorkerRole:
    """One worker process of one pool of a zone, by default the home zone. ConfigError for a
    zone or pool that is not configured. `bench`: of a process that serves other partitions, too;
    then `slots` are those that it offers to this one."""

    def __init__(
        self,
        runtime: Runtime,
        pool: Pool,
        data_dir: Path,
        guardian: Guardian,
        *,
        slots: int | None = None,
        meter: EnergyMeter | None = None,
        zone: str | None = None,
        bench: Bench | None = None,
    ) -> None:
        self.runtime = runtime
        self.pool = pool
        config, topology = runtime.config, runtime.topology
        home = config.zone
        away = "" if zone is None or zone == home else zone
        if (pool, away) not in topology.sites:
            raise ConfigError(
                f"there is no pool {site(pool, away)!r}: name it in the configuration's "
                f"[zones.{away}], or choose another of the zones {', '.join([home, *config.zones])}"
            )
        self.slots = slots if slots is not None else config.pools[pool].slots
        self._shared = bench is not None
        if bench is None:
            bench = Bench(
                runtime.consumer_name(f"worker-{site(pool, away)}"),
                self.slots,
                executor_of(config, pool, guardian, data_dir, meter),
            )
        self._bench = bench
        self.name, self._slots, self.executor = bench.name, bench.slots, bench.executor
        self._held = 0  # slots taken for what is about to be delivered
        self._next_claim = 0.0
        self._returned = False  # something from a lane before the rest, for want of a slot
        self.attempts = Attempts(topology, config, pool, self.name, self._slots.total)
        bands = Bands.of(config.threshold)
        at_home = Intensities(home, bands)
        self.grid = Grid(Intensities(away, bands) if away else at_home, at_home)
        self.table = Table(runtime.connect(), CODEC, topology.intensity, self._observe)
        lanes = topology.dispatch_lanes(pool, away)
        self.group = runtime.group(WORKER, self.name, lanes)
        self._renewals = runtime.group(WORKER, self.name, lanes)
        self._offers = topology.workers(pool, away)
        self.lease_ms = round(config.lease_s * 1000)
        #: Seconds between looks for jobs whose worker is silent.
        self._look_around = min(1.0, config.lease_s / 4)
        self._committer = runtime.committer()
        self._reader = runtime.connect()
        self._tellings = Tellings(runtime.connect(), topology, config, runtime.now)
        self._running: dict[tuple[str, str], _Running] = {}
        self._heartbeat_stop = anyio.Event()

    @property
    def running(self) -> int:
        return len(self._running)

    async def run(self) -> None:
        """Work until stopped; then let running jobs end, within the drain time."""
        await self.runtime.announce(WORKER, self.name, self._committer)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.table.run, self.runtime.stop)
                tasks.start_soon(self._heartbeats)
                tasks.start_soon(self._tellings.run)
                tasks.start_soon(self._work)
        finally:
            await self._bench.leave()
        try:
            with anyio.fail_after(5):
                await self._reader.zrem(self._offers, self._offer)
        except Exception as error:
            log.info("left without saying so", error=str(error))

    def _observe(self, message: Message) -> None:
        self.grid.home.apply(message)
        if self.grid.here is not self.grid.home:
            self.grid.here.apply(message)

    @property
    def _offer(self) -> str:
        return f"{self.name}:{self.slots}"

    async def _work(self) -> None:
        stop = self.runtime.stop
        waits = backoff()
        again = False
        while not stop.is_set():
            try:
                await self.group.ensure()
                await self._recover(again)
                if not again:
                    await clear(self.executor, self._reader, self.runtime.topology)
                again = True
                self._next_claim = 0.0
                while not stop.is_set():
                    with stop.cut():
                        self._held = await self._slots.some(
                            self.slots, self._pressing if self._shared else None
                        )
                    if self._held and anyio.current_time() >= self._next_claim:
                        self._next_claim = anyio.current_time() + self._look_around
                        self._returned = False
                        await self._redelivered(await self.group.claim(self.lease_ms, self._held))
                    if self._held:
                        await self._fetch()
                    waits = backoff()
            except Exception as error:
                if isinstance(error, CommitUnknown) or is_transient(error):
                    log.warning("server unavailable, waiting", pool=self.pool, error=str(error))
                elif not is_missing_group(error):
                    log.exception("worker failed, going on", pool=self.pool)
                self._let_go()
                await stop.sleep(next(waits))
            self._let_go()
        with anyio.CancelScope(shield=True):
            await self._drain()

    async def _fetch(self) -> None:
        """Take as many as slots are held, most urgent first; if there is none, wait for one, and
        hold no slot meanwhile."""
        entries: list[Entry] = []
        with self.runtime.stop.cut():
            entries = await self.group.take(self._held)
            if not entries:
                self._let_go()
                entries = await self.group.wait(1, round(self._look_around * 1000))
        # Several lanes may have had something, or another partition the slot.
        self._held += self._slots.take(len(entries) - self._held)
        held = self._held
        await self._hand_back(entries[held:])
        if entries[:held]:
            await self._delivered(entries[:held])
        self._let_go()

    def _let_go(self) -> None:
        """Of the slots that are held for nothing."""
        held, self._held = self._held, 0
        self._slots.give(held)

    async def _hand_back(self, entries: Sequence[Entry]) -> None:
        """Whoever looks next may have these."""
        if not entries:
            return
        await self.group.hand_back(entries, self.lease_ms)
        self._returned = any(entry.stream in self.group.lanes[:-1] for entry in entries)
        self._next_claim = 0.0

    async def _pressing(self) -> bool:
        """Whether something waits in the lanes that go before the rest."""
        return self._returned or await self.group.undelivered(self.group.lanes[:-1])

    # -- from delivery to start --------------------------------------------------------------------

    async def _delivered(self, entries: Sequence[Entry]) -> None:
        """Start new deliveries, in one commit."""
        attempts: list[Attempt] = []
        buried: list[Transaction] = []
        for entry in entries:
            if (event := _dispatched(entry)) is not None:
                attempts.append(Attempt(entry, event, event.attempt, event.failures))
            else:
                buried.append(self._unusable(entry))
        at = self.runtime.now()
        starts = [self.attempts.start(each, at) for each in attempts]
        results = await self._committer.commit([*starts, *buried])
        doubtful = []
        for attempt, started in zip(attempts, results, strict=False):
            if started:
                self._launch(attempt, at)
            else:
                doubtful.append(attempt.entry)
        await self._redelivered(doubtful)

    def _unusable(self, entry: Entry) -> Transaction:
        if entry.faults:
            transaction = begin(entry, WORKER)
            bury_faults(transaction, entry, WORKER, self.runtime.topology.dead_letters)
            return transaction
        reason = "a dispatch entry carries exactly one job.dispatched event"
        return dead_letter(entry, WORKER, self.runtime.topology.dead_letters, reason)

    async def _recover(self, again: bool) -> None:
        """Entries delivered to this consumer's name that this process does not run."""
        after: dict[str, str] = {}
        while entries := await self.group.own_pending(100, after, again=again):
            after.update({entry.stream: entry.id for entry in entries})
            strange = [each for each in entries if (each.stream, each.id) not in self._running]
            await self._redelivered(strange)

    async def _redelivered(self, entries: Sequence[Entry]) -> None:
        """Deliveries whose job may have started before: ask its record what to do."""
        usable: list[tuple[Entry, JobDispatched]] = []
        buried: list[Transaction] = []
        for entry in entries:
            if (event := _dispatched(entry)) is not None:
                usable.append((entry, event))
            else:
                buried.append(self._unusable(entry))
        await self._committer.commit(buried)
        if not usable:
            return
        keys = [self.runtime.topology.record(event.spec.job_id) for _, event in usable]
        rows = await GATHER(self._reader, keys, list(TAKEOVER_FIELDS))
        at = self.runtime.now()
        for (entry, event), row in zip(usable, rows, strict=True):
            if (entry.stream, entry.id) in self._running:
                await self._hand_back([entry])  # its lease is for heartbeats to renew, not for us
                continue
            action, attempt = takeover(entry, event, row)
            if action == "drop":
                await self._committer.apply(self.attempts.drop(entry))
            elif action == "start":
                if await self._committer.apply(self.attempts.start(attempt, at)):
                    self._launch(attempt, at)
            elif entry.deliveries > self.runtime.config.limits.deliveries:
                log.error("job given up", job=attempt.job_id, deliveries=entry.deliveries)
                await self._committer.apply(self.attempts.give_up(attempt, at, _text(row[5])))
            elif await self._committer.apply(self.attempts.take_over(attempt, at, _text(row[5]))):
                log.warning("job taken over", job=attempt.job_id, attempt=attempt.number)
                self._launch(attempt, at, cancelled=row[3] is not None)

    # -- running -----------------------------------------------------------------------------------

    def _launch(self, attempt: Attempt, at: int, *, cancelled: bool = False) -> None:
        running = _Running(attempt, Halt())
        if cancelled:
            running.halt.stop("cancelled")
        self._running[(attempt.entry.stream, attempt.entry.id)] = running
        if self._held:
            self._held -= 1
        else:
            self._slots.exceed()
        running.task = asyncio.create_task(self._run(running, at))

    async def _run(self, running: _Running, started_at: int) -> None:
        attempt = running.attempt
        key = (attempt.entry.stream, attempt.entry.id)
        telling = self._tellings.begin(attempt.job_id, attempt.number)
        final = False
        try:
            result = await self.executor.run(
                attempt.event.spec, attempt.number, str(attempt.number), running.halt, telling
            )
            at = self.runtime.now()
            if not running.lost:
                await self._tellings.finish(telling)
                final = await self._ended(attempt, result, started_at, at)
            if final:
                await self.executor.discard(attempt.job_id)
        except Exception:
            # The lease runs out and the job is delivered again.
            log.exception("attempt not recorded", job=attempt.job_id)
        finally:
            self._tellings.end(telling, lost=running.lost, final=final)
            del self._running[key]
            self._slots.give()

    async def _ended(self, attempt: Attempt, result: Execution, started_at: int, at: int) -> bool:
        """Record the end of an attempt; whether it is the job's. The work is done: keep trying
        to say so while the server is away."""
        clock = self.runtime.clock
        for number, wait in enumerate(_COMMIT_WAITS):
            try:
                before = await self._before(attempt, again=number > 0)
                if before is not None:
                    fresh = young([self.grid.home.applied], wall_ms())
                    end, final = self.attempts.finish(
                        attempt, result, started_at, at, self.grid, clock, before, fresh
                    )
                    if await self._committer.apply(end):
                        return final
                    # Lost; or asked to pause or to stop just now; or what it was priced by is
                    # gone with a primary, which the table is about to see: look again.
                    await asyncio.sleep(wait if number else 0)
                    continue
                log.warning(
                    "end of attempt not counted: another worker has taken over",
                    job=attempt.job_id,
                    attempt=attempt.number,
                )
                return False
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    raise
                await asyncio.sleep(wait)
        log.error("end of attempt lost", job=attempt.job_id)
        return False

    async def _before(self, attempt: Attempt, *, again: bool) -> Segments | None:
        """What an attempt's end has to know of the record; None where it is another's by now."""
        if not attempt.event.spec.interruptible and not again:
            return FIRST
        key = self.runtime.topology.record(attempt.job_id)
        (row,) = await GATHER(self._reader, [key], list(SEGMENTS_FIELDS))
        return Segments.of(row, attempt.number)

    async def _heartbeats(self) -> None:
        """Several times a lease: offer the slots, renew every lease, and hear that way who is to
        stop or to pause."""
        topology = self.runtime.topology
        pause = min(1.0, self.lease_ms / 5000)
        while not self._heartbeat_stop.is_set():
            try:
                if not self.runtime.stop.is_set():
                    await self._renewals.redis.zadd(self._offers, {self._offer: wall_ms()})
            except Exception as error:
                if not is_transient(error):
                    log.exception("offering slots failed, going on")
            with anyio.move_on_after(pause):
                await self._heartbeat_stop.wait()
            current = list(self._running.values())
            if not current:
                continue
            leases = [
                Lease(
                    each.attempt.entry.stream,
                    each.attempt.entry.id,
                    topology.record(each.attempt.job_id),
                    str(each.attempt.number),
                )
                for each in current
            ]
            try:
                signals = await self._renewals.renew(leases, "attempt", "cancel", "suspend")
            except Exception as error:
                if not is_transient(error):
                    log.exception("heartbeat failed, going on")
                continue
            for each, signal in zip(current, signals, strict=True):
                if signal is None:
                    log.warning("lease lost, job stopped", job=each.attempt.job_id)
                    each.lost = True
                    each.halt.stop("cancelled")
                    continue
                cancel, suspend = signal
                if cancel:
                    each.halt.stop("cancelled")
                elif suspend and each.attempt.event.spec.interruptible:
                    each.halt.stop("suspended")

    async def _drain(self) -> None:
        """Let running jobs end; what does not in time is interrupted and runs elsewhere. Those
        that may be interrupted are at once, so that all their grace is for their checkpoints."""
        with suppress(Exception), anyio.fail_after(5):
            # The read that the stop cut short may have been delivered something unseen.
            pending = await self.group.own_pending(self._slots.total + 1, again=True)
            await self._hand_back(
                [each for each in pending if (each.stream, each.id) not in self._running]
            )
        for running in self._running.values():
            if running.attempt.event.spec.interruptible:
                running.halt.stop("suspended")
        tasks = [each.task for each in self._running.values() if each.task is not None]
        if tasks:
            log.info("draining", pool=self.pool, jobs=len(tasks))
            await asyncio.wait(tasks, timeout=seconds(self.runtime.config.drain))
        for running in self._running.values():
            running.halt.stop("interrupted")
        if left := [task for task in tasks if not task.done()]:
            await asyncio.wait(left, timeout=60)
        self._heartbeat_stop.set()
        self._tellings.stop()
        try:
            with anyio.fail_after(5):
                await self.group.leave()
        except Exception as error:
            log.info("left without saying so", error=str(error))


def _dispatched(entry: Entry) -> JobDispatched | None:
    """The one event that a dispatch entry carries; None where it is anything else."""
    event = entry.messages[0].event if len(entry.messages) == 1 and not entry.faults else None
    return event if isinstance(event, JobDispatched) else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
