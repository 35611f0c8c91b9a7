"""Commands that check the record: `audit verify`, `audit rebuild`, `audit head`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import DONE, NOT_WELL, UNREACHABLE, USAGE, Failure
from carbon_orchestrator.cli.output import Column, Json
from carbon_orchestrator.cli.progress import progress
from carbon_orchestrator.cli.replay import wall_time
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import (
    Data,
    PartitionNumber,
    ServerUrl,
    numbers,
    topology,
    with_server,
)
from carbon_orchestrator.clock import rfc3339
from carbon_orchestrator.config import load
from carbon_orchestrator.server_url import completed, shown

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from carbon_orchestrator.audit.findings import Tally
    from carbon_orchestrator.audit.reading import Source
    from carbon_orchestrator.audit.verify import Result
    from streams.proof import Head

audit = App(
    name="audit",
    help="Check the record: recompute all that follows from it.",
)

ArchiveDirectory = Annotated[
    Path | None,
    Parameter(help="the archive's directory; by default as configured, or the data directory's"),
]
ArchiveOnly = Annotated[
    bool, Parameter(negative="", help="read the archive alone, without a server")
]
_HEAD = re.compile(r"\s*(\d{1,15}):([0-9a-f]{64})\b")
#: With fewer entries to go over, processes of their own take longer to start than to work.
_WORTH_PROCESSES = 20_000
_PARTS = {"jobs": "decisions, job histories", "sums": "seals, figures, totals"}
COLUMNS = (
    Column("what"),
    Column("checked", right=True),
    Column("equal", right=True),
    Column("diverging", right=True),
    Column("not checked", flexible="wraps"),
)


@audit.command
def verify(
    *,
    head: Annotated[str | None, Parameter(help="a seal noted down: NUMBER:HASH, or a file")] = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    archive: ArchiveDirectory = None,
    archive_only: ArchiveOnly = False,
    partition: PartitionNumber = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Recompute what is on record and compare: exact equality, while everything goes on.

    Seals: no entry was altered, deleted, inserted or moved. Decisions: the policy that decided
    decides the same from the inputs on record. Submissions: accepted or rejected as configured.
    Histories: every job's events follow from one another. Figures: emissions and baselines from
    energy and intensities. Totals: the sums of all events that accounting has counted.

    Exit status 1 if anything diverges, each kind's first divergences told with both values.

    Parameters
    ----------
    from_
        Wall time to begin at, such as 2026-01-31T18:00Z, or how long ago: 2h, 7d. Seals and totals
        are of all times, and left out then.
    to
        Wall time to end with, likewise.
    """
    sources = _sources(archive, archive_only, redis, data, config, partition, from_, to)
    if head is not None and len(sources) > 1:
        raise Failure("--head is of one partition: name it with --partition", USAGE)
    noted = None if head is None else _noted(head)
    results = [_run(each, partial(_verified, each, noted)) for each in sources]
    if json:
        found = [msgspec.to_builtins(each) | {"diverging": _diverging(each)} for each in results]
        output.write_json(_of_partitions(sources, found))
    else:
        for source, result in zip(sources, results, strict=True):
            if len(sources) > 1:
                output.title(f"partition {source.partition.number}")
            _show(result)
    return NOT_WELL if any(map(_diverging, results)) else DONE


@audit.command
def rebuild(
    *,
    into: Annotated[str, Parameter(help="URL of an empty Redis")],
    into_namespace: Annotated[
        str | None, Parameter(help="write under this namespace, which is to be empty")
    ] = None,
    compare: Annotated[bool, Parameter(help="compare with the live deployment")] = True,
    archive: ArchiveDirectory = None,
    archive_only: ArchiveOnly = False,
    partition: PartitionNumber = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Rebuild job records, indexes and totals from the events alone, and compare.

    Everything has to be equal, but for what no event tells: the tail of an attempt's output, when
    a router looks at a plan again, and the digest of a submission with an Idempotency-Key. Jobs
    that move on meanwhile are not compared; records that have expired are not made.

    Exit status 1 if anything differs.
    """
    from carbon_orchestrator.audit.comparing import rebuild_and_compare
    from carbon_orchestrator.audit.rebuild import NotEmpty
    from carbon_orchestrator.audit.verify import sizes

    sources = _sources(archive, archive_only, redis, data, config, partition, None, None)
    if len(sources) > 1:
        raise Failure("one partition at a time is rebuilt: name it with --partition", USAGE)
    (source,) = sources
    target = completed(into)

    async def main() -> Any:
        with progress() as tell:
            total = (await sizes(source))["jobs"] if tell is not None else 0
            done = 0

            def more(count: int) -> None:
                nonlocal done
                done += count
                if tell is not None:
                    tell("records and totals", min(done / max(total, 1), 1.0))

            async def build(client: Redis) -> Any:
                await client.time()
                return await rebuild_and_compare(
                    source, target, into_namespace, compared=compare, tell=more
                )

            number = source.partition.number
            return await with_server(target, build, partition=number)

    try:
        rebuilt = _run(source, main)
    except NotEmpty as error:
        raise Failure(f"--into {shown(target)}: {error}", USAGE) from None
    result: Result = rebuilt.result
    if json:
        counts = {"records": rebuilt.records, "expired": rebuilt.expired}
        found = msgspec.to_builtins(result.tallies)
        output.write_json({**counts, "tallies": found, "diverging": _diverging(result)})
    else:
        _show(result)
        output.note(f"{rebuilt.records} records written; of {rebuilt.expired} jobs they expired")
    return NOT_WELL if _diverging(result) else DONE


@audit.command(name="head")
def head_(
    *,
    archive: ArchiveDirectory = None,
    archive_only: ArchiveOnly = False,
    partition: PartitionNumber = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Print the last seal. Kept elsewhere, it shows whether anything sealed until then changed:
    `audit verify --head` checks it."""
    from carbon_orchestrator.audit.verify import head

    sources = _sources(archive, archive_only, redis, data, config, partition, None, None)
    found = [_run(each, partial(head, each)) for each in sources]
    if None in found:
        raise Failure("nothing is sealed yet; accounting does it every few seconds")
    if json:
        heads = [
            {"number": seal.number, "hash": seal.hash, "time": rfc3339(at)} for seal, at in found
        ]
        output.write_json(_of_partitions(sources, heads))
        return
    for source, (seal, at) in zip(sources, found, strict=True):
        of = f"  partition {source.partition.number}" if len(sources) > 1 else ""
        output.write(f"{seal.number}:{seal.hash}  {rfc3339(at)}{of}")


def _sources(
    archive: Path | None,
    archive_only: bool,
    redis: str | None,
    data: Path | None,
    config: Path | None,
    partition: int | None,
    from_: str | None,
    to: str | None,
) -> list[Source]:
    """The record of each partition, or of the one that is given."""
    from carbon_orchestrator.accounting.record_keeping import archive_directory
    from carbon_orchestrator.audit.reading import Source
    from streams.history import BEGIN, last_of_ms

    loaded = load(config)
    begin, end = wall_time("--from", from_), wall_time("--to", to)
    url, folder = redis_url(redis, data), archive or archive_directory(loaded, data)
    if not archive_only:
        found = run_async(partial(numbers, url, loaded, partition))
    else:
        found = _archived(folder, loaded.namespace) if partition is None else [partition]
    return [
        Source(
            topology(loaded, number).partition,
            None if archive_only else completed(url),
            folder,
            BEGIN if not begin else last_of_ms(begin - 1),
            None if end is None else last_of_ms(end),
        )
        for number in found
    ]


def _archived(folder: Path, namespace: str) -> list[int]:
    """The partitions that have an archive there; the first at any rate."""
    suffixes = (path.name.removeprefix(f"{namespace}.") for path in folder.glob(f"{namespace}.*"))
    return sorted({0, *(int(each) for each in suffixes if each.isdecimal())})


def _of_partitions(sources: Sequence[Source], found: Sequence[dict[str, Any]]) -> Any:
    """What was found, as JSON; where there are several partitions, a list with their numbers."""
    if len(sources) == 1:
        return found[0]
    return [
        {"partition": source.partition.number, **each}
        for source, each in zip(sources, found, strict=True)
    ]


def _run(source: Source, main: Callable[[], Any]) -> Any:
    """Run it once the server has answered, where there is one."""
    from streams.archive import ArchiveError

    async def reachable(client: Redis) -> Any:
        await client.time()
        return await main()

    try:
        if source.url is None:
            return run_async(main)
        url = source.url
        number = source.partition.number
        return run_async(lambda: with_server(url, reachable, partition=number))
    except ArchiveError as error:
        there = source.archive is not None and source.archive.is_dir()
        hint = "" if there else f" (there is no {source.archive}: name it with --archive)"
        raise Failure(f"{error}{hint}") from None


def _noted(given: str) -> Head:
    """A seal as `audit head` prints it, or a file that begins with one."""
    from streams.proof import Head

    text = given
    if not _HEAD.match(text):
        try:
            text = Path(given).read_text("utf-8", "replace")
        except OSError as error:
            why = error.strerror or str(error)
            raise Failure(
                f"--head {given}: neither NUMBER:HASH nor a file ({why})", USAGE
            ) from None
        if text.lstrip().startswith("{"):
            try:
                return msgspec.json.decode(text, type=Head)
            except msgspec.DecodeError as error:
                raise Failure(f"--head {given}: {error}", USAGE) from None
    found = _HEAD.match(text)
    if found is None:
        raise Failure(f"--head {given}: does not begin with NUMBER:HASH", USAGE)
    return Head(int(found[1]), found[2])


async def _verified(source: Source, noted: Head | None) -> Result:
    from carbon_orchestrator.audit.verify import AuditFailed, Part, sizes, verify

    totals = await sizes(source)
    with progress() as tell:
        done: dict[str, int] = {}

        def more(part: Part, count: int) -> None:
            done[part] = done.get(part, 0) + count
            if tell is not None:
                tell(_PARTS[part], min(done[part] / max(totals[part], 1), 1.0))

        try:
            return await verify(source, noted, more, apart=sum(totals.values()) > _WORTH_PROCESSES)
        except AuditFailed as error:
            status = UNREACHABLE if error.unreachable else NOT_WELL
            raise Failure(f"the audit could not be made: {error}", status) from None


def _diverging(result: Result) -> int:
    return sum(tally.diverging for tally in result.tallies.values())


def _show(result: Result) -> None:
    output.table(
        COLUMNS,
        [_row(kind, tally) for kind, tally in result.tallies.items() if _any(tally)],
    )
    for kind, tally in result.tallies.items():
        if tally.first:
            output.title(f"{kind}: {tally.diverging} diverging; the first of them")
            for each in tally.first[:5]:
                place = each.place
                where = "" if place is None else f"{place.stream} {place.entry}/{place.index}"
                output.facts(
                    [
                        ("what", each.what),
                        ("where", where),
                        ("job", (place.job if place is not None else None) or ""),
                        ("expected", each.expected or ""),
                        ("found", each.found or ""),
                    ]
                )
    if result.head is not None:
        output.note(f"last seal: {result.head.number}:{result.head.hash}")


def _any(tally: Tally) -> bool:
    return bool(tally.checked or tally.diverging or tally.unchecked)


def _row(kind: str, tally: Tally) -> list[str]:
    skipped = "\n".join(f"{count}: {why}" for why, count in sorted(tally.unchecked.items()))
    equal = max(tally.checked - tally.diverging, 0)
    return [kind, str(tally.checked), str(equal), str(tally.diverging), skipped]
