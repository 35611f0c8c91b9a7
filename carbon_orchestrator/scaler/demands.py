"""What wants a pool in all partitions together: workers serve every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from carbon_orchestrator.events import Backlog, InFlight, Pool
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.demand import Demand, DemandReader


class Demands:
    """Reads the demand for some pools of a zone ("": home). One look at a time."""

    def __init__(self, runtime: Runtime, pools: Sequence[Pool], zone: str) -> None:
        live_ms = round(runtime.config.lease_s * 2000)
        self._readers = [
            DemandReader(each.connect(), each.topology, pools, zone, live_ms)
            for each in runtime.each()
        ]

    async def read(self, now: int, ahead: int) -> dict[Pool, Demand]:
        """As DemandReader's."""
        found = await asyncio.gather(*(each.read(now, ahead) for each in self._readers))
        return {pool: together([each[pool] for each in found]) for pool in found[0]}


def together(demands: Sequence[Demand]) -> Demand:
    """The demand that these are in sum; a worker that is busy in several counts once."""
    if len(demands) == 1:
        return demands[0]
    backlogs = [each.backlog for each in demands]
    busy = frozenset(name for each in demands for name in each.busy)
    return Demand(
        Backlog(
            waiting=sum(each.waiting for each in backlogs),
            soon=sum(each.soon for each in backlogs),
            pressing=sum(each.pressing for each in backlogs),
            pressing_soon=sum(each.pressing_soon for each in backlogs),
            pace=sum(each.pace for each in backlogs),
        ),
        InFlight(jobs=sum(each.in_flight.jobs for each in demands), workers=len(busy)),
        busy,
    )
