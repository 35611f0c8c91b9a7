"""Which dead letters a command is about: by id, all, or all of a stream and a reason."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

from carbon_orchestrator.cli.faults import USAGE, Failure
from streams.dead_letters import DeadLetter, DeadLetters, kind
from streams.event import entry_order

All = Annotated[
    bool, Parameter(name="--all", negative="", help="every dead letter that is there now")
]
Stream = Annotated[
    str | None, Parameter(help="those of one stream, as `list` names it, such as jobs")
]
Reason = Annotated[
    str | None,
    Parameter(help="those whose reason contains this; numbers and ids (…) may be any"),
]

_LETTER_ID = re.compile(r"\d{1,20}-\d{1,20}")
_PAGE = 500


def name_of(stream: str) -> str:
    """A stream without namespace and partition."""
    return stream.rpartition("}:")[2]


async def first(letters: DeadLetters, most: int) -> list[DeadLetter]:
    """Up to `most` letters, oldest first."""
    found: list[DeadLetter] = []
    while len(found) < most:
        after = found[-1].id if found else "-"
        page = await letters.list(min(_PAGE, most - len(found)), after)
        found += page
        if not page:
            break
    return found


class Chosen(msgspec.Struct, frozen=True):
    """The letters that a command is about: by id, or all, or all of a stream and a reason."""

    ids: tuple[str, ...]
    everything: bool
    stream: str | None
    reason: str | None

    def check(self) -> None:
        """Raises Failure unless it is one way of choosing."""
        check_ids(self.ids)
        ways = (bool(self.ids), self.everything, self.group)
        if sum(ways) != 1:
            raise Failure(
                "name the dead letters by their ids, or by --stream and --reason, or give --all",
                USAGE,
            )

    @property
    def group(self) -> bool:
        return self.stream is not None or self.reason is not None

    def holds(self, letter: DeadLetter) -> bool:
        if self.stream not in (None, letter.stream, name_of(letter.stream)):
            return False
        return self.reason is None or kind(self.reason) in kind(letter.reason)

    async def pages(self, letters: DeadLetters) -> AsyncIterator[list[DeadLetter]]:
        """The letters, up to 500 at once; not those that came after the first page was asked
        for: a retried entry may become a dead letter again meanwhile."""
        last = await letters.last()
        after = "-"
        while last is not None:
            page = list(await letters.list(_PAGE, after))
            within = [each for each in page if entry_order(each.id) <= entry_order(last)]
            yield [each for each in within if self.holds(each)]
            if len(page) < _PAGE or len(within) < len(page):
                return
            after = page[-1].id


def check_ids(letter_ids: Sequence[str]) -> None:
    """Raises Failure."""
    for letter_id in letter_ids:
        if not _LETTER_ID.fullmatch(letter_id):
            raise Failure(f"{letter_id!r} is no dead letter's id, such as 1700000000000-0", USAGE)
