"""What would be decided about a job now: the router's own reckoning on what the gateway knows."""

from __future__ import annotations

from typing import Any

from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.events import POOLS, Spec
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.router.books import Books
from carbon_orchestrator.router.learning import read_run_times
from carbon_orchestrator.router.policy import Defer
from carbon_orchestrator.router.routing import Known, Routing
from carbon_orchestrator.router.sites import Sites
from carbon_orchestrator.runtime import Runtime


class Preview:
    """Decides, and keeps nothing. It cannot know what other jobs will have come until a router
    decides about this one, nor an intensity event that is under way; and the router goes on
    deciding at each further event for as long as the job waits."""

    def __init__(self, runtime: Runtime, grids: Grids) -> None:
        self._runtime = runtime
        self._grids = grids
        self._redis = runtime.connect()
        self._routing = Routing(runtime.topology, runtime.config)
        self._pools = {runtime.config.zone: POOLS, **runtime.config.site_pools}

    async def of(self, spec: Spec) -> dict[str, Any]:
        """The decision as JSON; intensities in gCO2e/kWh, null where none is known."""
        answer, decision = self._routing.decide(spec, await self._known())
        zone = decision.zone or self._runtime.config.zone
        grid = self._grids.zone(zone)
        latest, outlook = grid.latest, grid.outlook()
        usable = latest is not None and outlook.band_at(decision.at) is not None
        length = decision.fast_ms if decision.pool == "fast" else decision.eco_ms
        mean = decision.fast_mean_ms if decision.pool == "fast" else decision.eco_mean_ms
        start = decision.start
        shown = {
            "would": "defer" if isinstance(answer, Defer) else "dispatch",
            "type": spec.type,
            "urgency": spec.urgency,
            "project": spec.project,
            "pool": decision.pool,
            "zone": zone,
            "submitted_at": rfc3339(spec.submitted_at),
            "start": rfc3339(start),
            "latest_start": None
            if decision.latest_start is None
            else rfc3339(max(0, decision.latest_start)),
            "deadline": None if spec.deadline is None else rfc3339(spec.deadline),
            "expected_ms": mean or length,
            "longest_ms": length,
            "intensity": decision.intensity,
            "band": decision.band,
            "policy": decision.policy,
            "reason": decision.reason,
            "simulated": None if latest is None else latest.simulated,
        }
        if usable:
            expected = outlook.ahead.mean(start, start + max(mean or length, 1))
            shown["expected_intensity"] = expected
        return shown

    async def _known(self) -> Known:
        runtime = self._runtime
        books = Books(runtime)
        if self._routing.policy.forecasts:
            await books.read(self._redis)
        learned = await read_run_times(self._redis, runtime.topology, runtime.config)
        outlooks = {name: self._grids.zone(name).outlook() for name in self._grids.zones}
        sites = Sites(outlooks, self._pools, books.ledgers or None)
        return Known(sites, learned, runtime.now(), runtime.clock.speed)
