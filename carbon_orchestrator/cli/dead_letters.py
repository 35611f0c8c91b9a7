"""Commands on dead letters: `list`, `show`, `retry`, `drop`."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.chosen_letters import (
    All,
    Chosen,
    Reason,
    Stream,
    check_ids,
    first,
    name_of,
)
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
from carbon_orchestrator.operations import acted, who
from carbon_orchestrator.topology import Topology
from streams.commit import Transaction
from streams.dead_letters import DeadLetter, DeadLetters, kind
from streams.seals import entry_hash

if TYPE_CHECKING:
    from redis.asyncio import Redis

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


def _age(letter: DeadLetter, now: int) -> str:
    return duration(now - int(letter.id.partition("-")[0]))


def _escaped(value: bytes) -> str:
    """Bytes for a person: UTF-8 as it is, the rest as \\xNN."""
    return value.decode("utf-8", "backslashreplace")


def _fields(letter: DeadLetter) -> list[tuple[bytes, bytes]]:
    return list(zip(letter.fields[::2], letter.fields[1::2], strict=True))


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    """`fields` for reading; `fields_base64` has the very bytes."""
    plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(letter, stored=()))
    del plain["stored"]
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
        return await first(letters, limit + 1)

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
            [[one.id, _age(one, now), name_of(one.stream), one.reason] for one in shown],
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
    """Rows of GROUP_COLUMNS, the largest first. Reasons that differ in numbers and ids only are
    one, told by what they have in common."""
    groups: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.stream, kind(letter.reason)), []).append(letter)
    return [
        [
            str(len(group)),
            name_of(stream),
            _age(group[0], now),
            _age(group[-1], now),
            group[-1].id,
            group[0].reason if len({each.reason for each in group}) == 1 else reason,
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
    check_ids((letter_id,))

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
    stream: Stream = None,
    reason: Reason = None,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Put entries back on the streams from which they came.

    Each is put on record, with who did it ($CARBON_OPERATOR, else user@host).

    Parameters
    ----------
    letter_ids
        Ids, as `dead-letters list --each` prints them.
    """

    async def some(
        letters: DeadLetters, names: Topology, found: Sequence[DeadLetter]
    ) -> dict[str, str]:
        # What a letter says of itself is its writer's word, and an operator may write anywhere.
        read = {stream for streams in names.groups.values() for stream in streams}
        sound = [each for each in found if each.stream in read and each.fields]
        done = await letters.retry_all(sound, _on_record(names, "dead-letter.retry"))
        refused = "not retried: it came from no stream of ours, or is empty; drop it"
        outcomes = dict.fromkeys((each.id for each in found), refused)
        for letter, held in zip(sound, done, strict=True):
            outcomes[letter.id] = "retried" if held else "gone already"
        return outcomes

    chosen = Chosen(letter_ids, all_, stream, reason)
    return _each_letter(chosen, some, "retried", (redis, data, config), json)


@dead_letters.command
def drop(
    *letter_ids: Annotated[str, Parameter(name="ID")],
    all_: All = False,
    stream: Stream = None,
    reason: Reason = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    redis: ServerUrl = None,
    data: Data = None,
    config: ConfigFile = None,
    json: Json = False,
) -> int:
    """Delete dead letters for good.

    Each is put on record, with who did it ($CARBON_OPERATOR, else user@host).

    Parameters
    ----------
    letter_ids
        Ids, as `dead-letters list --each` prints them.
    yes
        Really all of them, or all of a stream and reason.
    """
    chosen = Chosen(letter_ids, all_, stream, reason)
    if (all_ or chosen.group) and not yes:
        what = "every dead letter" if all_ else "all of those"
        option = "--all" if all_ else "--stream or --reason"
        raise Failure(f"drop {option} deletes {what} for good; add --yes to do it", USAGE)

    async def some(
        letters: DeadLetters, names: Topology, found: Sequence[DeadLetter]
    ) -> dict[str, str]:
        done = await letters.drop_all(found, _on_record(names, "dead-letter.drop"))
        return {
            letter.id: "dropped" if held else "gone already"
            for letter, held in zip(found, done, strict=True)
        }

    return _each_letter(chosen, some, "dropped", (redis, data, config), json)


def _on_record(names: Topology, action: str) -> Callable[[DeadLetter], Transaction]:
    name = who()

    def also(letter: DeadLetter) -> Transaction:
        return acted(
            names,
            name,
            action,
            letter.id,
            removed=entry_hash(letter.id, letter.stored).hex(),
            detail={
                "reason": letter.reason,
                "stream": name_of(letter.stream),
                "entry": letter.entry_id,
            },
        )

    return also


def _each_letter(
    chosen: Chosen,
    some: Callable[[DeadLetters, Topology, Sequence[DeadLetter]], Awaitable[dict[str, str]]],
    success: str,
    where: tuple[str | None, Path | None, Path | None],
    json: bool,
) -> int:
    """Do `some` for the chosen letters; tells each outcome."""
    chosen.check()
    outcomes: dict[str, str] = {}

    async def use(letters: DeadLetters, names: Topology) -> None:
        if not chosen.ids:
            async for page in chosen.pages(letters):
                outcomes.update(await some(letters, names, page))
            return
        for letter_id in chosen.ids:
            letter = await letters.get(letter_id)
            outcomes[letter_id] = "no such dead letter"
            if letter is not None:
                outcomes.update(await some(letters, names, [letter]))

    try:
        _on_letters(*where, use)
    finally:
        counted = sum(outcome == success for outcome in outcomes.values())
        if json:
            listed = [{"id": each, "outcome": outcome} for each, outcome in outcomes.items()]
            output.write_json({success: counted, "outcomes": listed})
        else:
            for letter_id, outcome in outcomes.items():
                if outcome != success:
                    output.write(f"{letter_id}  {outcome}")
            output.write(f"{counted} {success}")
    return DONE if counted == len(outcomes) else NOT_WELL
