"""Which dead letters a command is about: by id, all, or all of a stream and a reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

from carbon_orchestrator.cli.faults import USAGE, Failure
from carbon_orchestrator.letters import Act, Letters, is_letter_id, name_of
from streams.dead_letters import DeadLetter, kind

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

    async def outcomes(self, letters: Letters, act: Act) -> AsyncIterator[dict[str, str]]:
        """`act` on all of them; what became of each, by its id, so many at a time."""
        if self.ids:
            async for outcome in letters.each(self.ids, act):
                yield outcome
            return
        async for page in letters.pages(self.holds):
            yield await act(page)


def check_ids(letter_ids: Sequence[str]) -> None:
    """Raises Failure."""
    for letter_id in letter_ids:
        if not is_letter_id(letter_id):
            raise Failure(f"{letter_id!r} is no dead letter's id, such as 1700000000000-0", USAGE)
