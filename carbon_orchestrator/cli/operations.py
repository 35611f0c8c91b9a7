"""`operations`: what people did by hand, and which roles began to work by which configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.cli.output import Column, Json
from carbon_orchestrator.cli.quantities import moment
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import Data, PartitionNumber, ServerUrl, everywhere
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.config import load
from carbon_orchestrator.events import OperatorActed, RoleStarted
from carbon_orchestrator.topology import CODEC, Topology

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PAGE = 500
_MOST_LISTED = 100_000

COLUMNS = (
    Column("time"),
    Column("who"),
    Column("action"),
    Column("subject"),
    Column("detail", flexible="wraps"),
)


class Operation(msgspec.Struct, frozen=True):
    """One line of the list. `time`: wall time of the entry, ms; `removed`: as in the event."""

    time: int
    who: str
    action: str
    subject: str
    detail: dict[str, str]
    removed: str | None = None


def operations(
    *,
    limit: int = 50,
    partition: PartitionNumber = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List what operators did and which roles were started.

    It reaches as far back as the stream does.

    Parameters
    ----------
    limit
        How many at most, the latest.
    """
    if not 1 <= limit <= _MOST_LISTED:
        raise Failure(f"--limit must be 1 to {_MOST_LISTED}", USAGE)
    loaded = load(config)

    async def use(client: Redis, names: Topology) -> list[Operation]:
        return await latest(client, names.operations, limit)

    each = run_async(lambda: everywhere(redis_url(redis, data), loaded, use, partition))
    found = sorted((one for some in each for one in some), key=lambda one: one.time)[-limit:]
    if json:
        listed = [msgspec.to_builtins(each) | {"time": rfc3339(each.time)} for each in found]
        output.write_json(listed)
        return
    if not found:
        output.hint("no operations on record")
        return
    output.table(COLUMNS, [_row(each) for each in found])


async def latest(redis: Redis, stream: str, limit: int) -> list[Operation]:
    """The last `limit` operations, oldest first."""
    found: list[Operation] = []
    end = "+"
    while len(found) < limit:
        rows = await redis.execute_command("XREVRANGE", stream, end, "-", "COUNT", _PAGE)
        for entry_id, fields in rows:
            entry = CODEC.entry(stream, entry_id.decode(), tuple(fields))
            known = (_operation(each.at_ms, each.event) for each in reversed(entry.messages))
            found += [each for each in known if each is not None]
        if len(rows) < _PAGE:
            break
        end = f"({rows[-1][0].decode()}"
    return found[:limit][::-1]


def _operation(time: int, event: Any) -> Operation | None:
    if isinstance(event, OperatorActed):
        return Operation(time, event.who, event.action, event.subject, event.detail, event.removed)
    if isinstance(event, RoleStarted):
        detail = {"version": event.version}
        return Operation(time, event.name, "role.started", event.role, detail)
    return None


def _row(each: Operation) -> list[str]:
    detail = ", ".join(f"{name}: {value}" for name, value in each.detail.items())
    return [moment(rfc3339(each.time)), each.who, each.action, each.subject, detail]
