"""The deployment at a glance: what it emits and avoids, what waits, and what may go wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from carbon_orchestrator.accounting.report import report, simulated
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import POOLS, JobCompleted
from carbon_orchestrator.gateway.deployment.deadlines import Deadlines
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.gateway.deployment.pools import Pools
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.problems import answer
from carbon_orchestrator.lifecycle import STATES, WAITING
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC

BASELINE = "the same jobs run at once, on FAST, in the home zone"
_KEPT_SECONDS = 1.0
_SOURCES_SECONDS = 30.0
_MINUTE_MS = 60_000
#: Entries of `completions` from which a rate is made.
_ENTRIES = 100


class _Read(NamedTuple):
    """What the server told at one time. `submitted`: jobs of the last minute; `first`: of each
    state that has jobs, the one submitted first, with when; `completions`: entries, newest first.
    """

    counts: dict[str, int]
    submitted: int
    first: dict[str, tuple[int, str]]
    sums: Mapping[bytes, bytes]
    since: str | None
    dead_letters: int
    completions: list[Any]


class Overview:
    """Found at most once a second, however many ask."""

    def __init__(self, runtime: Runtime, grids: Grids, pools: Pools) -> None:
        self._runtime = runtime
        self._grids = grids
        self._pools = pools
        self._deadlines = Deadlines(runtime, pools.states)
        self._redis = runtime.connect()
        self.found = Fresh(_KEPT_SECONDS, self._look)
        self._simulated = Fresh(_SOURCES_SECONDS, self._made_up)

    async def show(self, request: web.Request) -> web.Response:
        """All of it."""
        return answer(await self.found.get())

    async def _look(self) -> dict[str, Any]:
        now = self._runtime.now()
        pools = await self._pools.states.get()
        read = await self._read(now)
        running = dict.fromkeys(POOLS, 0)
        for each in pools:
            running[each.pool] += each.running
        return {
            "now": rfc3339(now),
            "emissions": await self._emissions(read),
            "jobs": read.counts,
            "running": running,
            "waiting": sum(read.counts[state] for state in WAITING),
            "oldest_wait": _oldest_wait(read, now),
            "dead_letters": read.dead_letters,
            "deadline_risk": await self._deadlines.at_risk.get(),
            "rates": self._rates(read, now),
        }

    async def _read(self, now: int) -> _Read:
        """All of it that a few commands tell, in one round trip."""
        topology, clock = self._runtime.topology, self._runtime.clock
        async with self._redis.pipeline(transaction=False) as pipeline:
            for index in map(topology.index, STATES):
                pipeline.zcard(index)
                pipeline.zcount(index, now - clock.length(60), "+inf")
                pipeline.zrange(index, 0, 0, withscores=True)
            pipeline.hgetall(topology.ever)
            pipeline.zrange(topology.days, 0, 0)
            pipeline.xlen(topology.dead_letters)
            pipeline.xrevrange(
                topology.completions, min=clock.wall(now) - _MINUTE_MS, count=_ENTRIES
            )
            *by_state, sums, days, letters, entries = await pipeline.execute()
        counts, recent, first = by_state[::3], by_state[1::3], by_state[2::3]
        return _Read(
            counts=dict(zip(STATES, counts, strict=True)),
            submitted=sum(recent),
            first={
                state: (int(score), job_id.decode())
                for state, row in zip(STATES, first, strict=True)
                for job_id, score in row
            },
            sums=sums,
            since=days[0].decode() if days else None,
            dead_letters=letters,
            completions=entries,
        )

    # -- emissions -------------------------------------------------------------------------------

    async def _emissions(self, read: _Read) -> dict[str, Any]:
        sums: Counter[str] = Counter()
        for field, value in read.sums.items():
            sums[field.decode().partition("|")[0]] += int(value)
        emitted = sums["emissions_ug"] + sums["restated_ug"]
        baseline = sums["baseline_ug"] + sums["baseline_restated_ug"]
        latest = self._grids.home.latest
        return {
            "emitted_ug": emitted,
            "baseline_ug": baseline,
            "avoided_ug": baseline - emitted,
            "energy_mj": sums["energy_mj"],
            "since": read.since,
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

    def _rates(self, read: _Read, now: int) -> dict[str, float]:
        """Jobs a minute of wall time: those on record that were submitted within the last one,
        and those completed, by the last entries that say so if there are many."""
        entries, stream = read.completions, self._runtime.topology.completions
        completed, span = 0, _MINUTE_MS
        for entry_id, fields in entries:
            messages = CODEC.entry(stream, entry_id.decode(), tuple(fields)).messages
            completed += sum(isinstance(each.event, JobCompleted) for each in messages)
        if len(entries) == _ENTRIES:
            oldest = int(entries[-1][0].partition(b"-")[0])
            span = max(1, self._runtime.clock.wall(now) - oldest)
        return {
            "submitted_per_min": float(read.submitted),
            "completed_per_min": round(completed * _MINUTE_MS / span, 1),
        }


def _oldest_wait(read: _Read, now: int) -> dict[str, Any] | None:
    """The job that was submitted first of those that wait to be run."""
    first = [(*read.first[state], state) for state in WAITING if state in read.first]
    if not first:
        return None
    submitted_at, job_id, state = min(first)
    return {
        "id": job_id,
        "state": state,
        "submitted_at": rfc3339(submitted_at),
        "waits_ms": max(0, now - submitted_at),
    }
