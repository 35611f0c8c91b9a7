"""How many workers the pools need, by the scaler's own rules, for whoever else scales them."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Pool, ScalingMemory
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.deciding import Params, because, grid_state, need
from carbon_orchestrator.scaler.demand import Demand
from carbon_orchestrator.scaler.demands import Demands
from carbon_orchestrator.scaler.holding import Held
from carbon_orchestrator.topology import site

_KEPT_SECONDS = 1.0


class Needs:
    """Looks at a zone's pools when asked, at most once a second. The band that counts is what our
    scaler says while it holds a pool, else it is remembered here."""

    def __init__(self, runtime: Runtime, grids: Grids) -> None:
        self._runtime = runtime
        self._grids = grids
        self._redis = runtime.connect()
        self._memories: dict[tuple[Pool, str], ScalingMemory] = {}
        self._demands: dict[str, Fresh[dict[Pool, Demand]]] = {}
        for zone in dict.fromkeys(zone for _, zone in runtime.topology.sites):
            pools = [pool for pool, where in runtime.topology.sites if where == zone]
            demands = Demands(runtime, pools, zone)
            self._demands[zone] = Fresh(_KEPT_SECONDS, partial(self._read, demands))

    async def _read(self, demands: Demands) -> dict[Pool, Demand]:
        clock = self._runtime.clock
        ahead = clock.length(seconds(self._runtime.config.scaler.ahead))
        return await demands.read(clock.now(), ahead)

    async def show(self, request: web.Request) -> web.Response:
        """How many workers a pool needs, for an autoscaler."""
        places = {site(pool, zone): (pool, zone) for pool, zone in self._runtime.topology.sites}
        name = request.match_info["site"]
        if name not in places:
            return problem(404, "no-such-pool", f"no such pool; known: {', '.join(places)}")
        return answer({"site": name, **await self.of(*places[name])})

    async def of(self, pool: Pool, zone: str) -> dict[str, Any]:
        """One pool of a zone ("": home), as JSON."""
        demand = (await self._demands[zone].get())[pool]
        fields: Any = await self._redis.hgetall(self._runtime.topology.scaler(pool, zone))
        held = Held.parse(fields)
        memory = self._memories.get((pool, zone), held.memory)
        if held.until > wall_ms():
            memory = held.memory
        config, now = self._runtime.config, self._runtime.now()
        params = Params.of(config, pool, self._runtime.clock.speed)
        grid = grid_state(self._grids.zone(zone or config.zone).outlook())
        needed = need(params, grid, demand.backlog, demand.in_flight, now, memory)
        self._memories[pool, zone] = ScalingMemory(band=needed.band, band_since=needed.since)
        backlog = demand.backlog
        return {
            "running": demand.in_flight.jobs,
            "waiting": backlog.waiting,
            "soon": backlog.soon,
            "pressing": backlog.pressing + backlog.pressing_soon,
            "workers": max(needed.target, needed.busy),
            "reason": because(params, grid, backlog, demand.in_flight, now, needed),
        }
