"""What the gateway does about one partition, as if there were no other."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import anyio

from carbon_orchestrator.gateway.deployment.overview import Overview
from carbon_orchestrator.gateway.deployment.pools import Pools
from carbon_orchestrator.gateway.grid.grids import Grids
from carbon_orchestrator.gateway.grid.past_starts import PastStarts
from carbon_orchestrator.gateway.grid.planned_starts import PlannedStarts
from carbon_orchestrator.gateway.intake.held import Held
from carbon_orchestrator.gateway.intake.room import Room
from carbon_orchestrator.gateway.intake.traced_submitting import submitting_of
from carbon_orchestrator.gateway.live.feeds import Source
from carbon_orchestrator.gateway.live.projects import Projects
from carbon_orchestrator.gateway.lookup.job_events import JobEvents
from carbon_orchestrator.gateway.lookup.jobs import Jobs
from carbon_orchestrator.gateway.lookup.listing import Listing
from carbon_orchestrator.gateway.lookup.logs import Logs
from carbon_orchestrator.gateway.lookup.running import Running
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.letters import Letters
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import WORKER

_PATIENCE_SECONDS = 5.0


class Part:
    """`archive`: the archive's directory."""

    def __init__(self, runtime: Runtime, grids: Grids, archive: Path) -> None:
        config, topology, limits = runtime.config, runtime.topology, runtime.config.limits
        committer = runtime.committer(
            _PATIENCE_SECONDS, replicas=1 if config.durability == "replica" else 0
        )
        self.runtime = runtime
        self.number = topology.partition.number
        self.reading = Reading(runtime.connect(), topology)
        self._held = Held(
            runtime.connect(), topology, max(1, int(limits.max_waiting * limits.share))
        )
        asking = runtime.connect()
        self.running = Running(runtime, asking)
        self.jobs = Jobs(runtime, self.reading, committer, self._held, self.running)
        self.listing = Listing(asking, topology, self.running)
        self.logs = Logs(runtime, asking, self.jobs)
        self.room = Room(self.reading, self._held, limits.max_waiting)
        self.submitting = submitting_of(runtime, self.reading, committer, self.room)
        self.pools = Pools(runtime, self.reading)
        self.overview = Overview(runtime, grids, self.pools)
        # The gateway may not write what it does not make: neither intensities nor results.
        onto = [topology.jobs, topology.jobs_urgent, *topology.groups[WORKER]]
        self.letters = Letters(runtime.connect(), committer, topology, onto)
        projects = Projects(asking, topology)
        self.source = Source(runtime, asking, projects)
        self.past = PastStarts(asking, topology, config, projects)
        self.planned = PlannedStarts(asking, topology, config, projects)
        self.job_events = JobEvents(runtime, asking, archive)

    async def run(self, key_ids: Callable[[], Collection[str]]) -> None:
        """Until the stop. `key_ids`: of the API keys that there are."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._held.follow, key_ids, self.runtime.stop)
            tasks.start_soon(self.logs.run)
