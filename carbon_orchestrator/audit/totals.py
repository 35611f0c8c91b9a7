"""Totals against the events that they are sums of, while accounting goes on.

What accounting has counted at one moment are the entries that were delivered to its group, less
those that are pending: both are read in one transaction with the totals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from carbon_orchestrator.accounting.totals import counted, days
from carbon_orchestrator.audit.findings import Findings
from carbon_orchestrator.events import POOLS
from carbon_orchestrator.topology import ACCOUNTING, Topology
from streams.event import Entry, entry_order
from streams.inspection import pending_ids

_TRIES = 20
_MOST_PENDING = 100_000
Hashes = dict[str, dict[str, int]]


class GroupPlace(msgspec.Struct, frozen=True):
    """How far a group was with a stream. `read`: how many entries, None where nobody counts."""

    last: str
    pending: frozenset[str]
    read: int | None

    def done(self, entry_id: str) -> bool:
        """Whether it was done with the entry."""
        within = entry_order(entry_id) <= entry_order(self.last)
        return within and entry_id not in self.pending


class Cut(msgspec.Struct, frozen=True):
    """Totals at one moment, by key and field, and what was counted in them. `days`: as listed."""

    hashes: Hashes
    days: dict[str, int]
    places: dict[str, GroupPlace]  # by the stream's name


class Unsettled(Exception):
    """New totals kept coming up while the old ones were read."""


async def cut(redis: Redis, topology: Topology) -> Cut:
    """Totals as they are at one moment. Raises Unsettled, and what redis raises."""
    streams = topology.groups[ACCOUNTING]
    known: set[str] = set()
    for _ in range(_TRIES):
        names = sorted(known)
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.zrange(topology.days, 0, -1, withscores=True)
            for stream in streams:
                pipeline.exists(stream)
                pipeline.execute_command("XINFO", "GROUPS", stream)
                pipeline.xpending_range(stream, ACCOUNTING, "-", "+", _MOST_PENDING)
            for key in names:
                pipeline.hgetall(key)
            rows: Any = await pipeline.execute(raise_on_error=False)
        days = {name.decode(): int(score) for name, score in rows[0]}
        hashes = dict(zip(names, map(_numbers, rows[1 + 3 * len(streams) :]), strict=True))
        keys = _keys(topology, days, hashes)
        if keys <= known:
            places = {
                topology.partition.name(stream): _place(*rows[1 + 3 * number : 4 + 3 * number])
                for number, stream in enumerate(streams)
            }
            return Cut({key: hashes[key] for key in keys}, days, places)
        known |= keys
    raise Unsettled(f"days or types of jobs were added {_TRIES} times while totals were read")


def _keys(topology: Topology, days: Iterable[str], hashes: Hashes) -> set[str]:
    """The hashes that belong to these days and to the types that they name."""
    keys = {topology.ever, *map(topology.totals, days)}
    types = {
        field.split("|")[2]
        for key in keys - {topology.ever}
        for field in hashes.get(key, ())
        if field.count("|") == 4
    }
    return keys | {topology.durations(each, pool) for each in types for pool in POOLS}


def _numbers(row: Any) -> dict[str, int]:
    if isinstance(row, Exception):
        raise row
    return {name.decode(): int(value) for name, value in row.items()}


def _place(exists: int, groups: Any, pending: Any) -> GroupPlace:
    for answer in (groups, pending):
        if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
            raise answer
    if not exists or isinstance(groups, ResponseError):
        return GroupPlace("0-0", frozenset(), 0)
    for row in groups:
        group = dict(zip(row[::2], row[1::2], strict=True)) if isinstance(row, list) else row
        named = {_text(name): value for name, value in group.items()}
        if _text(named["name"]) == ACCOUNTING:
            ids = pending_ids(pending)
            read = named.get("entries-read")
            last = _text(named["last-delivered-id"])
            return GroupPlace(last, ids, None if read is None else int(read))
    return GroupPlace("0-0", frozenset(), 0)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Sums:
    """What the events on record add up to. `zone`: home, for completions, which name none."""

    def __init__(self, topology: Topology, zone: str) -> None:
        self._topology = topology
        self._zone = zone
        self.hashes: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.days: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        """All events of an entry that accounting has counted."""
        for message in entry.messages:
            event = message.event
            for key, field, amount in counted(self._topology, event, self._zone):
                self.hashes[key][field] += amount
            for name in days(event):
                self.days[name] = int(name.replace("-", ""))


def compare(sums: Sums, found: Cut, topology: Topology, findings: Findings) -> None:
    """Every field of every hash, exactly."""
    name = topology.partition.name
    for key in sorted(sums.hashes.keys() | found.hashes.keys()):
        expected: Mapping[str, int] = sums.hashes.get(key, {})
        there = found.hashes.get(key, {})
        for field in sorted(expected.keys() | there.keys()):
            findings.check("totals")
            one, other = expected.get(field, 0), there.get(field, 0)
            if one != other:
                what = f"{name(key)} {field} is not the sum of its events"
                findings.find("totals", what, expected=str(one), found=str(other))
    for each in sorted(sums.days.keys() | found.days.keys()):
        findings.check("totals")
        if sums.days.get(each) != found.days.get(each):
            what = f"{each} in the list of days that have totals"
            one, other = sums.days.get(each, 0), found.days.get(each, 0)
            findings.find("totals", what, expected=str(one), found=str(other))
