"""What is asked of `GET /jobs`: from the words of a query to what is looked for. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from carbon_orchestrator.clock import parse_time
from carbon_orchestrator.events import POOLS, URGENCIES
from carbon_orchestrator.gateway.lookup.cursors import BadCursor, Place, give, take
from carbon_orchestrator.lifecycle import STATES, State

MOST_LISTED = 500
_USUAL = 50
_MOST_VALUES = 100

Sort = Literal["-submitted_at", "submitted_at", "planned_start"]
SORTS: tuple[Sort, ...] = get_args(Sort)
#: Filters that are a list of values, by the field of a job's spec, with what it is when absent.
_IN_SPEC: Mapping[str, str | None] = {"type": None, "urgency": "normal", "project": "default"}
_KNOWN: Mapping[str, Sequence[str]] = {"state": STATES, "pool": POOLS, "urgency": URGENCIES}
PARAMETERS = (
    *("state", "type", "pool", "project", "urgency", "submitted_from", "submitted_to"),
    *("sort", "limit", "cursor"),
)


class BadQuery(ValueError):
    """What is wrong with a query, in its parameter `field`."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs are listed, and in what order; None is any. `submitted_to` is not included."""

    states: tuple[State, ...] | None = None
    types: tuple[str, ...] | None = None
    pools: tuple[str, ...] | None = None
    projects: tuple[str, ...] | None = None
    urgencies: tuple[str, ...] | None = None
    submitted_from: int | None = None
    submitted_to: int | None = None
    sort: Sort = "-submitted_at"

    @property
    def in_spec(self) -> dict[str, tuple[str, ...]]:
        """Of what is said in a job's spec."""
        all_of = {"type": self.types, "urgency": self.urgencies, "project": self.projects}
        return {name: values for name, values in all_of.items() if values is not None}

    @property
    def searched(self) -> bool:
        """Whether records are looked through for them: no index tells which they are."""
        return bool(self.in_spec) or self.pools is not None

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")

    def question(self) -> dict[str, Any]:
        """What lua/listing.lua needs to know of them."""
        question: dict[str, Any] = {
            "descending": self.descending,
            "record": {} if self.pools is None else {"pool": self.pools},
            "spec": [
                {
                    "field": name,
                    "default": _IN_SPEC[name],
                    "values": values,
                    "said": [f'"{name}":{msgspec.json.encode(each).decode()}' for each in values],
                }
                for name, values in self.in_spec.items()
            ],
        }
        if self.submitted_from is not None:
            question["least"] = self.submitted_from
        if self.submitted_to is not None:
            question["most"] = self.submitted_to - 1
        return {name: value for name, value in question.items() if value is not None}

    def allow(self, job: Mapping[str, Any]) -> bool:
        """Whether a job, as listed, is one of them."""
        return all(job[name] in values for name, values in self.in_spec.items())

    def give(self, place: Place) -> str:
        """The cursor of a place among them."""
        return give(_encode(self), place)


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs. `after`: the place to go on behind."""

    filters: Filters
    limit: int = _USUAL
    after: Place | None = None


_encode = msgspec.json.Encoder().encode


def job_query(given: Sequence[tuple[str, str]], project: str | None) -> JobQuery:
    """From the names and values of a query. `project`: the only one whose jobs there are for who
    asks. Raises BadQuery."""
    words: dict[str, list[str]] = {}
    for name, value in given:
        if name not in PARAMETERS:
            raise BadQuery(_unknown(name), name[:40])
        words.setdefault(name, []).append(value)
    sort = _one(words, "sort") or SORTS[0]
    if sort not in SORTS:
        raise BadQuery(f"sort by one of {', '.join(SORTS)}", "sort")
    states = _values(words, "state")
    start, end = _time(words, "submitted_from"), _time(words, "submitted_to")
    if sort == "planned_start":
        if states is not None and set(states) != {"deferred"}:
            raise BadQuery(
                "only deferred jobs have a planned start; ask for state=deferred", "sort"
            )
        for field, time in (("submitted_from", start), ("submitted_to", end)):
            if time is not None:
                raise BadQuery(f"{field} is for jobs that are sorted by submitted_at", field)
        states = ("deferred",)
    projects = _values(words, "project")
    if project is not None:
        if projects is not None and set(projects) != {project}:
            raise BadQuery(f"this API key is bound to the project {project}", "project")
        projects = (project,)
    filters = Filters(
        states=msgspec.convert(states, tuple[State, ...] | None),
        types=_values(words, "type"),
        pools=_values(words, "pool"),
        projects=projects,
        urgencies=_values(words, "urgency"),
        submitted_from=start,
        submitted_to=end,
        sort=sort,
    )
    cursor = _one(words, "cursor")
    try:
        after = take(_encode(filters), cursor) if cursor is not None else None
    except BadCursor as error:
        raise BadQuery(str(error), "cursor") from None
    return JobQuery(filters=filters, limit=_limit(words), after=after)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, PARAMETERS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PARAMETERS)}"
    return f"there is no parameter {name[:40]!r}; {hint}"


def _one(words: Mapping[str, list[str]], name: str) -> str | None:
    values = words.get(name, [])
    if len(values) > 1:
        raise BadQuery(f"give {name} once", name)
    return values[0] if values else None


def _values(words: Mapping[str, list[str]], name: str) -> tuple[str, ...] | None:
    """The values of a list, each once and in order, so that equal filters are equal."""
    if name not in words:
        return None
    values = {each for part in words[name] for each in part.split(",") if each}
    if not values:
        return None
    if len(values) > _MOST_VALUES:
        raise BadQuery(f"at most {_MOST_VALUES} values of {name}", name)
    known = _KNOWN.get(name)
    for each in sorted(values):
        if known is not None and each not in known:
            raise BadQuery(f"no {name} {each[:40]!r}; one of {', '.join(known)}", name)
    return tuple(sorted(values))


def _time(words: Mapping[str, list[str]], name: str) -> int | None:
    text = _one(words, name)
    if text is None:
        return None
    try:
        # An unescaped "+" of an offset comes as a space.
        return max(0, parse_time(text.replace(" ", "+") if "T" in text else text))
    except ValueError as error:
        raise BadQuery(str(error), name) from None


def _limit(words: Mapping[str, list[str]]) -> int:
    text = _one(words, "limit")
    if text is None:
        return _USUAL
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MOST_LISTED:
        return int(text)
    raise BadQuery(f"limit is a number from 1 to {MOST_LISTED}", "limit")
