"""Dead letters as operators deal with them: by the group, retried or dropped, each on record."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.operations import acted
from carbon_orchestrator.topology import Topology
from streams.commit import Committer, Transaction
from streams.dead_letters import Also, DeadLetter, DeadLetters, kind
from streams.event import entry_order
from streams.seals import entry_hash

RETRIED, DROPPED = "retried", "dropped"
GONE = "gone already"
REFUSED = "not retried: it came from no stream of ours, or is empty; drop it"
ELSEWHERE = "not retried: `carbon-orchestrator dead-letters retry` alone puts back on this stream"
UNKNOWN = "no such dead letter"

#: Where there are several partitions, an id ends in its own.
_LETTER_ID = re.compile(r"([0-9]{1,20}-[0-9]{1,20})(-[0-9]{1,5})?")
_PAGE = 500

#: What to do with letters: what became of each, by its id.
Act = Callable[[Sequence[DeadLetter]], Awaitable[dict[str, str]]]


def is_letter_id(text: str) -> bool:
    found = _LETTER_ID.fullmatch(text)
    return found is not None and max(entry_order(found[1])) < 1 << 64


def name_of(stream: str) -> str:
    """A stream without namespace and partition."""
    return stream.rpartition("}:")[2]


def fields_of(letter: DeadLetter) -> list[tuple[bytes, bytes]]:
    """Names and values of the original."""
    return list(zip(letter.fields[::2], letter.fields[1::2], strict=True))


def readable(value: bytes) -> str:
    """Bytes for a person: UTF-8 as it is, the rest as \\xNN."""
    return value.decode("utf-8", "backslashreplace")


class Group(msgspec.Struct, frozen=True):
    """Letters of one stream, by its name, whose reasons differ in numbers and ids only. Oldest
    first."""

    stream: str
    kind: str
    letters: list[DeadLetter]

    @property
    def reason(self) -> str:
        """The reason where it is the same for all, else what the reasons have in common."""
        one = len({each.reason for each in self.letters}) == 1
        return self.letters[0].reason if one else self.kind


def grouped(letters: Iterable[DeadLetter]) -> list[Group]:
    """The largest group first."""
    groups: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((name_of(letter.stream), kind(letter.reason)), []).append(letter)
    found = [Group(stream, reason, group) for (stream, reason), group in groups.items()]
    return sorted(found, key=lambda group: -len(group.letters))


class Letters:
    """The dead letters of one partition. `onto`: keys of the streams on which we may put entries
    back, by default all that a group reads."""

    def __init__(
        self,
        redis: Redis,
        committer: Committer,
        topology: Topology,
        onto: Iterable[str] | None = None,
    ) -> None:
        self._letters = DeadLetters(redis, committer)
        self._topology = topology
        # What a letter says of itself is its writer's word, and an operator may write anywhere.
        self._read = {stream for streams in topology.groups.values() for stream in streams}
        self._onto = self._read if onto is None else self._read & {*onto}

    async def first(self, most: int, after: str = "-") -> list[DeadLetter]:
        """Up to `most` letters, oldest first; `after`: an id to go on from."""
        found: list[DeadLetter] = []
        while len(found) < most:
            page = await self._letters.list(min(_PAGE, most - len(found)), after)
            found += page
            if not page:
                break
            after = page[-1].id
        return found

    async def get(self, letter_id: str) -> DeadLetter | None:
        return await self._letters.get(letter_id)

    async def pages(self, holds: Callable[[DeadLetter], bool]) -> AsyncIterator[list[DeadLetter]]:
        """The letters for which `holds`, of up to 500 at once; not those that came after the first
        page was asked for: a retried entry may become a dead letter again meanwhile."""
        last = await self._letters.last()
        after = "-"
        while last is not None:
            page = list(await self._letters.list(_PAGE, after))
            within = [each for each in page if entry_order(each.id) <= entry_order(last)]
            yield [each for each in within if holds(each)]
            if len(page) < _PAGE or len(within) < len(page):
                return
            after = page[-1].id

    async def each(self, letter_ids: Iterable[str], act: Act) -> AsyncIterator[dict[str, str]]:
        """`act` on the letters of these ids, one after the other; what became of each."""
        for letter_id in letter_ids:
            letter = await self.get(letter_id)
            yield {letter_id: UNKNOWN} if letter is None else await act([letter])

    def retry(self, name: str) -> Act:
        """To put letters back on the streams from which they came, as done by `name`."""
        also = self._on_record(name, "dead-letter.retry")

        async def act(letters: Sequence[DeadLetter]) -> dict[str, str]:
            sound = [each for each in letters if each.stream in self._read and each.fields]
            ours = [each for each in sound if each.stream in self._onto]
            done = await self._letters.retry_all(ours, also)
            outcomes = dict.fromkeys((each.id for each in letters), REFUSED)
            outcomes |= dict.fromkeys((each.id for each in sound), ELSEWHERE)
            return outcomes | _outcomes(ours, done, RETRIED)

        return act

    def drop(self, name: str) -> Act:
        """To delete letters for good, as done by `name`."""
        also = self._on_record(name, "dead-letter.drop")

        async def act(letters: Sequence[DeadLetter]) -> dict[str, str]:
            return _outcomes(letters, await self._letters.drop_all(letters, also), DROPPED)

        return act

    def _on_record(self, name: str, action: str) -> Also:
        def also(letter: DeadLetter) -> Transaction:
            return acted(
                self._topology,
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


def _outcomes(letters: Sequence[DeadLetter], done: Sequence[bool], success: str) -> dict[str, str]:
    return {
        letter.id: success if held else GONE for letter, held in zip(letters, done, strict=True)
    }
