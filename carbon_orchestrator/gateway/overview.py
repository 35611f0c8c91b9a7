"""The deployment at a glance: what it emits and avoids, what waits, and what may go wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from carbon_orchestrator.accounting.report import report, simulated
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import POOLS, JobCompleted
from carbon_orchestrator.gateway.deadlines import Deadlines
from carbon_orchestrator.gateway.fresh import Fresh
from carbon_orchestrator.gateway.grids import Grids
from carbon_orchestrator.gateway.pools import Pools
from carbon_orchestrator.gateway.problems import answer
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.lifecycle import STATES, WAITING
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC

BASELINE = "the same jobs run at once, on FAST, in the home zone"
_KEPT_SECONDS = 1.0
_SOURCES_SECONDS = 30.0
_MINUTE_MS = 60_000
#: Entries of `completions` from which a rate is made.
_ENTRIES = 100


class Overview:
    """Found at most once a second, however many ask."""

    def __init__(self, runtime: Runtime, reading: Reading, grids: Grids, pools: Pools) -> None:
        self._runtime = runtime
        self._reading = reading
        self._grids = grids
        self._pools = pools
        self._deadlines = Deadlines(runtime, pools.states)
        self._redis = runtime.connect()
        self._found = Fresh(_KEPT_SECONDS, self._look)
        self._simulated = Fresh(_SOURCES_SECONDS, self._made_up)

    async def show(self, request: web.Request) -> web.Response:
        """All of it."""
        return answer(await self._found.get())

    async def _look(self) -> dict[str, Any]:
        now = self._runtime.now()
        counts = await self._reading.counts()
        running = dict.fromkeys(POOLS, 0)
        for each in await self._pools.states.get():
            running[each.pool] += each.running
        return {
            "now": rfc3339(now),
            "emissions": await self._emissions(),
            "jobs": counts,
            "running": running,
            "waiting": sum(counts[state] for state in WAITING),
            "oldest_wait": await self._oldest_wait(now),
            "dead_letters": await self._reading.dead_letters(),
            "deadline_risk": await self._deadlines.at_risk.get(),
            "rates": await self._rates(now),
        }

    # -- emissions -------------------------------------------------------------------------------

    async def _emissions(self) -> dict[str, Any]:
        sums: Counter[str] = Counter()
        for field, value in (await self._reading.ever()).items():
            sums[field.decode().partition("|")[0]] += int(value)
        days: Any = await self._redis.zrange(self._runtime.topology.days, 0, 0)
        emitted = sums["emissions_ug"] + sums["restated_ug"]
        baseline = sums["baseline_ug"] + sums["baseline_restated_ug"]
        latest = self._grids.home.latest
        return {
            "emitted_ug": emitted,
            "baseline_ug": baseline,
            "avoided_ug": baseline - emitted,
            "energy_mj": sums["energy_mj"],
            "since": days[0].decode() if days else None,
            "baseline": BASELINE,
            "simulated": await self._simulated.get() or (latest is not None and latest.simulated),
        }

    async def _made_up(self) -> bool:
        """Whether what was emitted on the last day that has totals rests on a simulated grid."""
        topology = self._runtime.topology
        days: Any = await self._redis.zrange(topology.days, -1, -1)
        if not days:
            return False
        day = days[0].decode()
        totals: Any = await self._redis.hgetall(topology.totals(day))
        return simulated(report({day: totals}, ()))

    # -- jobs --------------------------------------------------------------------------------------

    async def _oldest_wait(self, now: int) -> dict[str, Any] | None:
        """The job that was submitted first of those that wait to be run."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for state in WAITING:
                pipeline.zrange(self._runtime.topology.index(state), 0, 0, withscores=True)
            rows: Any = await pipeline.execute()
        first = [
            (int(score), job_id.decode(), state)
            for state, row in zip(WAITING, rows, strict=True)
            for job_id, score in row
        ]
        if not first:
            return None
        submitted_at, job_id, state = min(first)
        return {
            "id": job_id,
            "state": state,
            "submitted_at": rfc3339(submitted_at),
            "waits_ms": max(0, now - submitted_at),
        }

    async def _rates(self, now: int) -> dict[str, float]:
        """Jobs a minute of wall time: those on record that were submitted within the last one,
        and those completed, by the last entries that say so if there are many."""
        topology, clock = self._runtime.topology, self._runtime.clock
        async with self._redis.pipeline(transaction=False) as pipeline:
            for state in STATES:
                pipeline.zcount(topology.index(state), now - clock.length(60), "+inf")
            pipeline.xrevrange(
                topology.completions, min=clock.wall(now) - _MINUTE_MS, count=_ENTRIES
            )
            *submitted, entries = await pipeline.execute()
        completed, span = 0, _MINUTE_MS
        for entry_id, fields in entries:
            messages = CODEC.entry(topology.completions, entry_id.decode(), tuple(fields)).messages
            completed += sum(isinstance(each.event, JobCompleted) for each in messages)
        if len(entries) == _ENTRIES:
            oldest = int(entries[-1][0].partition(b"-")[0])
            span = max(1, clock.wall(now) - oldest)
        return {
            "submitted_per_min": float(sum(submitted)),
            "completed_per_min": round(completed * _MINUTE_MS / span, 1),
        }
