"""What partitions cost, and what a cluster takes off the busiest server.

python -m benchmarks.partitions [--jobs 20000] [--idle 10] [--json FILE]

No-op jobs, evenly over the partitions, through router, worker and accounting (a process each): one
partition and four on one server, and four on a cluster of three nodes with a replica each. On a
machine with fewer processors than processes the rates say little; how much processor time the
busiest server takes for a job says how many it can do: it has one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import uvloop

from benchmarks.deployment import Deployment
from benchmarks.pipeline import completed
from carbon_orchestrator.events import JobSubmitted
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.topology import Topology
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.embedded_cluster import EmbeddedCluster
from streams.keys import Partition

_WARM_UP = 400
_TOGETHER = 500
_PATIENCE_SECONDS = 240.0


class Layout(Deployment):
    """So many partitions, on one server or on a cluster."""

    def __init__(self, partitions: int, *, clustered: bool) -> None:
        super().__init__(slots=1000, extra=f"partitions = {partitions}")
        self.topologies = [Topology(Partition("carbon", each)) for each in range(partitions)]
        self.cluster = EmbeddedCluster(self.directory / "cluster") if clustered else None

    @property
    def url(self) -> str:
        return self.server.url if self.cluster is None else self.cluster.url

    @property
    def servers(self) -> Sequence[EmbeddedServer]:
        return [self.server] if self.cluster is None else self.cluster.servers

    async def _start_server(self) -> None:
        if self.cluster is None:
            await super()._start_server()
            return
        await self.cluster.start()
        for each in self.servers:
            assert each.pid is not None
            self._guardian.watch(each.pid)

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        if self.cluster is not None:
            await self.cluster.stop()

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        command = [sys.executable, "-m", "carbon_orchestrator", *arguments]
        command += ["--redis", self.url, "--config", str(self.config)]
        return [*command, "--log-level", "warning"]

    def cpu_seconds(self) -> dict[str, float]:
        pids = {name: process.pid for name, process in self.processes.items()}
        pids |= {f"server-{n}": each.pid or 0 for n, each in enumerate(self.servers)}
        times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
        return {name: each.user + each.system for name, each in times.items()}


async def measure(layout: Layout, jobs: int, idle: float) -> dict[str, float]:
    """Processor time, µs, of each job and of each idle second; and jobs a second."""
    async with layout, AsyncExitStack() as stack:
        layout.start("signal", "signal", "--speed", "1")
        for role in ("router", "accounting"):
            layout.start(role, role)
        layout.worker("worker", "fast")
        committers, readings = [], []
        for each in layout.topologies:
            number = each.partition.number
            committers.append(Committer(connect(layout.url, partition=number), each.partition))
            stack.push_async_callback(committers[-1].aclose)
            reader = await stack.enter_async_context(connect(layout.url, partition=number))
            readings.append(Reading(reader, each))

        async def done() -> int:
            return sum([await completed(each) for each in readings])

        async def through(count: int, already: int) -> None:
            own = count // len(layout.topologies)
            await asyncio.gather(
                *(_publish(*each, own) for each in zip(committers, layout.topologies, strict=True))
            )
            deadline = time.perf_counter() + _PATIENCE_SECONDS
            while await done() < already + count:
                if time.perf_counter() > deadline:
                    raise SystemExit(f"not done in time; see {layout.log.name}")
                await asyncio.sleep(0.05)

        await through(_WARM_UP, 0)
        before, began = layout.cpu_seconds(), time.perf_counter()
        await through(jobs, _WARM_UP)
        took, after = time.perf_counter() - began, layout.cpu_seconds()
        await asyncio.sleep(idle)
        resting = layout.cpu_seconds()
        memory = layout.memory()
    layout.remove()
    spent = {name: (after[name] - before[name]) / jobs * 1e6 for name in after}
    rested = {name: (resting[name] - after[name]) / idle * 1e6 for name in after}
    servers = [spent[name] for name in spent if name.startswith("server")]
    return {
        "jobs_per_s": jobs / took,
        "busiest_server_us": max(servers),
        "all_servers_us": sum(servers),
        "roles_us": sum(spent.values()) - sum(servers),
        "idle_us_per_s": sum(rested.values()),
        "roles_mb": sum(memory.values()) / 1e6,
    }


async def _publish(committer: Committer, topology: Topology, jobs: int) -> None:
    event = envelope(JobSubmitted(type="noop", urgency="urgent"), "bench")
    for start in range(0, jobs, _TOGETHER):
        count = min(_TOGETHER, jobs - start)
        await committer.commit([Transaction().emit(topology.jobs, event) for _ in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--idle", type=float, default=10.0, help="seconds")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {}
    for name, partitions, clustered in (
        ("1 on 1 server", 1, False),
        ("4 on 1 server", 4, False),
        ("4 on 3 nodes", 4, True),
    ):
        layout = Layout(partitions, clustered=clustered)
        found[name] = uvloop.run(measure(layout, arguments.jobs, arguments.idle))
        print(name, json.dumps({key: round(value, 1) for key, value in found[name].items()}))
    if arguments.json:
        arguments.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
