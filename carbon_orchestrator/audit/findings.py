"""What an audit found: how much it checked, and where the record contradicts itself."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

Kind = Literal["seals", "submissions", "decisions", "histories", "figures", "totals", "records"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Divergences of one kind that are told one by one; the others are counted.
SHOWN = 20


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where on record: an event of a stream's entry, and the job that it is about."""

    stream: str
    entry: str
    index: int = 0
    job: str | None = None


class Divergence(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The record says `found` where `expected` follows from the rest of it."""

    what: str
    expected: str | None = None
    found: str | None = None
    place: Place | None = None


class Tally(msgspec.Struct):
    """Of one kind. `unchecked`: by why, how many could not be checked."""

    checked: int = 0
    diverging: int = 0
    first: list[Divergence] = []
    unchecked: dict[str, int] = {}


class Findings:
    """Tallies by kind; those of the parts of an audit add up."""

    def __init__(self) -> None:
        self.tallies: dict[Kind, Tally] = {kind: Tally() for kind in KINDS}

    def check(self, kind: Kind, count: int = 1) -> None:
        """So many were checked."""
        self.tallies[kind].checked += count

    def skip(self, kind: Kind, why: str, count: int = 1) -> None:
        """So many could not be checked."""
        unchecked = self.tallies[kind].unchecked
        unchecked[why] = unchecked.get(why, 0) + count

    def find(self, kind: Kind, what: str, place: Place | None = None, **values: Any) -> None:
        """One that diverges; `expected` and `found` of any type."""
        tally = self.tallies[kind]
        tally.diverging += 1
        if len(tally.first) < SHOWN:
            shown = {name: _shown(value) for name, value in values.items()}
            tally.first.append(Divergence(what=what, place=place, **shown))

    def add(self, tallies: dict[Kind, Tally]) -> None:
        """Those of another part."""
        for kind, other in tallies.items():
            tally = self.tallies[kind]
            tally.checked += other.checked
            tally.diverging += other.diverging
            tally.first = (tally.first + other.first)[:SHOWN]
            for why, count in other.unchecked.items():
                self.skip(kind, why, count)

    @property
    def diverging(self) -> int:
        return sum(tally.diverging for tally in self.tallies.values())


def differing(expected: msgspec.Struct, found: msgspec.Struct) -> tuple[str, Any, Any] | None:
    """The first field in which two Structs of one type differ, and both values."""
    for name in expected.__struct_fields__:
        one, other = getattr(expected, name), getattr(found, name)
        if one != other:
            return name, one, other
    return None


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 2000 else f"{text[:2000]}... ({len(text)} characters)"
