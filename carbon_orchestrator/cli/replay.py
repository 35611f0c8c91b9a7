"""`replay`: what was recorded, archived or live, shown or published again."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import msgspec
from cyclopts import Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import NOT_WELL, USAGE, Failure
from carbon_orchestrator.cli.output import Json
from carbon_orchestrator.cli.progress import progress
from carbon_orchestrator.cli.quantities import moment
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import (
    Data,
    PartitionNumber,
    ServerUrl,
    numbers,
    topology,
    with_server,
)
from carbon_orchestrator.clock import GridClock, from_fields, parse_time, wall_ms
from carbon_orchestrator.config import Config, load
from carbon_orchestrator.durations import milliseconds
from carbon_orchestrator.server_url import LOGIN, same_server
from carbon_orchestrator.topology import CODEC, Topology
from streams.archive import Archive, ArchiveError
from streams.commit import Committer
from streams.event import entry_order
from streams.history import BEGIN, History, last_of_ms
from streams.lines import lines_of
from streams.seals import SEALS

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from carbon_orchestrator.replaying import Recorded, Selection

_SUBMISSIONS = ("jobs.urgent", "jobs")
_TOGETHER = 200
_SHOWN_SECONDS = 0.5

Several = Parameter(negative="")


class Target(msgspec.Struct, frozen=True):
    """Where to publish: a stream by its name, and the deployment that it is of."""

    stream: str
    url: str
    topology: Topology
    speed: float | None
    environment: Mapping[str, str]  # what completes the URL


def replay(
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    stream: Annotated[list[str] | None, Several] = None,
    type_: Annotated[list[str] | None, Several, Parameter(name="--type")] = None,
    job: str | None = None,
    project: str | None = None,
    limit: int | None = None,
    publish_to: str | None = None,
    target: str | None = None,
    target_namespace: str | None = None,
    speed: float | None = None,
    archive: Path | None = None,
    archive_only: Annotated[bool, Parameter(negative="")] = False,
    partition: PartitionNumber = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show what was recorded, or publish it elsewhere.

    Archive and live streams are one, in the order in which it came.

    With --publish-to jobs a test deployment is fed with jobs that once were: each is submitted as
    of now, a deadline that was a point in time is as far away as it was then, and its id stays, so
    that a job published twice runs once. Types that the target does not know are rejected there.
    Other events are published as they stand.

    Parameters
    ----------
    from_
        Wall time to begin at, such as 2026-01-31T18:00Z, or how long ago: 2h, 7d.
    to
        Wall time to end with, likewise; by default all there is.
    stream
        A name such as jobs, completions or dispatch.fast; may be repeated. By default all but the
        seals; with --publish-to those of submissions, or the one of that name.
    type_
        A type of events, such as job.completed; may be repeated.
    job
        Only what is about this job.
    project
        Only events of this project, and of jobs whose submission is among what is read.
    limit
        End after so many events.
    publish_to
        Name of the target's stream to publish to.
    target
        URL of the target's stream server; by default the same server. The login of the record's
        server is not sent to another one: it stands in this URL.
    target_namespace
        The target's namespace; by default the same.
    speed
        Publish in the rhythm of the record, so many times faster; by default at once.
    archive
        The archive's directory; by default as configured, else the data directory's "archive".
    archive_only
        Read the archive alone, without a server.
    json
        Print a line of JSON for each event, as the archive has it.
    """
    loaded = load(config)
    if (limit is not None and limit < 1) or (speed is not None and not 0 < speed <= 1e9):
        raise Failure("--limit and --speed must be above 0", USAGE)
    if publish_to is None and (target or target_namespace or speed is not None):
        raise Failure("--target, --target-namespace and --speed need --publish-to", USAGE)
    goal = None
    url = None if archive_only else redis_url(redis, data)
    names = topology(loaded, _number(url, loaded, partition))
    if publish_to is not None:
        goal = _goal(loaded, publish_to, target, url, target_namespace, speed)
    selection = _selection(names, from_, to, stream, type_, job, project, goal)
    folder = archive or _archive_directory(loaded, data)

    async def use(client: Redis | None) -> None:
        history = History(client, Archive(folder, names.partition), names.partition)
        events = _limited(history, selection, limit)
        try:
            if goal is None:
                await _show(events, selection, json)
            else:
                await _publish(history, events, selection, goal)
        except BrokenPipeError:
            return  # whoever read what is shown has seen enough
        except ArchiveError as error:
            hint = "" if folder.is_dir() else f" (there is no {folder}: name it with --archive)"
            raise Failure(f"{error}{hint}", NOT_WELL) from None

    if url is None:
        run_async(lambda: use(None))
    else:
        run_async(lambda: with_server(url, use, partition=names.partition.number))


def _number(url: str | None, config: Config, given: int | None) -> int:
    """The partition whose record is replayed. Raises Failure where it has to be named."""
    if url is None:
        return given or 0
    found: list[int] = run_async(lambda: numbers(url, config, given))
    if len(found) > 1:
        raise Failure("one partition at a time is replayed: name it with --partition", USAGE)
    return found[0]


def _archive_directory(config: Config, data: Path | None) -> Path:
    from carbon_orchestrator.accounting.record_keeping import archive_directory

    return archive_directory(config, data)


def _goal(
    config: Config,
    stream: str,
    target: str | None,
    source: str | None,
    namespace: str | None,
    speed: float | None,
) -> Target:
    url = target or source
    if url is None:
        raise Failure("--publish-to needs --target with --archive-only", USAGE)
    there = topology(msgspec.structs.replace(config, namespace=namespace or config.namespace))
    _check_names("--publish-to", [stream], there)
    # $CARBON_REDIS_PASSWORD is of the server that the record is read from, where there is one.
    here = source is None or same_server(url, source)
    environment = {name: value for name, value in os.environ.items() if here or name not in LOGIN}
    return Target(stream, url, there, speed, environment)


def _selection(
    names: Topology,
    from_: str | None,
    to: str | None,
    streams: list[str] | None,
    types: list[str] | None,
    job: str | None,
    project: str | None,
    goal: Target | None,
) -> Selection:
    from carbon_orchestrator.replaying import Selection

    if streams:
        _check_names("--stream", streams, names)
        chosen = tuple(dict.fromkeys(streams))
    elif goal is None:
        chosen = tuple(name for name in _names(names) if name != SEALS)
    else:
        chosen = _SUBMISSIONS if goal.stream in _SUBMISSIONS else (goal.stream,)
    for each in types or ():
        if each not in CODEC.event_types:
            known = ", ".join(sorted(CODEC.event_types))
            raise Failure(f"--type {each}: no such type; known are {known}", USAGE)
    begin, end = wall_time("--from", from_), wall_time("--to", to)
    return Selection(
        streams=chosen,
        types=frozenset(types or ()),
        job=job,
        project=project,
        after=BEGIN if not begin else last_of_ms(begin - 1),
        until=None if end is None else last_of_ms(end),
    )


def _names(names: Topology) -> list[str]:
    return [names.partition.name(stream) for stream in names.streams]


def _check_names(option: str, given: list[str], names: Topology) -> None:
    known = _names(names)
    for each in given:
        if each not in known:
            raise Failure(f"{option} {each}: no such stream; known are {', '.join(known)}", USAGE)


def wall_time(option: str, text: str | None) -> int | None:
    """Wall ms of a time, or of so long ago."""
    if text is None:
        return None
    try:
        if re.match(r"\d{4}-", text):
            return max(0, parse_time(text))
        return wall_ms() - milliseconds(text)
    except ValueError as error:
        raise Failure(f"{option}: {error}; or a time such as 2026-01-31T18:00Z", USAGE) from None


async def _limited(
    history: History, selection: Selection, limit: int | None
) -> AsyncIterator[Recorded]:
    from carbon_orchestrator.replaying import select

    count = 0
    async for recorded in select(history, selection):
        yield recorded
        count += 1
        if count == limit:
            return


# -- showing -------------------------------------------------------------------------------------


async def _show(events: AsyncIterator[Recorded], selection: Selection, json: bool) -> None:
    """Lines as they come, some at a time."""
    line = _JsonLine() if json else _text_line
    lines: list[str] = []
    written = time.monotonic()
    with _bar(selection, "read") as tell:
        async for recorded in events:
            lines.append(line(recorded))
            if len(lines) >= _TOGETHER or time.monotonic() - written > _SHOWN_SECONDS:
                output.write("\n".join(lines))
                lines, written = [], time.monotonic()
                tell(recorded)
    if lines:
        output.write("\n".join(lines))


class _JsonLine:
    """A line as the archive has it; those of one entry are made together."""

    def __init__(self) -> None:
        self._entry: tuple[str, str] | None = None
        self._lines: list[bytes] = []

    def __call__(self, recorded: Recorded) -> str:
        entry = (recorded.stream, recorded.entry_id)
        if entry != self._entry:
            self._entry, self._lines = entry, lines_of(*entry, recorded.fields)
        text = self._lines[recorded.index if len(self._lines) > 1 else 0].decode()
        return output.printable(text) if output.on_terminal() else text


def _text_line(recorded: Recorded) -> str:
    from carbon_orchestrator.cli.event_text import gist
    from streams.lines import rfc3339 as time_of

    message = recorded.message
    kind = "cannot be decoded" if message is None else message.event.event_type
    said = recorded.fault if message is None else gist(message.event)
    when = moment(time_of(recorded.entry_id))
    about = recorded.job_id or "-"
    return output.printable(f"{when}  {recorded.stream:<20}  {kind:<20}  {about:<28}  {said}")


@contextmanager
def _bar(selection: Selection, what: str) -> Iterator[_Teller]:
    """A bar for a person who does not see the lines themselves."""
    end = wall_ms() if selection.until is None else entry_order(selection.until)[0]
    if output.on_terminal() and what == "read":
        yield _Teller(None, what, end)
        return
    with progress() as tell:
        yield _Teller(tell, what, end)


class _Teller:
    """Says how far an event is, between the first and the end."""

    def __init__(self, tell: object, what: str, end: int) -> None:
        self._tell = tell
        self._what = what
        self._end = end
        self._first: int | None = None

    def __call__(self, recorded: Recorded) -> None:
        ms = entry_order(recorded.entry_id)[0]
        self._first = ms if self._first is None else self._first
        if callable(self._tell):
            self._tell(self._what, min(1.0, (ms - self._first) / max(1, self._end - self._first)))


# -- publishing ----------------------------------------------------------------------------------


async def _publish(
    history: History, events: AsyncIterator[Recorded], selection: Selection, goal: Target
) -> None:
    """Publish what is chosen; says how much, however it ends."""
    from carbon_orchestrator.republishing import Publishing

    async def use(client: Redis) -> None:
        await _refuse_the_same(history, selection, goal, client)
        clock = GridClock()
        if history.redis is not None:
            names = Topology(history.partition)
            clock = from_fields(await history.redis.hgetall(names.clock))
        there = from_fields(await client.hgetall(goal.topology.clock))
        committer = Committer(client, goal.topology.partition)
        stream = goal.topology.partition.key(goal.stream)
        publishing = Publishing(committer, stream, clock, there, goal.speed)
        try:
            with _bar(selection, "published") as tell:
                async for recorded in events:
                    await publishing.add(recorded)
                    tell(recorded)
                await publishing.flush()
        finally:
            with anyio.CancelScope(shield=True):
                await publishing.end()
            output.hint(f"{publishing.published} events published to {goal.stream}")
            if publishing.undecodable:
                output.hint(f"{publishing.undecodable} left out that cannot be decoded")

    await with_server(goal.url, use, goal.environment)


async def _refuse_the_same(
    history: History, selection: Selection, goal: Target, client: Redis
) -> None:
    """Raises Failure where what is published would be read again, without end."""
    if history.redis is None or goal.topology.partition != history.partition:
        return
    if goal.stream not in selection.streams:
        return
    here, there = [(await each.info("server")).get("run_id") for each in (history.redis, client)]
    if here == there:
        raise Failure(
            f"{goal.stream} would be published onto itself: name another deployment with --target"
            " or --target-namespace",
            USAGE,
        )
