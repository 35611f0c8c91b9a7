"""The dead letters of several partitions as one list. An id ends in its partition, as a job's does:
`1700000000000-0-3`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from carbon_orchestrator.letters import UNKNOWN, Act, Letters
from streams.dead_letters import DeadLetter
from streams.event import entry_order

_LATEST = (1 << 64) - 1


class EveryLetter(Letters):
    """As Letters, of all partitions. `of`: by the partition's number."""

    def __init__(self, of: Mapping[int, Letters]) -> None:
        self._of = of

    async def first(self, most: int, after: str = "-") -> list[DeadLetter]:
        found: list[DeadLetter] = []
        for number, letters in self._of.items():
            some = await letters.first(most, after if after == "-" else _from(after, number))
            found += [_everywhere(each, number) for each in some]
        return sorted(found, key=lambda each: _place(each.id))[:most]

    async def get(self, letter_id: str) -> DeadLetter | None:
        number, own = _split(letter_id)
        letters = self._of.get(number)
        letter = None if letters is None else await letters.get(own)
        return None if letter is None else _everywhere(letter, number)

    async def pages(self, holds: Callable[[DeadLetter], bool]) -> AsyncIterator[list[DeadLetter]]:
        for number, letters in self._of.items():
            async for page in letters.pages(holds):
                yield [_everywhere(each, number) for each in page]

    def retry(self, name: str) -> Act:
        return self._act({number: each.retry(name) for number, each in self._of.items()})

    def drop(self, name: str) -> Act:
        return self._act({number: each.drop(name) for number, each in self._of.items()})

    def _act(self, acts: Mapping[int, Act]) -> Act:
        async def act(letters: Sequence[DeadLetter]) -> dict[str, str]:
            outcomes: dict[str, str] = {each.id: UNKNOWN for each in letters}
            for number, on_own in acts.items():
                own = [_own(each) for each in letters if _split(each.id)[0] == number]
                done = await on_own(own) if own else {}
                outcomes |= {f"{each}-{number}": outcome for each, outcome in done.items()}
            return outcomes

        return act


def _everywhere(letter: DeadLetter, number: int) -> DeadLetter:
    return msgspec.structs.replace(letter, id=f"{letter.id}-{number}")


def _own(letter: DeadLetter) -> DeadLetter:
    return msgspec.structs.replace(letter, id=_split(letter.id)[1])


def _split(letter_id: str) -> tuple[int, str]:
    """The partition, and the id in it; no partition's number where none is named."""
    ms, sequence, *rest = letter_id.split("-")
    return int(rest[0]) if rest else -1, f"{ms}-{sequence}"


def _place(letter_id: str) -> tuple[tuple[int, int], int]:
    number, own = _split(letter_id)
    return entry_order(own), number


def _from(after: str, number: int) -> str:
    """The id in this partition after which that comes which comes after `after` in the list."""
    (ms, sequence), other = _place(after)
    if number <= other or (ms, sequence) == (0, 0):
        return f"{ms}-{sequence}"
    return f"{ms}-{sequence - 1}" if sequence else f"{ms - 1}-{_LATEST}"
