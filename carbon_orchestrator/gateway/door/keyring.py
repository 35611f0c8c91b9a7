"""The keys of a deployment, as a gateway knows them; and how an operator changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.gateway.door.keys import (
    ApiKey,
    hashed,
    identify,
    new_id,
    new_secret,
    text_of,
)
from carbon_orchestrator.operations import acted
from carbon_orchestrator.topology import Topology
from streams.commit import Committer, Transaction
from streams.errors import is_transient
from streams.stop import Stop

log = structlog.get_logger(__name__)

#: Seconds between two readings; a key that is revoked is refused at most twice as late.
REFRESH_SECONDS = 1.0
_ATTEMPTS = 20
_decode = msgspec.json.Decoder(ApiKey).decode
_encode = msgspec.json.Encoder().encode


async def read_keys(redis: Redis, topology: Topology) -> dict[str, ApiKey]:
    """All keys by id; what cannot be read is no key."""
    kept: Any = await redis.hgetall(topology.api_keys)
    keys = {}
    for key_id, raw in kept.items():
        try:
            keys[key_id.decode()] = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("an API key on record cannot be read", id=key_id.decode("ascii", "replace"))
    return keys


class Keyring:
    """What a gateway knows of the keys. While the server is away, it goes by what it knew last."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology
        self.keys: dict[str, ApiKey] = {}

    async def load(self) -> None:
        """Read all keys. Raises what the connection raises."""
        self.keys = await read_keys(self._redis, self._topology)

    async def follow(self, stop: Stop, after: Callable[[], None]) -> None:
        """Keep up with changes until the stop; `after` is called after each reading."""
        while not stop.is_set():
            try:
                await self.load()
                after()
            except Exception as error:
                if not is_transient(error):
                    log.exception("keys unreadable")
            await stop.sleep(REFRESH_SECONDS)

    def identify(self, presented: str) -> str | None:
        """The id of the usable key that was presented."""
        return identify(presented, self.keys, wall_ms())

    @property
    def usable(self) -> bool:
        """Whether any key opens anything."""
        now = wall_ms()
        return any(key.usable(now) for key in self.keys.values())


async def create_key(committer: Committer, topology: Topology, who: str, key: ApiKey) -> str:
    """Put a new key like `key` on record (its hash is made here); the text to present, which is
    known to nobody else. Raises what a commit raises."""
    for _ in range(_ATTEMPTS):
        key_id, secret = new_id(), new_secret()
        kept = msgspec.structs.replace(key, sha256=hashed(secret))
        transaction = Transaction().require_field(topology.api_keys, key_id, "")
        transaction.set_fields(topology.api_keys, {key_id: _encode(kept)})
        transaction.absorb(_act(topology, who, "key.create", key_id, kept))
        if await committer.apply(transaction):
            return text_of(key_id, secret)
    raise RuntimeError("no free key id: the random numbers of this machine repeat themselves")


async def revoke_key(
    redis: Redis, committer: Committer, topology: Topology, who: str, key_id: str
) -> ApiKey | None:
    """Make a key useless for good; the key as it is then. None if there is none. One that is
    revoked already stays as it is."""
    for _ in range(_ATTEMPTS):
        raw: Any = await redis.hget(topology.api_keys, key_id)
        if raw is None:
            return None
        key = _decode(raw)
        if key.revoked is not None:
            return key
        key = msgspec.structs.replace(key, revoked=wall_ms())
        transaction = Transaction().require_field(topology.api_keys, key_id, raw.decode())
        transaction.set_fields(topology.api_keys, {key_id: _encode(key)})
        transaction.write("DEL", topology.held(key_id))
        transaction.absorb(_act(topology, who, "key.revoke", key_id, key))
        if await committer.apply(transaction):
            return key
    raise RuntimeError(f"key {key_id} keeps changing; try again")


def _act(topology: Topology, who: str, action: str, key_id: str, key: ApiKey) -> Transaction:
    """The act, for the record; committed with it."""
    detail = {"name": key.name, "scopes": " ".join(key.scopes)}
    if key.project is not None:
        detail["project"] = key.project
    if key.expires is not None:
        detail["expires"] = rfc3339(key.expires)
    return acted(topology, who, action, key_id, detail=detail)
