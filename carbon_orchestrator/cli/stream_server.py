"""How commands for operators reach the stream server itself, without the gateway."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from carbon_orchestrator.cli.faults import UNREACHABLE, Failure
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
Data = Annotated[Path | None, Parameter(help="data directory of the `up` to talk to")]


PATIENCE_SECONDS = 10.0


def topology(config: Config) -> Topology:
    """The names of the deployment's one partition."""
    return Topology(Partition(config.namespace), config.site_pools)


async def with_server(
    url: str, use: Callable[[Redis], Awaitable[Any]], environment: Mapping[str, str] = os.environ
) -> Any:
    """`use` with a connection; a server that cannot be used is told in one line. `environment`:
    what completes the URL."""
    from redis.exceptions import BusyLoadingError

    from streams.connection import connect

    where = shown(url)
    redis = connect(completed(url, environment), timeout=PATIENCE_SECONDS)
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
