"""What every role stands on: the server, the partition's names, the grid clock, the stop."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Sequence

import structlog
from redis.asyncio import Redis

from carbon_orchestrator import __version__, partitions
from carbon_orchestrator.clock import GridClock, from_fields
from carbon_orchestrator.config import Config, ConfigError, public
from carbon_orchestrator.events import RoleStarted
from carbon_orchestrator.server_url import completed, shown
from carbon_orchestrator.topology import CODEC, Topology
from carbon_orchestrator.wall_clock import CLOCK, steady_ms
from streams.codec import envelope
from streams.commit import Committer, Transaction
from streams.connection import Client, connect
from streams.errors import CommitUnknown, Refused, is_transient
from streams.group import Group
from streams.keys import Partition
from streams.retry import backoff
from streams.stop import Stop

log = structlog.get_logger(__name__)

_CLOCK_SECONDS = 1.0
_CLOCK_PATIENCE_SECONDS = 15.0
#: The server is asked for the time every second.
_SILENCE_SECONDS = 10.0


def unique_name(role: str) -> str:
    """A consumer name that no other process has."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class Runtime:
    """One process's view of a partition. Connections made here are closed by `aclose`.

    `url` is completed from the environment (server_url.py; ConfigError). When the server
    refuses us something, everything is stopped, and `refused` says what.
    """

    def __init__(
        self,
        url: str,
        config: Config,
        *,
        partition: int = 0,
        name: str = "",
        first: Runtime | None = None,
    ) -> None:
        """`first`: the view of the first partition, whose clock and stop are this one's too."""
        self.url = completed(url)
        self.config = config
        self.topology = Topology(Partition(config.namespace, partition), config.site_pools)
        self.first = self if first is None else first
        self.stop: Stop = Stop() if first is None else first.stop
        self._clock = GridClock()
        self.partitions = config.partitions or 1
        self._each: dict[int, Runtime] = {}
        self.name = name
        self.refused: Refused | None = None
        self._heard: float | None = None  # when the server answered last, by time.monotonic()
        self._clients: list[Redis] = []
        self._committers: list[Committer] = []

    @property
    def clock(self) -> GridClock:
        """The deployment's."""
        return self.first._clock

    @clock.setter
    def clock(self, clock: GridClock) -> None:
        self.first._clock = clock

    def each(self, numbers: Sequence[int] = ()) -> list[Runtime]:
        """The views of all partitions, or of those of these numbers; each goes by its share of the
        configuration. Raises ConfigError where there is no such partition."""
        if wrong := [each for each in numbers if not 0 <= each < self.partitions]:
            raise ConfigError(
                f"there is no partition {wrong[0]}; they are 0 to {self.partitions - 1}"
            )
        if self.partitions == 1:
            return [self]
        for number in range(self.partitions):
            if number not in self._each:
                config = partitions.share(self.config, self.partitions)
                self._each[number] = Runtime(
                    self.url, config, partition=number, name=self.name, first=self
                )
        return [self._each[each] for each in numbers or range(self.partitions)]

    def consumer_name(self, role: str) -> str:
        """Stable when the process was given a name, else unique."""
        return f"{role}-{self.name}" if self.name else unique_name(role)

    @property
    def working(self) -> bool:
        """Whether the server has answered lately, and nobody told us to stop."""
        lately = self._heard is not None and time.monotonic() - self._heard < _SILENCE_SECONDS
        return lately and not self.stop.is_set()

    def connect(self) -> Redis:
        """A new connection: every blocking reader needs one of its own."""
        client = self._connect()
        self._clients.append(client)
        return client

    def _connect(self) -> Client:
        client = connect(self.url, partition=self.topology.partition.number)
        client.on_refused = self.first._on_refused
        return client

    def _on_refused(self, refused: Refused) -> None:
        """No component goes on without what it needs, however patient its loops are."""
        if self.refused is None:
            self.refused = refused
            log.error("refused by the server", server=shown(self.url), error=str(refused))
            self.stop.set()

    def check(self) -> None:
        """Raises Refused if it was a refusal that stopped us."""
        if self.refused is not None:
            raise self.refused

    def committer(self, patience: float = 60.0, replicas: int = 0) -> Committer:
        """A new committer with a connection of its own."""
        committer = Committer(
            self._connect(), self.topology.partition, patience=patience, replicas=replicas
        )
        self._committers.append(committer)
        return committer

    def group(self, group: str, consumer: str, lanes: list[str]) -> Group:
        return Group(self.connect(), CODEC, group, consumer, lanes)

    def now(self) -> int:
        """Grid time, ms."""
        return self.clock.now()

    async def ready(self) -> bool:
        """Wait for the server, then read the clock. False if stopped before."""
        client = self.connect()
        waits = backoff(0.1, 3.0)
        while not self.stop.is_set():
            try:
                await self.read_clocks(client)
                return True
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning(
                    "waiting for the server",
                    server=shown(self.url),
                    error=str(error),
                    **self._hint(str(error)),
                )
                await self.stop.sleep(next(waits))
        return False

    def _hint(self, error: str) -> dict[str, str]:
        """What else may be behind a fault that looks as if it passed by itself."""
        if self.url.startswith("rediss:"):
            return {"hint": "or it speaks no TLS, or wants a certificate of ours"}
        if "closed by server" in error:
            return {"hint": "or it speaks TLS only: then write rediss://"}
        return {}

    async def clock_set(
        self, patience: float = _CLOCK_PATIENCE_SECONDS, *, claims: bool = True
    ) -> None:
        """Wait until the signal has set the clock, so that no job begins on a clock that is not
        the deployment's. A signal that does not come blocks nobody: after `patience` seconds
        the clock is set to wall time, unless this role has no right to that (`claims`)."""
        client, committer = self.connect(), self.committer()
        deadline = time.monotonic() + patience
        waits = backoff(0.05, 0.5)
        while not self.stop.is_set():
            try:
                fields = await client.hgetall(self.topology.clock)
                if fields:
                    await self.read_clocks(client)
                    return
                if claims and time.monotonic() > deadline:
                    log.warning("no signal has set the clock: it is wall time from now on")
                    claim = Transaction().require_absent(self.topology.clock)
                    wall = {**GridClock().fields(), **partitions.fields(self.partitions)}
                    await committer.apply(claim.set_fields(self.topology.clock, wall))
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    raise
            await self.stop.sleep(next(waits))

    async def follow_clock(self) -> None:
        """Keep `clock` as the deployment has it, and wall time as the server has it, until the
        stop."""
        client = self.connect()
        while not self.stop.is_set():
            try:
                await self.read_clocks(client)
            except Exception as error:
                if not is_transient(error):
                    log.exception("clock unreadable")
            await self.stop.sleep(_CLOCK_SECONDS)

    async def read_clocks(self, client: Redis) -> None:
        """Read the server's clock and the deployment's, and with it how many partitions there are.
        Raises ConfigError where that is not as configured."""
        sent = steady_ms()
        server = await server_time_ms(client)
        if CLOCK.heard(server, sent):
            log.warning("this machine's clock is not the server's", corrected_ms=CLOCK.correction)
        fields = await client.hgetall(self.topology.clock)
        self.partitions = partitions.agreed(fields, self.config.partitions)
        self.clock = from_fields(fields)
        self._heard = time.monotonic()

    async def announce(self, role: str, name: str, committer: Committer) -> None:
        """Put on record that a component begins to work, and by which configuration; unless
        stopped before the server took it."""
        event = RoleStarted(
            role=role,
            name=name,
            version=__version__,
            config=public(self.config),
            clock=self.clock.fields(),
        )
        emit = Transaction().emit(self.topology.operations, envelope(event, role))
        waits = backoff()
        while not self.stop.is_set():
            try:
                await committer.apply(emit)
                return
            except Exception as error:
                if not isinstance(error, CommitUnknown) and not is_transient(error):
                    raise
                await self.stop.sleep(next(waits))

    async def aclose(self) -> None:
        for each in self._each.values():
            await each.aclose()
        for committer in self._committers:
            await committer.aclose()
        for client in self._clients:
            await client.aclose()


async def server_time_ms(client: Redis) -> int:
    """The server's wall clock, ms."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
