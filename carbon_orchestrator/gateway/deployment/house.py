"""The state of the house over HTTP: health and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from carbon_orchestrator import __version__
from carbon_orchestrator.gateway.deployment.metrics import CONTENT_TYPE, Metrics
from carbon_orchestrator.gateway.door.connections import Connections
from carbon_orchestrator.gateway.door.guard import caller
from carbon_orchestrator.gateway.grid.carbon import Carbon
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.problems import answer
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.gateway.routes import ROUTES
from carbon_orchestrator.letters import name_of
from carbon_orchestrator.runtime import Runtime
from streams.inspection import GroupState

if TYPE_CHECKING:
    from carbon_orchestrator.contract.documents import Name

_TOLD_SECONDS = 1.0


@cache
def _contract(name: Name) -> bytes:
    # Made when it is first asked for: it takes some ms and some memory.
    from carbon_orchestrator.contract.documents import text

    return text(name).encode()


class House:
    """What is asked of the deployment as a whole."""

    def __init__(
        self,
        runtime: Runtime,
        reading: Reading,
        grids: Grids,
        carbon: Carbon,
        metrics: Metrics,
        connections: Connections,
    ) -> None:
        self._runtime = runtime
        self._reading = reading
        self._grids = grids
        self._carbon = carbon
        self._metrics = metrics
        self._connections = connections
        self._told = (-_TOLD_SECONDS, "")

    async def index(self, request: web.Request) -> web.Response:
        """What there is to see."""
        see = sorted({each.path for each in ROUTES if "{" not in each.path and each.path != "/"})
        index = {"name": "carbon-orchestrator", "version": __version__, "see": see}
        return answer(index, headers={"Vary": "Accept"})

    async def contract(self, name: Name, request: web.Request) -> web.Response:
        """A document of the contract."""
        return web.Response(body=_contract(name), content_type="application/json")

    async def livez(self, request: web.Request) -> web.Response:
        """That this process answers."""
        return answer({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """That the stream server answers, too."""
        await self._reading.counts()
        return answer({"status": "ok"})

    async def health(self, request: web.Request) -> web.Response:
        """Whether all is well; for those who may read all there is, with what is not."""
        asking = caller(request)
        if asking.may("read") and asking.project is None:
            return answer(await self._state())
        then, status = self._told
        if time.monotonic() - then > _TOLD_SECONDS:  # strangers do not make the server work
            status = (await self._state())["status"]
        return answer({"status": status})

    async def _state(self) -> dict[str, Any]:
        counts, groups = await self._reading.counts(), await self._reading.groups()
        missing = self._reading.unserved(groups)
        if missing:
            asleep = await self._reading.asleep()
            missing = [role for role in missing if role not in asleep]
        grid = await self._carbon.view()
        grid.pop("forecast", None)
        status = "degraded" if missing or grid["signal"] == "none" else "ok"
        self._told = time.monotonic(), status
        return {
            "status": status,
            "version": __version__,
            "no_consumers": missing,
            "jobs": counts,
            "dead_letters": await self._reading.dead_letters(),
            "carbon": grid,
            "streams": [
                {
                    "stream": each.stream,
                    "group": each.group,
                    "lag": each.lag,
                    "pending": each.pending,
                    "live_consumers": each.live,
                }
                for each in by_name(groups)
            ],
        }

    async def types(self, request: web.Request) -> web.Response:
        """What may be submitted."""
        types = self._runtime.config.types
        shown = [{"name": name, "description": types[name].description} for name in sorted(types)]
        return answer({"types": shown})

    async def metrics(self, request: web.Request) -> web.Response:
        """For Prometheus."""
        metrics = self._metrics
        for state, count in (await self._reading.counts()).items():
            metrics.jobs.labels(state).set(count)
        for each in by_name(await self._reading.groups()):
            labels = each.stream, each.group
            metrics.pending.labels(*labels).set(each.pending)
            metrics.consumers.labels(*labels).set(each.live)
            if each.lag is not None:
                metrics.lag.labels(*labels).set(each.lag)
        for latest in self._grids.latest:
            labels3 = (latest.zone, latest.kind, str(latest.simulated).lower())
            metrics.intensity.labels(*labels3).set(latest.intensity)
        metrics.emissions.sums = await self._reading.ever()
        metrics.connections.set(len(self._connections))
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def by_name(groups: Iterable[GroupState]) -> list[GroupState]:
    """The groups with their streams' names instead of keys; those of several partitions as one,
    with as many consumers as there are where there are fewest."""
    found: dict[tuple[str, str], GroupState] = {}
    for each in groups:
        name = name_of(each.stream)
        here = msgspec.structs.replace(each, stream=name)
        other = found.get((name, each.group), here)
        if other is not here:
            lags = here.lag, other.lag
            here = GroupState(
                name,
                each.group,
                None if None in lags else sum(lag or 0 for lag in lags),
                here.pending + other.pending,
                min(here.consumers, other.consumers),
                min(here.live, other.live),
            )
        found[name, each.group] = here
    return list(found.values())
