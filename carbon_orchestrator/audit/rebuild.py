"""Records, indexes and totals made anew from the events alone, in a Redis of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from carbon_orchestrator.audit.findings import Findings
from carbon_orchestrator.audit.histories import Histories, Job
from carbon_orchestrator.audit.reading import COMPLETIONS, DEFERRALS, EMISSIONS, JOBS, Reading
from carbon_orchestrator.audit.records import Kept
from carbon_orchestrator.audit.submissions import Refused, Submissions, Taken
from carbon_orchestrator.audit.sums import home
from carbon_orchestrator.audit.totals import Cut, Sums
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import JobStarted, JobSubmitted, Spec
from carbon_orchestrator.lifecycle import TERMINAL, State
from carbon_orchestrator.submission import rejected_spec
from carbon_orchestrator.topology import CODEC, Topology
from streams.event import Message
from streams.keys import Partition

_TOGETHER = 500
_PAGE = 1000


class NotEmpty(Exception):
    """There is something already where a deployment was to be rebuilt."""


async def check_empty(target: Redis, namespace: str | None) -> None:
    """Raises NotEmpty; with a namespace only that has to be empty."""
    if namespace is None:
        if count := int(await target.dbsize()):
            raise NotEmpty(f"holds {count} keys; name an empty Redis, or --into-namespace")
        return
    async for key in target.scan_iter(match=f"{namespace}:*", count=_PAGE):
        raise NotEmpty(f"its namespace {namespace} holds {key.decode(errors='replace')}")


class Builder:
    """Listens to histories and writes a job's record once it has ended, or at the end of all."""

    def __init__(self, reading: Reading, target: Redis, partition: Partition) -> None:
        configurations = reading.configurations
        routers = [each.config for each in configurations.of("router")][::-1]
        self._submissions = Submissions(routers, configurations.clocks)
        self._workers = configurations.workers
        self._target = target
        self.topology = Topology(partition, configurations.zones)
        kept = [seconds(each.config.retention.jobs) for each in configurations.of("router")]
        #: How long records of jobs that ended are kept, seconds.
        self.retention_s = round(max(kept, default=7 * 86_400))
        self._over: list[tuple[Job, int]] = []
        self._ran_by: dict[str, str] = {}
        self.ended_at = 0  # wall ms of the last event
        self.written = self.expired = 0

    # -- as a Listener -----------------------------------------------------------------------------

    def outcomes(self, message: Message, job_id: str) -> list[Taken | Refused]:
        return self._submissions.outcomes(message, job_id)

    def applied(self, job: Job, before: State | None, stream: str, message: Message) -> None:
        event = message.event
        kept = job.kept
        if kept is None:
            kept = job.kept = Kept()
        self.ended_at = message.at_ms
        if isinstance(event, JobSubmitted):
            self._submitted(job, kept, message)
            return
        if isinstance(event, JobStarted):
            self._ran_by[job.job_id] = event.worker
        assert job.state is not None
        worker = self._ran_by.get(job.job_id)
        config = None if worker is None else self._workers.get(worker)
        kept.apply(event, before, job.state, config)

    def _submitted(self, job: Job, kept: Kept, message: Message) -> None:
        event: JobSubmitted = message.event
        kept.fields["state"] = "submitted"
        for each in self._submissions.specs(message, job.job_id):
            if isinstance(each, Spec):
                kept.spec(each)
        at = event.submitted_at if event.submitted_at is not None else message.at_ms
        kept.refuse(rejected_spec(event, job.job_id, kept.submitted_at or at))

    def ended(self, job: Job) -> None:
        self._ran_by.pop(job.job_id, None)
        self._over.append((job, self.ended_at))

    # -- writing -----------------------------------------------------------------------------------

    async def write(self, *, all_of_them: bool = False) -> None:
        """The records of jobs that have ended."""
        if len(self._over) < _TOGETHER and not all_of_them:
            return
        over, self._over = self._over, []
        await self.write_jobs(over)

    async def write_jobs(self, jobs: Sequence[tuple[Job, int | None]]) -> None:
        """Records and places in indexes. With each: when it ended, wall ms, if it has; those that
        have expired since are left out."""
        now, topology = wall_ms(), self.topology
        async with self._target.pipeline(transaction=False) as pipeline:
            for job, ended_at in jobs:
                kept: Kept = job.kept
                if job.state is None or (job.state == "submitted" and job.outside):
                    continue  # who publishes without the gateway has no record before a decision
                key = topology.record(job.job_id)
                left = None
                if job.state in TERMINAL and ended_at is not None:
                    left = self.retention_s * 1000 - (now - ended_at)
                    if left <= 0:
                        self.expired += 1
                        continue
                self.written += 1
                fields: dict[Any, Any] = dict(kept.fields)
                pipeline.hset(key, mapping=fields)
                if left is not None:
                    pipeline.pexpire(key, left)
                pipeline.zadd(topology.index(job.state), {job.job_id: kept.score})
                if kept.wakes is not None:
                    pipeline.zadd(topology.wake, {job.job_id: kept.wakes})
                if job.state == "running" and kept.interruptible:
                    pipeline.zadd(topology.interruptible, {job.job_id: kept.submitted_at})
            await pipeline.execute()

    async def write_totals(self, sums: Sums) -> None:
        """Totals, their days, and run times."""
        async with self._target.pipeline(transaction=False) as pipeline:
            for key, fields in sums.hashes.items():
                there: dict[Any, Any] = {name: value for name, value in fields.items() if value}
                if there:
                    pipeline.hset(key, mapping=there)
            if sums.days:
                pipeline.zadd(self.topology.days, sums.days)
            await pipeline.execute()


async def rebuild(
    reading: Reading,
    target: Redis,
    partition: Partition,
    there: Cut | None,
    findings: Findings,
    tell: Callable[[int], None] = lambda count: None,
) -> tuple[Builder, Sums]:
    """Write what the record up to `reading.source.until` comes to. `there`: the totals that were
    read before and what had been counted in them; without it all is counted."""
    builder = Builder(reading, target, partition)
    histories = Histories(findings, builder, reading.identify)
    sums = Sums(builder.topology, home(reading))
    streams = [*JOBS, DEFERRALS, *await reading.dispatches(), COMPLETIONS, EMISSIONS]
    count = 0
    async for stream, entry_id, fields in reading.history.merged(
        streams, until=reading.source.until
    ):
        entry = CODEC.entry(stream, entry_id, fields)
        for message in entry.messages:
            histories.take(stream, message)
        if stream in (COMPLETIONS, EMISSIONS):
            given_up = not entry.faults and (stream, entry_id) in reading.buried
            counted = there is None or there.places[stream].done(entry_id)
            if counted and not given_up:
                sums.add(entry)
        await builder.write()
        count += 1
        if count % _PAGE == 0:
            tell(_PAGE)
    await builder.write(all_of_them=True)
    edge = await reading.edge([JOBS[1], DEFERRALS, COMPLETIONS, EMISSIONS])
    under_way = [job for job in histories.jobs.values() if job.state is not None]
    histories.finish(edge, reading.put_back)
    for start in range(0, len(under_way), _TOGETHER):
        await builder.write_jobs([(job, None) for job in under_way[start : start + _TOGETHER]])
    await builder.write_totals(sums)
    return builder, sums


async def moved_since(reading: Reading, until: str) -> set[str]:
    """Jobs about which something came after the id `until`."""
    moved: set[str] = set()
    for stream in [*JOBS, DEFERRALS, *await reading.dispatches(), COMPLETIONS, EMISSIONS]:
        async for page in reading.history.pages(stream, until):
            for entry_id, fields in page:
                for message in CODEC.entry(stream, entry_id, fields).messages:
                    moved.add(_job_of(reading, stream, message))
    return moved


def _job_of(reading: Reading, stream: str, message: Message) -> str:
    event: Any = message.event
    if isinstance(event, JobSubmitted):
        return reading.identify(stream, message)
    spec = getattr(event, "spec", None)
    return str(spec.job_id if spec is not None else getattr(event, "job_id", ""))
