"""The deployment that is struck: roles behind links of the proxy, a server and its replica."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import anyio
from redis.exceptions import BusyLoadingError

from benchmarks.chaos.load import trace
from benchmarks.chaos.network import Network
from benchmarks.chaos.plan import CONFIG, PUBLISHER, ROLES, Plan
from benchmarks.chaos.proxy import Conduct
from benchmarks.chaos.stepped import write_step
from benchmarks.deployment import Deployment
from streams.connection import connect
from streams.embedded import EmbeddedServer, free_port, server_program

_PATIENCE_SECONDS = 30.0


class House(Deployment):
    """`server` is the primary of the moment, `replica` its replica; either may be replaced."""

    def __init__(self, plan: Plan, config: str = CONFIG) -> None:
        durability = f'durability = "{plan.durability}"\n'
        super().__init__(fsync=plan.fsync, config=durability + config, program=plan.program)
        self.plan = plan
        self.replica: EmbeddedServer | None = None
        self.exits: list[str] = []  # who ended although nobody ended it
        self.archive = self.directory / "archive"
        # A file over its limit is an error to the server, as a full disk is, not its end.
        program = self.directory / "server.sh"
        wanted = shlex.quote(plan.program or server_program())
        program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {wanted} \"$@\"\n")
        program.chmod(0o755)
        self._program = str(program)
        self._servers = 0
        self.server = self._new_server()
        self._ports: dict[str, int] = {}
        self._replication = ""
        self.network = Network(plan.seed, 0)

    def _new_server(self) -> EmbeddedServer:
        self._servers += 1
        directory = self.directory / f"server-{self._servers}"
        return EmbeddedServer(directory, fsync=self.plan.fsync, program=self._program)

    async def __aenter__(self) -> House:
        await super().__aenter__()
        self.network = Network(self.plan.seed, self.server.port)
        self._guardian.watch(await self.network.start())
        for name in (*ROLES, PUBLISHER):
            self._ports[name] = await self.network.open(name)
        if self.replicated:
            await self.attach()
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        if self.replica is not None:
            await self.replica.stop()
        await self.network.close()

    @cached_property
    def http(self) -> int:
        """The gateway's port, chosen when first asked for: the servers have theirs by then."""
        return free_port()

    @property
    def replicated(self) -> bool:
        return "failover" in self.plan.faults or self.plan.durability == "replica"

    @property
    def there(self) -> str:
        """Where the server is, without any links."""
        return self.server.url

    def url(self, name: str) -> str:
        """Where a role or the publisher finds the server: through its link."""
        return f"redis://127.0.0.1:{self._ports[name]}/0"

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        command = [sys.executable, "-m", "carbon_orchestrator"]
        if "clock" in self.plan.faults:
            if not self._step_file(name).exists():
                self.step(name, 0.0)
            command[2:] = ["benchmarks.chaos.stepped", str(self._step_file(name))]
        command += [*arguments, "--redis", self.url(name), "--config", str(self.config)]
        return [*command, "--log-level", "warning"]

    def start_roles(self) -> None:
        """All of them, on a recorded grid that outlasts the run."""
        plan, csv = self.plan, self.directory / "trace.csv"
        trace(csv, 2 + math.ceil((plan.seconds + plan.patience) * plan.speed / 86_400))
        speed = f"{plan.speed:g}"
        self.start("signal", "signal", "--signal", f"csv:{csv}", "--speed", speed)
        self.start("gateway", "gateway", "--port", str(self.http))
        for name in ("router-1", "router-2", "accounting-1", "accounting-2"):
            role = name.partition("-")[0]
            more = ("--archive", str(self.archive)) if role == "accounting" else ()
            self.start(name, role, *more)
        for name, pool in (("worker-1", "fast"), ("worker-2", "fast"), ("worker-3", "eco")):
            self.worker(name, pool)

    def look_after(self) -> None:
        """No role may end by itself; if one does, that is noted, and it is started again."""
        for name, process in list(self.processes.items()):
            if (status := process.poll()) is not None:
                self.exits.append(f"{name} ended by itself with status {status}")
                self.respawn(name)

    # -- clocks --------------------------------------------------------------------------------

    def _step_file(self, name: str) -> Any:
        return self.directory / f"{name}.clock"

    def step(self, name: str, seconds: float) -> None:
        """Set a role's wall clock so many seconds off."""
        write_step(self._step_file(name), seconds)

    # -- the replica ---------------------------------------------------------------------------

    async def attach(self) -> None:
        """Start an empty server and wait until it has all that the primary has."""
        replica = self._new_server()
        self._replication = f"replication-{self._servers}"
        port = await self.network.open(self._replication, self.server.port)
        await replica.start()
        assert replica.pid is not None
        self._guardian.watch(replica.pid)
        self.replica = replica
        async with connect(self.server.url) as primary, connect(replica.url) as client:
            await primary.config_set("repl-diskless-sync-delay", 0)
            await client.config_set("repl-diskless-sync-delay", 0)
            await client.execute_command("REPLICAOF", "127.0.0.1", port)
        await self.in_step()

    async def in_step(self) -> None:
        """Wait until the replica has what the primary has, as whoever lets it take over does.
        TimeoutError."""
        assert self.replica is not None
        async with connect(self.replica.url) as client:
            with anyio.fail_after(_PATIENCE_SECONDS):
                while True:
                    with suppress(BusyLoadingError):
                        if (await client.info("replication"))["master_link_status"] == "up":
                            return
                    await anyio.sleep(0.05)

    async def delay_replication(self, milliseconds: float) -> None:
        """What the primary writes reaches its replica so much later."""
        await self.network.behave(self._replication, Conduct(latency_ms=milliseconds))

    async def hold_replication(self) -> None:
        """What the primary writes from now on does not reach its replica."""
        await self.network.behave(self._replication, Conduct(silent="replies"))

    async def cut_next_reply(self, link: str) -> None:
        """The next reply on this link does not come through; what follows does."""
        await self.network.behave(link, Conduct(cut_next=True))

    async def fail_over(self) -> None:
        """kill -9 the primary; the replica takes its place with what had reached it."""
        assert self.replica is not None
        lost, self.server = self.server, self.replica
        self.replica = None
        if lost.pid is not None:
            self._guardian.forget(lost.pid)
        lost.kill()
        # What was under way between the two is gone with the primary.
        await self.network.behave(self._replication, Conduct(refuse=True), reset=True)
        async with connect(self.server.url) as client:
            await client.execute_command("REPLICAOF", "NO", "ONE")
        await self.network.switch(self.server.port)
        shutil.rmtree(lost.directory, ignore_errors=True)

    async def ensure_server(self) -> None:
        """Start the server again if it has ended."""
        if not self.server.running:
            await self.restart_server()

    async def answers(self, seconds: float) -> None:
        """Wait until the server answers. TimeoutError."""
        deadline = time.monotonic() + seconds
        async with connect(self.server.url) as client:
            while True:
                try:
                    await client.ping()
                    return
                except Exception:
                    if time.monotonic() > deadline:
                        raise
                    await anyio.sleep(0.05)
