"""`watch`: what happens, as it happens: a screen on a terminal, lines in a pipe, or JSON."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from carbon_orchestrator.cli import event_text, output
from carbon_orchestrator.cli.faults import DONE, INTERRUPTED
from carbon_orchestrator.cli.gateway_options import (
    DEFAULT_URL,
    ApiKeyFile,
    Url,
    async_client,
    gateway_client,
)
from carbon_orchestrator.client.errors import Forbidden, OrchestratorError, Unavailable

if TYPE_CHECKING:
    from carbon_orchestrator import Client
    from carbon_orchestrator.cli.watch_view import Seen

_LOOK_SECONDS = 2.0
_HISTORY_SECONDS = 60.0
_FRAMES_A_SECOND = 4
_AWAY_SECONDS = 2.0
#: What is decided and done; not what comes as surely as the next half hour.
_SHOWN = (
    "job.submitted",
    "job.cancel_requested",
    "job.deferred",
    "job.suspend_requested",
    "job.stop_requested",
    "job.rejected",
    "job.cancelled",
    "job.dispatched",
    "job.started",
    "job.completed",
    "job.failed",
    "job.suspended",
    "pool.scaled",
    "operator.acted",
    "role.started",
    "dead_letter",
)


def watch(
    *,
    kind: Annotated[list[str] | None, Parameter(name="--type", negative="")] = None,
    job: str | None = None,
    project: str | None = None,
    after: str | None = None,
    json: Annotated[
        bool, Parameter(negative="", show_default=False, help="print events, JSON, one a line")
    ] = False,
    url: Url = DEFAULT_URL,
    api_key_file: ApiKeyFile = None,
) -> int:
    """Watch live: the grid, pools, streams, latest decisions.

    In a pipe, and where events are chosen, events are printed, one a line. q or Ctrl-C ends it.

    Parameters
    ----------
    kind
        Only events of these types, such as job.completed; several by commas, or again.
    job
        Only events of this job.
    project
        Only events of this project.
    after
        From this position on: `position` in an earlier --json line.
    """
    chosen = bool(kind or job or project or after)
    if not json and not chosen and output.interactive():
        return asyncio.run(_screen(async_client(url, api_key_file)))
    client = gateway_client(url, api_key_file, patience=60)
    for each in client.events(",".join(kind or ()), job=job, project=project, after=after):
        if json:
            output.write(msgspec.json.encode(each).decode())
        else:
            output.write(output.printable("  ".join(event_text.line(each))))
    return DONE


async def _screen(client: Client) -> int:
    """Until q is pressed, or a signal comes. Raises OrchestratorError if there is no gateway."""
    from rich.console import Group
    from rich.live import Live

    from carbon_orchestrator.cli.keyboard import pressed
    from carbon_orchestrator.cli.watch_view import Seen, grid_now, lines

    seen = Seen(client.url)
    heard = time.monotonic()
    status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(with_status: int) -> None:
        if not status.done():
            status.set_result(with_status)

    def shown() -> Group:
        width, height = console.size
        now = grid_now(seen, time.monotonic() - heard)
        return Group(*lines(seen, now, width, height))

    async def look() -> None:
        nonlocal heard
        while True:
            try:
                await _look(client, seen)
                heard, seen.away = time.monotonic(), ""
            except Unavailable as error:
                seen.away = str(error)
            await asyncio.sleep(_LOOK_SECONDS)

    console = output.console()
    async with client:
        await _look(client, seen)  # whatever is wrong at first is told, not shown
        heard = time.monotonic()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end, INTERRUPTED)
        work: list[Coroutine[Any, Any, None]] = [look(), _events(client, seen), _past(client, seen)]
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            with (
                pressed(lambda key: end(DONE) if key in "qQ\x1b" else None),
                Live(
                    get_renderable=shown,
                    console=console,
                    screen=True,
                    refresh_per_second=_FRAMES_A_SECOND,
                ),
            ):
                first: list[asyncio.Future[Any]] = [status, *tasks]
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each
    return await status


async def _look(client: Client, seen: Seen) -> None:
    """Ask for all but the events."""
    seen.grid = await client.get("/carbon")
    try:
        seen.overview = await client.get("/overview")
        seen.pools = (await client.get("/pools"))["pools"]
    except Forbidden:  # of one project only
        seen.overview = None
    health = await client.get("/health")
    seen.streams, seen.missing = health.get("streams", ()), health.get("no_consumers", ())


async def _past(client: Client, seen: Seen) -> None:
    while True:
        try:
            seen.past = (await client.get("/carbon/history"))["points"]
        except Unavailable as error:
            seen.away = str(error)
        await asyncio.sleep(_HISTORY_SECONDS)


async def _events(client: Client, seen: Seen) -> None:
    position: str | None = None
    while True:
        try:
            async with aclosing(client.events(_SHOWN, after=position)) as events:
                async for each in events:
                    position = each.position or position
                    seen.events.append(each)
        except Unavailable as error:
            seen.away = str(error)
        except OrchestratorError as error:
            if error.status not in (422, 429):
                raise
            seen.away, position = str(error), None
        await asyncio.sleep(_AWAY_SECONDS)
