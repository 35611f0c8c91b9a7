"""A Redis Cluster: each partition's keys lie in one hash slot, so one connection to the node that
has that slot now is all that a partition needs.

URLs are `redis+cluster://[user:password@]host:port,host:port,...`, or `rediss+cluster://` (TLS),
with the options of a single server's. Any nodes of the cluster may be named; the others are heard
of from them. A connection looks for its node anew each time it is made, and is given up when the
node says that it has the slot no more: then it fails like one that was cut, and whoever uses it
tries again, as after any such fault.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.crc import key_slot

from streams.packing import Encrypted, Plain

SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
#: What a node that does not answer may hold up a search for the one with the slot.
_ASK_SECONDS = 2.0

Address = tuple[str, int]


def nodes(url: str) -> list[str]:
    """For each node that the URL of a cluster names, that node's own; none for another URL."""
    parts = urlsplit(url)
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        return []
    login, at, hosts = parts.netloc.rpartition("@")
    return [
        parts._replace(scheme=scheme, netloc=f"{login}{at}{host}").geturl()
        for host in hosts.split(",")
    ]


class Slot:
    """The hash slot of one partition, and who may know which node has it."""

    def __init__(self, urls: list[str], partition: int) -> None:
        self.number = key_slot(b"%d" % partition)
        named = [parse_url(each) for each in urls]
        self._named = [(each.get("host", "localhost"), each.get("port", 6379)) for each in named]
        self._known = list(self._named)

    async def primary(self, kind: type[AbstractConnection], options: dict[str, Any]) -> Address:
        """The node that has the slot, as a node tells that answers. Raises ConnectionError."""
        failure: Exception | None = None
        for address in list(dict.fromkeys([*self._known, *self._named])):
            try:
                ranges = await _ask(kind, options, address)
            except redis_errors.AuthenticationError:
                raise
            except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
                failure = error
                continue
            known = [each for _, _, those in ranges for each in those]
            # Another one is asked next time: what this one knows may be out of date.
            self._known = [each for each in known if each != address] + [address]
            for first, last, (primary, *_) in ranges:
                if first <= self.number <= last:
                    return primary
            failure = redis_errors.ClusterDownError(f"no node has the hash slot {self.number}")
        raise redis_errors.ConnectionError(f"the cluster cannot be used: {failure}") from failure


async def _ask(
    kind: type[AbstractConnection], options: dict[str, Any], address: Address
) -> list[tuple[int, int, list[Address]]]:
    """First and last slot of each range, and who has it, the primary first."""
    host, port = address
    bounds = {"socket_timeout": _ASK_SECONDS, "socket_connect_timeout": _ASK_SECONDS}
    connection = kind(**{**options, **bounds, "host": host, "port": port})
    try:
        await connection.connect()
        await connection.send_command("CLUSTER", "SLOTS")
        rows: Any = await connection.read_response()
    finally:
        await connection.disconnect(nowait=True)
    # A node that does not know its own name is where we have reached it.
    return [
        (first, last, [((each[0] or b"").decode() or host, each[1]) for each in those])
        for first, last, *those in rows
    ]


class ToSlot(Plain):
    """A connection to the node that has a slot."""

    plain: type[AbstractConnection] = Plain

    def __init__(self, *, slot: Slot, **options: Any) -> None:
        super().__init__(**options)
        self._slot = slot
        self._options = options

    async def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        """As its base does, once it is known where to."""
        if not self.is_connected:
            self.host, self.port = await self._slot.primary(self.plain, self._options)
        await super().connect_check_health(*arguments, **options)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """As its base does; besides, ConnectionError where the slot is with another node."""
        try:
            return await super().read_response(*arguments, **options)
        except redis_errors.AskError as error:  # MOVED, too
            await self.disconnect(nowait=True)
            raise redis_errors.ConnectionError(f"{self.host}:{self.port} says {error}") from error


class ToSlotEncrypted(ToSlot, Encrypted):
    """The same, over TLS."""

    plain = Encrypted
