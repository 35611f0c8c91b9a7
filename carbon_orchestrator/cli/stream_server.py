"""How commands for operators reach the stream server itself, without the gateway."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter

from carbon_orchestrator import partitions
from carbon_orchestrator.cli.faults import UNREACHABLE, USAGE, Failure
from carbon_orchestrator.config import Config
from carbon_orchestrator.server_url import completed, shown
from carbon_orchestrator.topology import Topology
from streams.errors import TRANSIENT, Refused
from streams.keys import Partition

if TYPE_CHECKING:
    from redis.asyncio import Redis

ServerUrl = Annotated[
    str | None,
    Parameter(
        name="--redis",
        help="URL of the stream server; by default $CARBON_REDIS_URL, or that of a running `up`",
    ),
]
PartitionNumber = Annotated[
    int | None, Parameter(name="--partition", help="of this partition alone, not of all")
]
Data = Annotated[Path | None, Parameter(help="data directory of the `up` to talk to")]


PATIENCE_SECONDS = 10.0
T = TypeVar("T")


def topology(config: Config, partition: int = 0) -> Topology:
    """The names of one of the deployment's partitions."""
    return Topology(Partition(config.namespace, partition), config.site_pools)


async def numbers(url: str, config: Config, given: int | None = None) -> list[int]:
    """The deployment's partitions, or the one that is given. Raises Failure, ConfigError."""

    async def use(client: Redis) -> int:
        return partitions.agreed(await client.hgetall(topology(config).clock), config.partitions)

    count: int = await with_server(url, use)
    if given is None:
        return list(range(count))
    if not 0 <= given < count:
        raise Failure(f"--partition {given}: they are 0 to {count - 1}", USAGE)
    return [given]


async def everywhere(
    url: str, config: Config, use: Callable[[Redis, Topology], Awaitable[T]], given: int | None
) -> list[T]:
    """What `use` finds in each partition, or in the one that is given."""
    found: list[T] = []
    for number in await numbers(url, config, given):
        names = topology(config, number)
        found.append(await with_server(url, partial(_with, use, names), partition=number))
    return found


async def _with(
    use: Callable[[Redis, Topology], Awaitable[T]], names: Topology, client: Redis
) -> T:
    return await use(client, names)


async def with_server(
    url: str,
    use: Callable[[Redis], Awaitable[Any]],
    environment: Mapping[str, str] = os.environ,
    *,
    partition: int = 0,
) -> Any:
    """`use` with a connection, to where that partition is; a server that cannot be used is told in
    one line. `environment`: what completes the URL."""
    from redis.exceptions import BusyLoadingError

    from streams.connection import connect

    where = shown(url)
    redis = connect(completed(url, environment), timeout=PATIENCE_SECONDS, partition=partition)
    try:
        return await use(redis)
    except Refused as error:
        raise type(error)(f"{where}: {error}") from None
    except BusyLoadingError:
        raise Failure(f"{where} is still loading its data; try again", UNREACHABLE) from None
    except TRANSIENT as error:
        why = str(error).rstrip(".") or type(error).__name__
        raise Failure(
            f"no stream server at {where} ({why}): start one with `carbon-orchestrator up`, or"
            " name yours with --redis or $CARBON_REDIS_URL",
            UNREACHABLE,
        ) from None
    finally:
        await redis.aclose()
