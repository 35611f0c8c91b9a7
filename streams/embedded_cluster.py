"""A Redis Cluster of bundled servers on loopback, for tests and trials: some primaries, each with
a replica that takes its place when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from streams.connection import connect
from streams.embedded import EmbeddedError, EmbeddedServer, free_port

_SLOTS = 16384
_POLL_SECONDS = 0.05


class EmbeddedCluster:
    """`primaries` servers that share the slots evenly, and as many replicas.

    `silence`: for how many seconds a node may be silent before the others take it for gone.
    """

    def __init__(
        self,
        directory: Path,
        *,
        primaries: int = 3,
        silence: float = 1.0,
        fsync: str = "everysec",
        program: str | None = None,
    ) -> None:
        self.servers: list[EmbeddedServer] = []
        self._primaries = primaries
        self._silence_ms = round(silence * 1000)
        self._directory = directory
        self._fsync, self._program = fsync, program
        self._bus_ports: list[int] = []

    @property
    def url(self) -> str:
        """Where clients connect to it."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.servers)
        return f"redis+cluster://{hosts}"

    async def start(self, patience: float = 60.0) -> None:
        """Start it and wait until every node knows who has which slots, and every primary has a
        replica that is in step. Raises EmbeddedError."""
        self._bus_ports = [free_port() for _ in range(2 * self._primaries)]
        self.servers = [self._server(*each) for each in enumerate(self._bus_ports)]
        try:
            async with asyncio.timeout(patience):
                for each in self.servers:
                    await each.start()
                await self._join()
                await self.settled(patience)
        except TimeoutError:
            await self.stop()
            raise EmbeddedError(f"the cluster did not come about in {patience:g} s") from None
        except BaseException:
            await self.stop()
            raise

    def _server(self, number: int, bus_port: int) -> EmbeddedServer:
        return EmbeddedServer(
            self._directory / f"node-{number}",
            fsync=self._fsync,
            program=self._program,
            options=(
                *("--cluster-enabled", "yes", "--cluster-port", str(bus_port)),
                *("--cluster-node-timeout", str(self._silence_ms)),
                *("--cluster-announce-ip", "127.0.0.1", "--repl-diskless-sync-delay", "0"),
                # What one node and its replica had is no reason to stop the others.
                *("--cluster-require-full-coverage", "no"),
                # However long a replica has not heard of its primary: there is no other.
                *("--cluster-replica-validity-factor", "0"),
            ),
        )

    async def _join(self) -> None:
        first, primaries = self.servers[0], self._primaries
        for number, each in enumerate(self.servers[1:], 1):
            port, bus = each.port, self._bus_ports[number]
            await ask(first, "CLUSTER", "MEET", "127.0.0.1", port, bus)
        bounds = [_SLOTS * number // primaries for number in range(primaries + 1)]
        for number, each in enumerate(self.servers[:primaries]):
            await ask(each, "CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for primary, replica in zip(
            self.servers[:primaries], self.servers[primaries:], strict=True
        ):
            name = await ask(primary, "CLUSTER", "MYID")
            await _until(_replicates, replica, name)

    async def settled(self, patience: float = 30.0) -> None:
        """Wait until each node that runs says that all is well, and is in step with its primary
        or has a replica. TimeoutError."""
        async with asyncio.timeout(patience):
            for each in self.servers:
                if each.running:
                    await _until(_well, each)

    async def primary(self, slot: int, patience: float = 30.0) -> EmbeddedServer:
        """The server that has the slot and runs, as one that runs says. TimeoutError."""
        async with asyncio.timeout(patience):
            while True:
                for each in self.servers:
                    if each.running:
                        port = await _port(each, slot)
                        found = [one for one in self.servers if one.port == port and one.running]
                        if found:
                            return found[0]
                await asyncio.sleep(_POLL_SECONDS)

    async def taken_over(self, lost: EmbeddedServer, patience: float = 30.0) -> None:
        """Wait until no node that runs says that this one, which has ended, has any slots.
        TimeoutError."""
        async with asyncio.timeout(patience):
            for each in self.servers:
                if each.running:
                    await _until(_without, each, lost.port)

    async def stop(self) -> None:
        """End all of its servers."""
        await asyncio.gather(*(each.stop() for each in self.servers))

    async def __aenter__(self) -> EmbeddedCluster:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def ask(server: EmbeddedServer, *command: Any) -> Any:
    """What this one server answers, as it came."""
    async with connect(server.url, timeout=5.0) as client:
        client.response_callbacks.clear()
        return await client.execute_command(*command)


async def _until(holds: Callable[..., Awaitable[bool]], *arguments: Any) -> None:
    """Ask until it does; a fault is a no."""
    while True:
        try:
            if await holds(*arguments):
                return
        except RedisError:
            pass
        await asyncio.sleep(_POLL_SECONDS)


async def _replicates(server: EmbeddedServer, primary: str) -> bool:
    """Have it be a replica; it refuses until it has heard of the primary."""
    return bool(await ask(server, "CLUSTER", "REPLICATE", primary))


async def _well(server: EmbeddedServer) -> bool:
    state: bytes = await ask(server, "CLUSTER", "INFO")
    replication: bytes = await ask(server, "INFO", "replication")
    in_step = b"master_link_status:up", b"state=online"
    return b"cluster_state:ok" in state and any(each in replication for each in in_step)


async def _without(server: EmbeddedServer, port: int) -> bool:
    rows: Any = await ask(server, "CLUSTER", "SLOTS")
    return all(had[1] != port for _, _, had, *_ in rows)


async def _port(server: EmbeddedServer, slot: int) -> int | None:
    try:
        rows: Any = await ask(server, "CLUSTER", "SLOTS")
    except RedisError:
        return None
    return next((had[1] for first, last, had, *_ in rows if first <= slot <= last), None)
