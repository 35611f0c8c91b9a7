"""All of an audit: its two parts, each in a process of its own, and what they found together."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Literal

import msgspec
from anyio import to_thread
from redis.asyncio import Redis

from carbon_orchestrator.audit.findings import Findings, Kind, Tally
from carbon_orchestrator.audit.jobs import Progress, check_jobs
from carbon_orchestrator.audit.reading import (
    COMPLETIONS,
    DEFERRALS,
    EMISSIONS,
    JOBS,
    Source,
    before,
    reading,
)
from carbon_orchestrator.audit.sizes import check_sizes
from carbon_orchestrator.audit.sums import check_seals, check_sums
from carbon_orchestrator.topology import ROUTER
from streams.archive import ArchiveError
from streams.errors import is_transient
from streams.history import BEGIN, last_of_ms
from streams.inspection import pending_ids
from streams.keys import Partition
from streams.proof import Head
from streams.seals import SEALS, SegmentSealed, seal_hash

Part = Literal["jobs", "sums"]
PARTS: tuple[Part, ...] = ("jobs", "sums")
#: Told of a part and how many more of its entries are done.
Tell = Callable[[Part, int], None]
_MOST_PENDING = 100_000
#: So many entries at once are told of by a process.
_TOLD = 5000


class Task(msgspec.Struct, frozen=True):
    """One part of an audit. `cut`: up to where all streams are read that jobs are told by, and how
    far routers were then; None without a server, or up to `source.until`."""

    part: Part
    source: Source
    cut: str | None = None
    routers: Progress | None = None
    noted: Head | None = None


class Result(msgspec.Struct):
    """What a part found; `head`: of the chain of seals. `failed`: why it was not done."""

    tallies: dict[Kind, Tally] = {}
    head: Head | None = None
    failed: str | None = None
    unreachable: bool = False


class AuditFailed(Exception):
    """The audit could not be made. `unreachable`: for want of the server."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


async def perform(task: Task, tell: Callable[[int], None]) -> Result:
    """Do one part."""
    findings = Findings()
    head = None
    source = task.source
    if task.part == "jobs" and task.cut is not None:
        source = msgspec.structs.replace(source, until=task.cut)
    async with reading(source) as view:
        try:
            if task.part == "sums" and not source.late and source.until is None:
                await view.prepare(intensities=False)
                head = (await check_seals(view, findings, task.noted)).head
            elif task.part == "sums":
                findings.skip("seals", "they are of all times, not of a part")
            await view.prepare()
            if task.part == "jobs":
                await check_jobs(view, findings, task.routers, tell)
                await check_sizes(view, findings)
            else:
                await check_sums(view, findings, tell)
        except ArchiveError as error:
            kind: Kind = "histories" if task.part == "jobs" else "figures"
            findings.find(kind, f"the record cannot be read on: {error}")
    return Result(findings.tallies, head)


async def _attempt(task: Task, tell: Callable[[int], None]) -> Result:
    """`perform`, with what it raises put into words."""
    try:
        return await perform(task, tell)
    except Exception as error:
        why = str(error) or type(error).__name__
        return Result(failed=f"{task.part}: {why}", unreachable=is_transient(error))


async def moment(redis: Redis, partition: Partition) -> tuple[str, Progress]:
    """The end of the present millisecond, when it is over, and how far routers were before."""
    keys = [partition.key(stream) for stream in JOBS]
    async with redis.pipeline(transaction=True) as pipeline:
        for key in keys:
            pipeline.execute_command("XINFO", "GROUPS", key)
            pipeline.xpending_range(key, ROUTER, "-", "+", _MOST_PENDING)
        pipeline.time()
        rows: Any = await pipeline.execute(raise_on_error=False)
    progress: Progress = {}
    for number, stream in enumerate(JOBS):
        groups, pending = rows[2 * number : 2 * number + 2]
        if isinstance(groups, Exception) or isinstance(pending, Exception):
            continue  # nobody has made the stream or its group yet
        for row in groups:
            named = dict(zip(row[::2], row[1::2], strict=True))
            if named[b"name"] == ROUTER.encode():
                progress[stream] = named[b"last-delivered-id"].decode(), pending_ids(pending)
    now = _ms(rows[-1])
    while _ms(await redis.time()) <= now:
        await asyncio.sleep(0.001)
    return last_of_ms(now), progress


def _ms(time: Any) -> int:
    if isinstance(time, Exception):
        raise time
    return int(time[0]) * 1000 + int(time[1]) // 1000


async def verify(source: Source, noted: Head | None, tell: Tell, *, apart: bool = True) -> Result:
    """All parts, each in a process of its own, or (not `apart`) one after the other in this one.
    Raises AuditFailed."""
    cut, routers = None, None
    if source.url is not None and source.until is None:
        async with reading(source) as view:
            assert view.redis is not None
            cut, routers = await moment(view.redis, source.partition)
    tasks = [Task(part, source, cut, routers, noted) for part in PARTS]
    if apart:
        results = await asyncio.gather(*(_apart(task, tell) for task in tasks))
    else:
        results = [await _attempt(task, _teller(task.part, tell)) for task in tasks]
    findings, head = Findings(), None
    for result in results:
        if result.failed is not None:
            raise AuditFailed(result.failed, unreachable=result.unreachable)
        findings.add(result.tallies)
        head = head or result.head
    return Result(findings.tallies, head)


async def sizes(source: Source) -> dict[Part, int]:
    """About how many entries each part has to go over, for telling how far it has come."""
    counts: dict[Part, int] = {"jobs": 0, "sums": 0}
    async with reading(source) as view:
        await view.prepare(intensities=False)
        for stream in [*JOBS, DEFERRALS, *await view.dispatches(), COMPLETIONS, EMISSIONS]:
            count = await view.size(stream)
            counts["jobs"] += count
            counts["sums"] += count * (stream in (COMPLETIONS, EMISSIONS))
    return counts


async def head(source: Source) -> tuple[Head, int] | None:
    """The last seal, and when it was made, wall ms; None where nothing is sealed."""
    async with reading(source) as view:
        last: tuple[Head, int] | None = None
        after = BEGIN
        if view.redis is not None:
            rows: Any = await view.redis.xrevrange(source.partition.key(SEALS), count=1)
            after = before(rows[0][0].decode()) if rows else BEGIN
        async for message in view.messages(SEALS, after=after):
            if isinstance(message.event, SegmentSealed):
                last = Head(message.event.number, seal_hash(message.event)), message.at_ms
        return last


def _teller(part: Part, tell: Tell) -> Callable[[int], None]:
    return lambda count: tell(part, count)


async def _apart(task: Task, tell: Tell) -> Result:
    """Do one part in a process of its own, which ends when this is cancelled."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, task))
    process.daemon = True
    process.start()
    theirs.close()
    try:
        while True:
            try:
                said = await to_thread.run_sync(ours.recv, abandon_on_cancel=True)
            except EOFError:
                raise AuditFailed(f"the part that checks {task.part} ended early") from None
            if isinstance(said, Result):
                return said
            tell(task.part, said)
    finally:
        if process.is_alive():
            process.terminate()
        await to_thread.run_sync(process.join, 5)
        ours.close()


def _child(pipe: Connection, task: Task) -> None:
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if done >= _TOLD:
            pipe.send(done)
            done = 0

    gc.set_threshold(100_000, 50, 100)  # a full collection goes over all jobs under way
    with suppress(KeyboardInterrupt):
        result = asyncio.run(_attempt(task, tell))
        pipe.send(done)
        pipe.send(result)
