"""Commands on dead letters: `list`, `show`, `retry`, `drop`."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.faults import DONE, NOT_WELL, USAGE, Failure
from carbon_orchestrator.cli.output import Column, Json
from carbon_orchestrator.cli.quantities import duration
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import (
    PATIENCE_SECONDS,
    Data,
    ServerUrl,
    topology,
    with_server,
)
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import load
from carbon_orchestrator.topology import Topology
from streams.dead_letters import DeadLetter, DeadLetters

if TYPE_CHECKING:
    from redis.asyncio import Redis

All = Annotated[
    bool, Parameter(name="--all", negative="", help="every dead letter that is there now")
]


_LETTER_ID = re.compile(r"\d{1,20}-\d{1,20}")
_PAGE = 500
_MOST_LISTED = 100_000

dead_letters = App(name="dead-letters", help="Entries that nobody could process: see, retry, drop.")


def _on_letters(
    redis: str | None,
    data: Path | None,
    config: Path | None,
    use: Callable[[DeadLetters, Topology], Awaitable[Any]],
) -> Any:
    """Run `use` with the dead letters of the deployment."""
    from streams.commit import Committer

    names = topology(load(config))

    async def on_server(client: Redis) -> Any:
        committer = Committer(client, names.partition, patience=PATIENCE_SECONDS)
        return await use(DeadLetters(client, committer), names)

    return run_async(lambda: with_server(redis_url(redis, data), on_server))


async def _letters(letters: DeadLetters, most: int) -> list[DeadLetter]:
    """Up to `most` letters, oldest first."""
    found: list[DeadLetter] = []
    while len(found) < most:
        after = found[-1].id if found else "-"
        page = await letters.list(min(_PAGE, most - len(found)), after)
        found += page
        if not page:
            break
    return found


def _age(letter: DeadLetter, now: int) -> str:
    return duration(now - int(letter.id.partition("-")[0]))


def _name(stream: str) -> str:
    """A stream without namespace and partition."""
    return stream.rpartition("}:")[2]


def _escaped(value: bytes) -> str:
    """Bytes for a person: UTF-8 as it is, the rest as \\xNN."""
    return value.decode("utf-8", "backslashreplace")


def _fields(letter: DeadLetter) -> list[tuple[bytes, bytes]]:
    return list(zip(letter.fields[::2], letter.fields[1::2], strict=True))


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    """`fields` for reading; `fields_base64` has the very bytes."""
    plain: dict[str, Any] = msgspec.to_builtins(letter)
    plain["fields"] = [[_escaped(name), _escaped(value)] for name, value in _fields(letter)]
    plain["fields_base64"] = [
        [base64.b64encode(each).decode() for each in pair] for pair in _fields(letter)
    ]
    return plain


@dead_letters.command(name="list")
def list_(
    *,
    each: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 1000,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List dead letters, those of one stream and reason together.

    Parameters
    ----------
    each
        One line a letter instead.
    limit
        How many letters at most are looked at, the oldest first.
    """
    if not 1 <= limit <= _MOST_LISTED:
        raise Failure(f"--limit must be 1 to {_MOST_LISTED}", USAGE)

    async def use(letters: DeadLetters, names: Topology) -> list[DeadLetter]:
        return await _letters(letters, limit + 1)

    found = _on_letters(redis, data, config, use)
    shown, more = found[:limit], len(found) > limit
    if json:
        output.write_json({"dead_letters": [_as_json(each) for each in shown], "more": more})
        return
    if not shown:
        output.hint("no dead letters")
        return
    now = wall_ms()
    if each:
        output.table(
            LETTER_COLUMNS,
            [[one.id, _age(one, now), _name(one.stream), one.reason] for one in shown],
        )
    else:
        output.table(GROUP_COLUMNS, _groups(shown, now))
    if more:
        output.hint(f"there are more than {limit}; look at more with --limit")
    if output.on_terminal():
        output.note("see one with `dead-letters show ID`; all ids with `dead-letters list --each`")


LETTER_COLUMNS = (
    Column("id"),
    Column("age", right=True),
    Column("stream"),
    Column("reason", flexible="wraps"),
)
GROUP_COLUMNS = (
    Column("count", right=True),
    Column("stream"),
    Column("oldest", right=True),
    Column("newest", right=True),
    Column("such as"),
    Column("reason", flexible="wraps"),
)


def _groups(letters: Sequence[DeadLetter], now: int) -> list[list[str]]:
    """Rows of GROUP_COLUMNS, the largest first."""
    groups: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.stream, letter.reason), []).append(letter)
    return [
        [
            str(len(group)),
            _name(stream),
            _age(group[0], now),
            _age(group[-1], now),
            group[-1].id,
            reason,
        ]
        for (stream, reason), group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


@dead_letters.command
def show(
    letter_id: str,
    /,
    *,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show one dead letter: why it is here, and its original fields, bytes escaped.

    Parameters
    ----------
    letter_id
        Its id, as `dead-letters list` prints it.
    """
    _check_ids((letter_id,))

    async def use(letters: DeadLetters, names: Topology) -> DeadLetter | None:
        return await letters.get(letter_id)

    letter = _on_letters(redis, data, config, use)
    if letter is None:
        raise Failure(f"no dead letter {letter_id}")
    if json:
        output.write_json(_as_json(letter))
        return
    output.facts(
        [
            ("id", letter.id),
            ("reason", letter.reason),
            ("buried", f"{letter.time} ({_age(letter, wall_ms())} ago)"),
            ("stream", letter.stream),
            ("entry", letter.entry_id),
            ("group", letter.group),
            ("deliveries", str(letter.deliveries)),
        ]
    )
    output.title("Original fields")
    output.facts([(output.printable(_escaped(n)), _escaped(v) or '""') for n, v in _fields(letter)])


@dead_letters.command
def retry(
    *letter_ids: Annotated[str, Parameter(name="ID")],
    all_: All = False,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Put entries back on the streams from which they came.

    Parameters
    ----------
    letter_ids
        Ids, as `dead-letters list --each` prints them.
    """

    async def once(letters: DeadLetters, names: Topology, letter: DeadLetter) -> str:
        if letter.stream not in names.streams or not letter.fields:
            return "not retried: it came from no stream of ours, or is empty; drop it"
        return "retried" if await letters.retry(letter) else "gone already"

    return _each_letter(letter_ids, all_, once, "retried", (redis, data, config), json)


@dead_letters.command
def drop(
    *letter_ids: Annotated[str, Parameter(name="ID")],
    all_: All = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Delete dead letters for good.

    Parameters
    ----------
    letter_ids
        Ids, as `dead-letters list --each` prints them.
    yes
        Really all of them.
    """
    if all_ and not yes:
        raise Failure("drop --all deletes every dead letter for good; add --yes to do it", USAGE)

    async def once(letters: DeadLetters, names: Topology, letter: DeadLetter) -> str:
        return "dropped" if await letters.drop(letter) else "gone already"

    return _each_letter(letter_ids, all_, once, "dropped", (redis, data, config), json)


def _each_letter(
    letter_ids: tuple[str, ...],
    everything: bool,
    once: Callable[[DeadLetters, Topology, DeadLetter], Awaitable[str]],
    success: str,
    where: tuple[str | None, Path | None, Path | None],
    json: bool,
) -> int:
    """Do `once` for the letters named, or for all that are there now; tells each outcome."""
    if everything == bool(letter_ids):
        raise Failure("name the dead letters by their ids, or give --all", USAGE)
    _check_ids(letter_ids)
    outcomes: list[tuple[str, str]] = []

    async def use(letters: DeadLetters, names: Topology) -> None:
        # All that are there at first: a retried entry may become a dead letter again meanwhile.
        found = await _letters(letters, _MOST_LISTED) if everything else []
        named: list[tuple[str, DeadLetter | None]] = [(each.id, each) for each in found]
        for letter_id in letter_ids:
            named.append((letter_id, await letters.get(letter_id)))  # noqa: PERF401 - awaits
        for letter_id, letter in named:
            outcome = "no such dead letter"
            if letter is not None:
                outcome = await once(letters, names, letter)
            outcomes.append((letter_id, outcome))

    try:
        _on_letters(*where, use)
    finally:
        counted = sum(outcome == success for _, outcome in outcomes)
        if json:
            listed = [{"id": letter_id, "outcome": outcome} for letter_id, outcome in outcomes]
            output.write_json({success: counted, "outcomes": listed})
        else:
            for letter_id, outcome in outcomes:
                if outcome != success:
                    output.write(f"{letter_id}  {outcome}")
            output.write(f"{counted} {success}")
    return DONE if counted == len(outcomes) else NOT_WELL


def _check_ids(letter_ids: Sequence[str]) -> None:
    for letter_id in letter_ids:
        if not _LETTER_ID.fullmatch(letter_id):
            raise Failure(f"{letter_id!r} is no dead letter's id, such as 1700000000000-0", USAGE)
