"""Connections to the server, set up so that nothing is sent twice behind our back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streams import cluster
from streams.errors import Refused
from streams.packing import Encrypted, Packing, Plain
from streams.refusals import refusal

#: A command that takes longer is taken for lost. Blocking reads must stay well below it.
SOCKET_TIMEOUT = 10.0
#: The longest a reader blocks in one command, in milliseconds.
BLOCK_MS = 2000

#: What connections tell of themselves. Left to redis-py, each reads the version from its package's
#: files: a millisecond of processor time.
_DRIVER = redis.DriverInfo(lib_version=redis.__version__)

_RAW_REPLIES = ("XREADGROUP", "XREAD", "XRANGE", "XREVRANGE", "XAUTOCLAIM", "XCLAIM", "XPENDING")


class Client(Redis):
    """A client that tells refusals from faults that pass: it raises Refused for them, and tells
    `on_refused`, too, so that nobody's patience hides that the server will not have us."""

    on_refused: Callable[[Refused], None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As its base does; besides, Refused."""
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except Exception as error:
            self.check_refusal(error, args)
            raise

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """As its base does; executing it raises Refused, too."""
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.told = self.check_refusal
        return pipeline

    def check_refusal(self, error: BaseException, command: Sequence[Any] = ()) -> None:
        """Raises Refused if `error`, of this command, is one."""
        refused = refusal(error, command)
        if refused is None:
            return
        if self.on_refused is not None:
            self.on_refused(refused)
        if refused is not error:
            raise refused from error


class _Pipeline(Pipeline):
    told: Callable[[BaseException], None]

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            return await super().execute(raise_on_error)
        except Exception as error:
            self.told(error)
            raise


def connect(url: str, *, timeout: float = SOCKET_TIMEOUT, partition: int = 0) -> Client:
    """A client with one connection of its own. TLS, and who we are, are told by the URL. In a
    cluster it is to the node that has the keys of that partition.

    No automatic retry: redis-py's default resends a write whose reply was lost, which would
    publish it twice. Whoever may safely send again does so in his own loop. Replies of the
    stream commands come raw (flat lists of bytes).
    """
    pool = _pool(
        url,
        partition,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 5.0),
        socket_keepalive=True,
        protocol=2,
        driver_info=_DRIVER,
    )
    client = Client(connection_pool=pool, single_connection_client=True)
    client.auto_close_connection_pool = True
    for command in _RAW_REPLIES:
        client.response_callbacks[command] = _raw  # type: ignore[assignment]
    return client


def _pool(url: str, partition: int, **options: Any) -> ConnectionPool:
    nodes = cluster.nodes(url)
    kinds: tuple[type[Packing], type[Packing]] = Plain, Encrypted
    if nodes:
        url, options["slot"] = nodes[0], cluster.Slot(nodes, partition)
        kinds = cluster.ToSlot, cluster.ToSlotEncrypted
    pool = ConnectionPool.from_url(url, **options)
    pool.connection_class = kinds[issubclass(pool.connection_class, SSLConnection)]
    return pool


def _raw(reply: Any, **_: Any) -> Any:
    return reply
