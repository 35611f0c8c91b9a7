"""The pools over HTTP: who works in them, what they do, and how large they should be."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.events import Pool, PoolScaled
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.gateway.problems import answer
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC, WORKER, site

_KEPT_SECONDS = 1.0
#: Entries of `scaling` among which the last change of each pool is looked for.
_CHANGES = 500


class PoolState(msgspec.Struct, frozen=True):
    """A site's live workers by name, with their slots, its jobs, and how it was last sized.
    `waiting` is None where the server cannot tell."""

    pool: Pool
    zone: str
    names: frozenset[str]
    slots: int
    running: int
    waiting: int | None
    sized: PoolScaled | None

    @property
    def site(self) -> str:
        return site(self.pool, self.zone)

    @property
    def workers(self) -> int:
        return len(self.names)

    def beside(self, other: PoolState) -> PoolState:
        """The same pool in this one's and the other's partition; a worker that is in both is one
        worker."""
        waiting = self.waiting, other.waiting
        return PoolState(
            pool=self.pool,
            zone=self.zone,
            names=self.names | other.names,
            slots=self.slots + other.slots,
            running=self.running + other.running,
            waiting=None if None in waiting else sum(each or 0 for each in waiting),
            sized=self.sized or other.sized,
        )

    def json(self) -> dict[str, Any]:
        sized = self.sized
        return {
            "site": self.site,
            "pool": self.pool,
            "zone": self.zone or None,
            "workers": self.workers,
            "slots": self.slots,
            "running": self.running,
            "waiting": self.waiting,
            "sized": None
            if sized is None
            else {
                "workers": sized.replicas,
                "reason": sized.reason,
                "at": rfc3339(sized.at),
            },
        }


class Pools:
    """What is asked of the pools."""

    def __init__(self, runtime: Runtime, reading: Reading) -> None:
        self._runtime = runtime
        self._reading = reading
        self._redis = runtime.connect()
        self.states = Fresh(_KEPT_SECONDS, self._look)

    async def show_all(self, request: web.Request) -> web.Response:
        """Every pool of every zone."""
        return answer({"pools": [each.json() for each in await self.states.get()]})

    async def _look(self) -> list[PoolState]:
        topology = self._runtime.topology
        # A worker says that it is there several times a lease.
        since = wall_ms() - round(self._runtime.config.lease_s * 2000)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for pool, zone in topology.sites:
                pipeline.zrangebyscore(topology.workers(pool, zone), since, "+inf")
            for lane in topology.groups[WORKER]:
                pipeline.xlen(lane)
            pipeline.xrevrange(topology.scaling, count=_CHANGES)
            *rows, changes = await pipeline.execute()
        offers, lengths = rows[: len(topology.sites)], rows[len(topology.sites) :]
        groups = {each.stream: each for each in await self._reading.groups()}
        # Where no worker has ever been, there is no group, and all that is there waits.
        waiting: dict[str, int | None] = dict(zip(topology.groups[WORKER], lengths, strict=True))
        waiting |= {stream: each.lag for stream, each in groups.items() if stream in waiting}
        sized = _sized(topology.scaling, changes)
        states = []
        for (pool, zone), workers in zip(topology.sites, offers, strict=True):
            lanes = topology.dispatch_lanes(pool, zone)
            lags = [waiting[lane] for lane in lanes]
            states.append(
                PoolState(
                    pool=pool,
                    zone=zone,
                    names=frozenset(each.rpartition(b":")[0].decode() for each in workers),
                    slots=sum(int(each.rpartition(b":")[2]) for each in workers),
                    running=sum(groups[lane].pending for lane in lanes if lane in groups),
                    waiting=None if None in lags else sum(lag or 0 for lag in lags),
                    sized=sized.get(site(pool, zone)),
                )
            )
        return states


def _sized(stream: str, newest_first: list[Any]) -> dict[str, PoolScaled]:
    """The last change of each site that is among these entries."""
    found: dict[str, PoolScaled] = {}
    for entry_id, fields in newest_first:
        for message in reversed(CODEC.entry(stream, entry_id.decode(), tuple(fields)).messages):
            if isinstance(message.event, PoolScaled):
                found.setdefault(site(message.event.pool, message.event.zone or ""), message.event)
    return found
