"""Who scales a pool: one scaler at a time, and each change by whom it was decided.

The hash scaler:SITE has `holder` and `until` (wall ms): who may decide, and for how long unless
renewed; `revision`, which counts changes; `applied`, the last one known to be carried out;
`replicas`, the size set by it; `memory`, what decisions remember (JSON). A change is committed
under a guard on holder and revision, before it is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.events import PoolScaled, ScalingMemory
from carbon_orchestrator.topology import WORKER, Topology, site
from streams.codec import envelope
from streams.commit import Committer, Transaction

SOURCE = "scaler"
#: For how long, at least, a scaler that fell silent keeps others out.
HOLD_MS = 15_000


class Held(msgspec.Struct, frozen=True):
    """What the hash says. `size`: as set by the last change, None where that is not known to have
    been carried out."""

    holder: str = ""
    until: int = 0
    revision: int = 0
    size: int | None = None
    memory: ScalingMemory = ScalingMemory()

    @classmethod
    def parse(cls, fields: Mapping[Any, Any]) -> Held:
        """From the hash; one that cannot be read counts as empty."""
        named = {name.decode(): value for name, value in fields.items()}
        try:
            memory = named.get("memory")
            revision = int(named.get("revision", 0))
            applied = "replicas" in named and int(named.get("applied", -1)) == revision
            return cls(
                named.get("holder", b"").decode(),
                int(named.get("until", 0)),
                revision,
                int(named["replicas"]) if applied else None,
                ScalingMemory()
                if memory is None
                else msgspec.json.decode(memory, type=ScalingMemory),
            )
        except (ValueError, msgspec.MsgspecError):
            return cls()


class Holding:
    """One scaler's claim to one pool, renewed every `pause_ms`. `key`: of the hash; `stream`: of
    pool.scaled."""

    def __init__(
        self, committer: Committer, key: str, stream: str, name: str, pause_ms: int = 0
    ) -> None:
        self._committer = committer
        self._key = key
        self._stream = stream
        self._name = name
        self._hold_ms = max(HOLD_MS, 3 * pause_ms)

    async def claim(self) -> Held | None:
        """Hold the pool, or go on holding it; what is known of it, None where another scaler
        holds it."""
        fields: dict[Any, Any] = await self._committer.redis.hgetall(self._key)
        held = Held.parse(fields)
        now = wall_ms()
        others = held.holder not in ("", self._name)
        # A clock that was set back must not keep everybody out.
        if others and now < held.until <= now + 10 * self._hold_ms:
            return None
        if others or held.until - now < self._hold_ms * 2 // 3:
            before = {
                "holder": fields.get(b"holder", b"").decode(),
                "until": fields.get(b"until", b"").decode(),
            }
            claim = Transaction().require_fields(self._key, before)
            claim.set_fields(self._key, {"holder": self._name, "until": now + self._hold_ms})
            if not await self._committer.apply(claim):
                return None
        return held

    async def change(self, event: PoolScaled, memory: ScalingMemory) -> bool:
        """Put a change on record, as the next revision; False where another scaler came before."""
        change = self._ours(event.revision - 1)
        change.set_fields(
            self._key,
            {
                "revision": event.revision,
                "replicas": event.replicas,
                "memory": msgspec.json.encode(memory),
            },
        )
        change.emit(self._stream, envelope(event, SOURCE))
        return await self._committer.apply(change)

    async def applied(self, revision: int) -> None:
        """The change has been carried out."""
        done = self._ours(revision).set_fields(self._key, {"applied": revision})
        await self._committer.apply(done)

    async def release(self) -> None:
        """Let another scaler hold it at once."""
        gone = Transaction().require_field(self._key, "holder", self._name)
        await self._committer.apply(gone.set_fields(self._key, {"holder": "", "until": 0}))

    def _ours(self, revision: int) -> Transaction:
        known = ("", "0") if revision == 0 else (str(revision),)
        transaction = Transaction().require_field(self._key, "holder", self._name)
        return transaction.require_field(self._key, "revision", *known)


async def asleep(redis: Redis, topology: Topology) -> frozenset[str]:
    """Of topology.readers those of the pools that have no workers because their scaler, which is
    alive, wants none."""
    async with redis.pipeline(transaction=False) as pipeline:
        for pool, zone in topology.sites:
            pipeline.hgetall(topology.scaler(pool, zone))
        holdings = map(Held.parse, await pipeline.execute())
    now = wall_ms()
    return frozenset(
        f"{WORKER} {site(pool, zone)}"
        for (pool, zone), held in zip(topology.sites, holdings, strict=True)
        if held.size == 0 and held.until > now
    )
