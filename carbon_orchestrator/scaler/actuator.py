"""What carries out the sizes that are decided: the interface, and one that only says them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from redis.asyncio import Redis

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import Pool
from carbon_orchestrator.topology import Topology


class ActuatorError(Exception):
    """A size cannot be read or changed now; the message says why, and what to do about it."""


class Contended(ActuatorError):
    """Somebody else changed the size at the same time."""


class Actuator(Protocol):
    """One at a time works for a pool of a zone."""

    @property
    def name(self) -> str: ...

    @property
    def shared(self) -> bool:
        """Whether others can change the sizes, too."""

    @property
    def dry(self) -> bool:
        """Whether nothing is changed, so that nothing is put on record either."""

    async def leading(self) -> bool:
        """Whether it may work, by the rules of where it does. Raises ActuatorError."""

    async def size(self, pool: Pool) -> int:
        """How many workers the pool is set to have. Raises ActuatorError."""

    async def scale(
        self, pool: Pool, current: int, size: int, busy: frozenset[str], reason: str
    ) -> None:
        """Set the pool from `current` to `size`; workers that are `busy` go last, where there is a
        choice. Raises ActuatorError; Contended if it has not `current` workers any more."""

    async def stand_by(self, pools: Sequence[Pool]) -> None:
        """Another scaler works on these from now on: leave them to it."""

    async def aclose(self) -> None:
        """Leave, within bounded time."""


class DryRun:
    """Changes nothing and tells what it would do; it begins with the workers that are there."""

    name = "dry-run"
    shared = False
    dry = True

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        zone: str,
        live_ms: int,
        tell: Callable[[str], None],
    ) -> None:
        self._redis = redis
        self._topology = topology
        self._zone = zone
        self._live_ms = live_ms
        self._tell = tell
        self._sizes: dict[Pool, int] = {}

    async def leading(self) -> bool:
        return True

    async def size(self, pool: Pool) -> int:
        if pool not in self._sizes:
            key = self._topology.workers(pool, self._zone)
            self._sizes[pool] = int(
                await self._redis.zcount(key, wall_ms() - self._live_ms, "+inf")
            )
            self._tell(f"{pool}: {self._sizes[pool]} workers now")
        return self._sizes[pool]

    async def scale(
        self, pool: Pool, current: int, size: int, busy: frozenset[str], reason: str
    ) -> None:
        self._sizes[pool] = size
        self._tell(f"{pool}: {reason}")

    async def stand_by(self, pools: Sequence[Pool]) -> None:
        """Nothing to leave."""

    async def aclose(self) -> None:
        """Nothing to close."""
