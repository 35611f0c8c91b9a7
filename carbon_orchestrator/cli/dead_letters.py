"""Commands on dead letters: `list`, `show`, `retry`, `drop`."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from carbon_orchestrator.cli import output
from carbon_orchestrator.cli.chosen_letters import All, Chosen, Reason, Stream, check_ids
from carbon_orchestrator.cli.faults import DONE, NOT_WELL, USAGE, Failure
from carbon_orchestrator.cli.output import Column, Json
from carbon_orchestrator.cli.quantities import duration
from carbon_orchestrator.cli.roles import ConfigFile, redis_url, run_async
from carbon_orchestrator.cli.stream_server import (
    PATIENCE_SECONDS,
    Data,
    ServerUrl,
    numbers,
    topology,
    with_server,
)
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import load
from carbon_orchestrator.every_letter import EveryLetter
from carbon_orchestrator.letters import (
    DROPPED,
    RETRIED,
    Act,
    Letters,
    fields_of,
    grouped,
    name_of,
    readable,
)
from carbon_orchestrator.operations import who
from streams.dead_letters import DeadLetter

if TYPE_CHECKING:
    from redis.asyncio import Redis

_MOST_LISTED = 100_000

dead_letters = App(name="dead-letters", help="Entries that nobody could process: see, retry, drop.")


def _on_letters(
    redis: str | None,
    data: Path | None,
    config: Path | None,
    use: Callable[[Letters], Awaitable[Any]],
) -> Any:
    """Run `use` with the dead letters of the deployment."""
    from streams.commit import Committer

    url, loaded = redis_url(redis, data), load(config)

    async def on_each(left: Sequence[int], found: dict[int, Letters]) -> Any:
        """With those of the partitions that are left, besides the ones that are found."""
        if not left:
            return await use(EveryLetter(found) if len(found) > 1 else found[0])
        names = topology(loaded, left[0])

        async def on_server(client: Redis) -> Any:
            committer = Committer(client, names.partition, patience=PATIENCE_SECONDS)
            letters = Letters(client, committer, names)
            return await on_each(left[1:], {**found, left[0]: letters})

        return await with_server(url, on_server, partition=left[0])

    async def main() -> Any:
        return await on_each(await numbers(url, loaded), {})

    return run_async(main)


def _age(letter: DeadLetter, now: int) -> str:
    return duration(now - int(letter.id.partition("-")[0]))


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    """`fields` for reading; `fields_base64` has the very bytes."""
    plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(letter, stored=()))
    del plain["stored"]
    plain["fields"] = [[readable(name), readable(value)] for name, value in fields_of(letter)]
    plain["fields_base64"] = [
        [base64.b64encode(each).decode() for each in pair] for pair in fields_of(letter)
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

    async def use(letters: Letters) -> list[DeadLetter]:
        return await letters.first(limit + 1)

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
    """Rows of GROUP_COLUMNS, the largest first."""
    return [
        [
            str(len(group.letters)),
            name_of(group.stream),
            _age(group.letters[0], now),
            _age(group.letters[-1], now),
            group.letters[-1].id,
            group.reason,
        ]
        for group in grouped(letters)
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

    async def use(letters: Letters) -> DeadLetter | None:
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
    output.facts(
        [(output.printable(readable(n)), readable(v) or '""') for n, v in fields_of(letter)]
    )


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
    chosen = Chosen(letter_ids, all_, stream, reason)
    return _each_letter(
        chosen, lambda letters: letters.retry(who()), RETRIED, (redis, data, config), json
    )


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
    return _each_letter(
        chosen, lambda letters: letters.drop(who()), DROPPED, (redis, data, config), json
    )


def _each_letter(
    chosen: Chosen,
    what: Callable[[Letters], Act],
    success: str,
    where: tuple[str | None, Path | None, Path | None],
    json: bool,
) -> int:
    """Do `what` to the chosen letters; tells each outcome."""
    chosen.check()
    outcomes: dict[str, str] = {}

    async def use(letters: Letters) -> None:
        async for some in chosen.outcomes(letters, what(letters)):
            outcomes.update(some)

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
