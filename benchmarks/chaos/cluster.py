"""The deployment that is struck, on a cluster: several partitions, three nodes, their replicas."""

from __future__ import annotations

import asyncio
import random

from benchmarks.chaos.house import House
from benchmarks.chaos.plan import CONFIG, Plan
from streams.embedded import EmbeddedServer
from streams.embedded_cluster import EmbeddedCluster, ask

#: For so long a node may be silent before its replica takes over.
_SILENCE_SECONDS = 1.0


class ClusterHouse(House):
    """Roles find the nodes by themselves: there are no links between them."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, f"partitions = {plan.partitions}\n{CONFIG}")
        self.cluster = EmbeddedCluster(
            self.directory / "cluster",
            silence=_SILENCE_SECONDS,
            fsync=plan.fsync,
            program=self._program,
        )
        self._turn = asyncio.Lock()  # one node at a time: each slot has two
        self._chance = random.Random(f"{plan.seed} nodes")

    async def __aenter__(self) -> ClusterHouse:
        self._guardian.start()
        await self.cluster.start()
        self._watch()
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self.cluster.stop()

    @property
    def there(self) -> str:
        return self.cluster.url

    def url(self, name: str) -> str:
        return self.cluster.url

    async def restart_server(self) -> None:
        """kill -9 any node and start it again at once: its replica may have taken over or not."""
        async with self._turn:
            await self.cluster.settled()
            await self._lose(self._chance.choice(self.cluster.servers)).start()
            self._watch()

    async def delay_replication(self, milliseconds: float) -> None:
        """Replicas follow as they can: there is no link in between."""

    async def in_step(self) -> None:
        """Wait until every node is well, and has a replica or is one."""
        await self.cluster.settled()

    async def fail_over(self) -> None:
        """kill -9 a primary, and wait until its replica has taken its place."""
        await self._turn.acquire()
        await self.cluster.settled()
        primaries = [each for each in self.cluster.servers if await _leads(each)]
        self._lost = self._lose(self._chance.choice(primaries))
        await self.cluster.taken_over(self._lost)

    async def attach(self) -> None:
        """Start again what was lost; it is a replica from now on."""
        try:
            await self._lost.start()
            self._watch()
            await self.cluster.settled()
        finally:
            self._turn.release()

    def _lose(self, server: EmbeddedServer) -> EmbeddedServer:
        if server.pid is not None:
            self._guardian.forget(server.pid)
        server.kill()
        return server

    def _watch(self) -> None:
        for each in self.cluster.servers:
            if each.pid is not None:
                self._guardian.watch(each.pid)


async def _leads(server: EmbeddedServer) -> bool:
    return b"role:master" in await ask(server, "INFO", "replication")
