"""Commands of those who operate a deployment: `dead-letters`, `operations`, `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cyclopts import App

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.dead_letters import dead_letters
from carbon_orchestrator.cli.faults import DONE, NOT_WELL, UNREACHABLE, Failure
from carbon_orchestrator.cli.operations import operations
from carbon_orchestrator.cli.output import STATES, Column, Json
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import Data, ServerUrl, topology, with_server
from carbon_orchestrator.config import load
from carbon_orchestrator.server_url import shown

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from carbon_orchestrator.doctor import Check


def register(app: App) -> None:
    """Add these commands."""
    app.command(dead_letters)
    app.command(operations)
    app.command(doctor)


def doctor(
    *,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Examine the deployment: the server's settings, clocks, consumers, backlog, signal.

    The status is 0 if nothing failed, 1 if a check failed, 3 if the server cannot be reached.
    """
    from carbon_orchestrator.doctor import Check, examine, gather

    url, loaded = redis_url(redis, data), load(config)

    async def use(client: Redis) -> list[Check]:
        return examine(await gather(client, topology(loaded), loaded))

    try:
        checks = run_async(lambda: with_server(url, use))
    except Failure as failure:
        if json and failure.status == UNREACHABLE:
            output.write_json([{"name": "reachable", "status": "fail", "detail": str(failure)}])
        raise
    checks.insert(0, Check("reachable", "ok", shown(url)))
    failed = any(check.status == "fail" for check in checks)
    if json:
        output.write_json([msgspec.to_builtins(check) for check in checks])
    else:
        output.table(CHECK_COLUMNS, [_check_row(check) for check in checks])
    return NOT_WELL if failed else DONE


CHECK_COLUMNS = (
    Column("status", styles=STATES),
    Column("check"),
    Column("result", flexible="wraps"),
)


def _check_row(check: Check) -> list[str]:
    remedy = f"\n→ {check.remedy}" if check.remedy else ""
    return [check.status, check.name, check.detail + remedy]
