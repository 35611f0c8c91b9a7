"""Looks for jobs that are likely to miss their deadlines, through so many at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import JobDispatched, Spec
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.gateway.deployment.pools import PoolState
from carbon_orchestrator.gateway.deployment.risk import InLine, Risk, in_pool, overdue, undecided
from carbon_orchestrator.router.expectation import longest
from carbon_orchestrator.router.waiting import Plan
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC, WORKER
from streams.event import entry_order
from streams.inspection import stream_groups
from streams.scripts import GATHER

_KEPT_SECONDS = 5.0
#: Of each lane's running and of its waiting jobs, of the deferred and of the undecided ones.
_MOST = 100
_EXAMPLES = 5
_spec = msgspec.json.Decoder(Spec)
_plan = msgspec.json.Decoder(Plan)


class _Lane(NamedTuple):
    """Jobs of a lane that workers have, and those behind them; whether these are all."""

    taken: list[JobDispatched]
    waiting: list[JobDispatched]
    whole: bool


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
        pools = await self._pools.get()
        for pool, (jobs, whole) in zip(pools, await self._in_pools(pools), strict=True):
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

    async def _in_pools(self, pools: Sequence[PoolState]) -> list[tuple[list[InLine], bool]]:
        """Of each pool the jobs that run and then those that wait; whether these are all."""
        topology = self._runtime.topology
        lanes = [topology.dispatch_lanes(pool.pool, pool.zone) for pool in pools]
        entries = await self._entries([lane for each in lanes for lane in each])
        taken = [[event for lane in each for event in entries[lane].taken] for each in lanes]
        waiting = [[event for lane in each for event in entries[lane].waiting] for each in lanes]
        lined = [event for each in (*taken, *waiting) for event in each]
        standing = await self._standing([event.spec.job_id for event in lined])
        found = []
        for each, begun, queued in zip(lanes, taken, waiting, strict=True):
            jobs = [InLine.of(event, standing.get(event.spec.job_id)) for event in begun]
            jobs += [InLine.of(event, None) for event in queued]
            there = [job for job in jobs if job.job_id in standing]
            # Whoever has been taken and has not begun is the next to begin.
            there.sort(key=lambda job: job.started_at is None)
            found.append((there, all(entries[lane].whole for lane in each)))
        return found

    async def _entries(self, lanes: Sequence[str]) -> dict[str, _Lane]:
        """What is in each lane: what workers have, and what is behind that."""
        delivered = {
            lane: group["last-delivered-id"].decode()
            for lane, groups in zip(lanes, await stream_groups(self._redis, *lanes), strict=True)
            for group in groups
            if group["name"] == WORKER.encode()
        }
        async with self._redis.pipeline(transaction=False) as pipeline:
            for lane, last in delivered.items():
                pipeline.execute_command("XPENDING", lane, WORKER, "-", "+", _MOST + 1)
                pipeline.execute_command("XRANGE", lane, f"({last}", "+", "COUNT", _MOST + 1)
            rows = await pipeline.execute()
        pending = dict(zip(delivered, rows[::2], strict=True))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for lane, held in pending.items():
                for entry_id, *_ in held[:_MOST]:
                    pipeline.execute_command("XRANGE", lane, entry_id, entry_id)
            entries = iter(await pipeline.execute())
        lined = dict.fromkeys(lanes, _Lane([], [], True))
        for (lane, held), behind in zip(pending.items(), rows[1::2], strict=True):
            taken = [entry for _ in held[:_MOST] for entry in next(entries)]
            lined[lane] = _Lane(
                _events(lane, taken),
                _events(lane, behind[:_MOST]),
                max(len(held), len(behind)) <= _MOST,
            )
        return lined

    async def _standing(self, job_ids: Sequence[str]) -> dict[str, int | None]:
        """Those that are dispatched or run still, with when their current attempts began."""
        keys = [self._runtime.topology.record(each) for each in job_ids]
        rows = await GATHER(self._redis, keys, ["state", "attempt"]) if keys else []
        standing: dict[str, int | None] = {}
        running = []
        for job_id, key, (state, attempt) in zip(job_ids, keys, rows, strict=True):
            if state in (b"running", b"dispatched"):
                standing[job_id] = None
            if state == b"running":
                running.append((job_id, key, int(attempt or 0)))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for _, key, attempt in running:
                pipeline.hget(key, f"{attempt}.started")
            started = await pipeline.execute()
        for (job_id, _, _), raw in zip(running, started, strict=True):
            if raw is not None:
                standing[job_id] = int(msgspec.json.decode(raw)["at"])
        return standing

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
