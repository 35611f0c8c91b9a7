"""Looks for jobs that are likely to miss their deadlines, through so many at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import JobDispatched, Pool, Spec
from carbon_orchestrator.gateway.fresh import Fresh
from carbon_orchestrator.gateway.pools import PoolState
from carbon_orchestrator.gateway.risk import InLine, Risk, in_pool, overdue, undecided
from carbon_orchestrator.router.expectation import longest
from carbon_orchestrator.router.waiting import Plan
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC, WORKER
from streams.event import entry_order
from streams.scripts import GATHER

_KEPT_SECONDS = 5.0
#: Of each lane's running and of its waiting jobs, of the deferred and of the undecided ones.
_MOST = 100
_EXAMPLES = 5
_spec = msgspec.json.Decoder(Spec)
_plan = msgspec.json.Decoder(Plan)


class Deadlines:
    """Examines what runs and what stands first in each pool's lanes, deferred jobs whose planned
    start has come, and the oldest jobs that no router has decided about. Every other deferred job
    has a plan that keeps its deadline."""

    def __init__(self, runtime: Runtime, pools: Fresh[list[PoolState]]) -> None:
        self._runtime = runtime
        self._pools = pools
        self._redis = runtime.connect()
        self.at_risk = Fresh(_KEPT_SECONDS, self._examine)

    async def _examine(self) -> dict[str, Any]:
        """As JSON; `complete`: there were no more of them than were examined."""
        now = self._runtime.now()
        risks: list[Risk] = []
        examined, complete = 0, True
        for pool in await self._pools.get():
            jobs, whole = await self._in_pool(pool.pool, pool.zone)
            risks += in_pool(jobs, pool.site, pool.slots, now)
            examined, complete = examined + len(jobs), complete and whole
        for look in (self._deferred, self._submitted):
            found, number = await look(now)
            risks += found
            examined, complete = examined + min(number, _MOST), complete and number <= _MOST
        risks.sort(key=lambda each: (each.deadline, each.job_id))
        return {
            "jobs": len(risks),
            "examined": examined,
            "complete": complete,
            "examples": [each.json() for each in risks[:_EXAMPLES]],
        }

    # -- in the pools ------------------------------------------------------------------------------

    async def _in_pool(self, pool: Pool, zone: str) -> tuple[list[InLine], bool]:
        """The jobs that run in a pool and then those that wait; whether these are all."""
        taken: list[JobDispatched] = []
        waiting: list[JobDispatched] = []
        whole = True
        for lane in self._runtime.topology.dispatch_lanes(pool, zone):
            for into, entries in zip((taken, waiting), await self._lane(lane), strict=True):
                whole = whole and len(entries) <= _MOST
                into += _events(lane, entries[:_MOST])
        running = await self._started(taken)
        jobs = [InLine.of(each, running.get(each.spec.job_id)) for each in taken]
        jobs += [InLine.of(each, None) for each in waiting]
        states = await self._states([job.job_id for job in jobs])
        there = [job for job in jobs if states[job.job_id] in (b"running", b"dispatched")]
        # Whoever has been taken and has not begun is the next to begin.
        return sorted(there, key=lambda job: job.started_at is None), whole

    async def _lane(self, lane: str) -> tuple[list[Any], list[Any]]:
        """Entries of a lane that workers have, and those behind them; one over _MOST at most."""
        groups = await self._groups(lane)
        if groups is None:
            return [], []
        pending: Any = await self._redis.execute_command(
            "XPENDING", lane, WORKER, "-", "+", _MOST + 1
        )
        async with self._redis.pipeline(transaction=False) as pipeline:
            for entry_id, *_ in pending:
                pipeline.execute_command("XRANGE", lane, entry_id, entry_id)
            rows = await pipeline.execute() if pending else []
        after = f"({groups['last-delivered-id'].decode()}"
        waiting: Any = await self._redis.execute_command(
            "XRANGE", lane, after, "+", "COUNT", _MOST + 1
        )
        return [entry for row in rows for entry in row], waiting

    async def _groups(self, lane: str) -> Any:
        """The state of the workers' group of a lane; None where there is none yet."""
        if not await self._redis.exists(lane):
            return None
        groups = await self._redis.xinfo_groups(lane)
        return next((each for each in groups if each["name"] == WORKER.encode()), None)

    async def _started(self, events: Sequence[JobDispatched]) -> dict[str, int]:
        """When the current attempts of these jobs began, of those that run."""
        keys = [self._runtime.topology.record(each.spec.job_id) for each in events]
        found: dict[str, int] = {}
        rows = await GATHER(self._redis, keys, ["state", "attempt"]) if keys else []
        running = [
            (event.spec.job_id, key, int(attempt or 0))
            for event, key, (state, attempt) in zip(events, keys, rows, strict=True)
            if state == b"running"
        ]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for _, key, attempt in running:
                pipeline.hget(key, f"{attempt}.started")
            started = await pipeline.execute() if running else []
        for (job_id, _, _), raw in zip(running, started, strict=True):
            if raw is not None:
                found[job_id] = int(msgspec.json.decode(raw)["at"])
        return found

    async def _states(self, job_ids: Sequence[str]) -> dict[str, bytes | None]:
        keys = [self._runtime.topology.record(each) for each in job_ids]
        rows = await GATHER(self._redis, keys, ["state"]) if keys else []
        return {job_id: state for job_id, (state,) in zip(job_ids, rows, strict=True)}

    # -- before the pools --------------------------------------------------------------------------

    async def _deferred(self, now: int) -> tuple[list[Risk], int]:
        """Of the deferred jobs whose planned start has come; how many these are, up to one over
        _MOST."""
        topology = self._runtime.topology
        ids: Any = await self._redis.zrange(
            topology.wake, "-inf", now, byscore=True, offset=0, num=_MOST + 1
        )
        margin = self._runtime.clock.length(seconds(self._runtime.config.margin))
        found = []
        for job_id, (spec, plan) in await self._gathered(ids[:_MOST], ["spec", "plan"]):
            job, latest = _spec.decode(spec), _plan.decode(plan).latest_start
            if job.deadline is not None and latest is not None:
                found.append(overdue(job_id, job.type, job.deadline, latest, margin, now))
        return [each for each in found if each is not None], len(ids)

    async def _submitted(self, now: int) -> tuple[list[Risk], int]:
        """Likewise of the oldest jobs that no router has decided about."""
        ids: Any = await self._redis.zrange(self._runtime.topology.index("submitted"), 0, _MOST)
        found = []
        for job_id, (spec,) in await self._gathered(ids[:_MOST], ["spec"]):
            job = _spec.decode(spec)
            if job.deadline is not None:
                run = longest(job, "fast", self._runtime.config, {}) / 1000
                length = self._runtime.clock.length(run)
                found.append(undecided(job_id, job.type, job.deadline, length, now))
        return [each for each in found if each is not None], len(ids)

    async def _gathered(
        self, ids: Sequence[bytes], fields: list[str]
    ) -> list[tuple[str, list[bytes]]]:
        """These fields of the records that have them all."""
        names = [each.decode() for each in ids]
        keys = [self._runtime.topology.record(each) for each in names]
        rows = await GATHER(self._redis, keys, fields) if keys else []
        return [
            (name, [each for each in row if each is not None])
            for name, row in zip(names, rows, strict=True)
            if None not in row
        ]


def _events(lane: str, entries: Sequence[Any]) -> list[JobDispatched]:
    ordered = sorted(entries, key=lambda entry: entry_order(entry[0].decode()))
    return [
        message.event
        for entry_id, fields in ordered
        for message in CODEC.entry(lane, entry_id.decode(), tuple(fields)).messages
        if isinstance(message.event, JobDispatched)
    ]
