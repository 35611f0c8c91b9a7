"""A rebuilt deployment against the live one, record by record, while that goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.audit.findings import Findings, Place
from carbon_orchestrator.audit.reading import Reading, Source, reading
from carbon_orchestrator.audit.rebuild import Builder, check_empty, moved_since, rebuild
from carbon_orchestrator.audit.totals import Cut, compare, cut
from carbon_orchestrator.audit.verify import Result, moment
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.topology import Topology
from streams.connection import connect

_PAGE = 500
#: Suspects beyond these are counted, not told.
_MOST = 10_000
#: In a record, beside what follows from events; `Kept` says what.
_UNTOLD = frozenset({"digest"})
_FINISHED = re.compile(r"\d+\.finished")
#: How much sooner than its time a record may have gone, ms.
_SLACK_MS = 60_000

Fields = dict[str, bytes]


class _Suspect(NamedTuple):
    job_id: str
    what: str
    expected: str | None
    found: str | None


class Comparison:
    """`reading`: of the live deployment; `builder`: what was rebuilt in `target`."""

    def __init__(
        self, reading: Reading, builder: Builder, target: Redis, findings: Findings
    ) -> None:
        assert reading.redis is not None
        self._live: Redis = reading.redis
        self._target = target
        self._reading, self._builder, self._findings = reading, builder, findings
        self._there = Topology(reading.partition, reading.configurations.zones)
        self._suspects: list[_Suspect] = []

    async def run(self, until: str) -> None:
        """Compare all records. `until`: up to which entry id the rebuilt ones go."""
        prefix = self._there.record("")
        async for keys in _keys(self._live, prefix):
            await self._page([key.removeprefix(prefix) for key in keys])
        prefix = self._builder.topology.record("")
        async for keys in _keys(self._target, prefix):
            await self._gone([key.removeprefix(prefix) for key in keys])
        moved = await moved_since(self._reading, until)
        for each in self._suspects:
            if each.job_id in moved:
                self._findings.skip("records", "of jobs that moved on meanwhile")
                continue
            place = Place("", "", 0, each.job_id)
            values = {"expected": each.expected, "found": each.found}
            self._findings.find("records", each.what, place, **values)

    async def _page(self, job_ids: list[str]) -> None:
        rebuilt = self._builder.topology
        one = await _hashes(self._target, [rebuilt.record(each) for each in job_ids])
        other = await _hashes(self._live, [self._there.record(each) for each in job_ids])
        both = [
            (job_id, expected, found)
            for job_id, expected, found in zip(job_ids, one, other, strict=True)
            if found
        ]
        self._findings.check("records", len(both))
        for job_id, expected, found in both:
            if not expected:
                self._suspect(
                    job_id, "a record of a job that no event tells of", None, _whole(found)
                )
            elif (difference := _difference(expected, found)) is not None:
                name, was, is_ = difference
                self._suspect(job_id, f"{name} of the record is not as its events say", was, is_)
        states = [found["state"].decode() for _, _, found in both]
        places = [
            await _places(redis, topology, [job_id for job_id, _, _ in both], states)
            for redis, topology in ((self._target, rebuilt), (self._live, self._there))
        ]
        for (job_id, expected, found), state, was, is_ in zip(both, states, *places, strict=True):
            if was != is_ and expected and not _by_its_end(state, found, was, is_):
                what = f"its places in the indexes of {state} jobs, to be woken, interruptible"
                self._suspect(job_id, what, str(was), str(is_))

    async def _gone(self, job_ids: list[str]) -> None:
        """Rebuilt jobs that the live deployment does not have."""
        rebuilt = self._builder.topology
        async with self._live.pipeline(transaction=False) as pipeline:
            for each in job_ids:
                pipeline.exists(self._there.record(each))
            there = await pipeline.execute()
        missing = [each for each, exists in zip(job_ids, there, strict=True) if not exists]
        async with self._target.pipeline(transaction=False) as pipeline:
            for each in missing:
                pipeline.pttl(rebuilt.record(each))
                pipeline.hget(rebuilt.record(each), "state")
            rows: Any = await pipeline.execute()
        for job_id, left, state in zip(missing, rows[::2], rows[1::2], strict=True):
            if state is None or (state.decode() in TERMINAL and 0 <= left < _SLACK_MS):
                continue  # both expire
            self._findings.check("records")
            self._suspect(job_id, "the record of the job is not there", state.decode(), None)

    def _suspect(self, job_id: str, what: str, expected: str | None, found: str | None) -> None:
        if len(self._suspects) < _MOST:
            self._suspects.append(_Suspect(job_id, what, expected, found))
        else:
            self._findings.find("records", what, Place("", "", 0, job_id))


async def _keys(redis: Redis, prefix: str) -> Any:
    """The keys that begin so, a page at a time, each once or more."""
    cursor: Any = 0
    while True:
        keys: Any
        cursor, keys = await redis.scan(cursor, match=f"{_literal(prefix)}*", count=_PAGE)
        if keys:
            yield [key.decode() for key in keys]
        if not int(cursor):
            return


def _literal(text: str) -> str:
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)


async def _hashes(redis: Redis, keys: list[str]) -> list[Fields]:
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        rows = await pipeline.execute()
    return [{name.decode(): value for name, value in row.items()} for row in rows]


#: Of a job: its score in the index of its state, whether it is to be woken, and its score among
#: those that may be suspended.
_Places = tuple[float | None, bool, float | None]


def _by_its_end(state: str, found: Fields, was: _Places, is_: _Places) -> bool:
    """Whether a job is at the time of its end among those that were cancelled, where the first
    versions put it."""
    ended = found.get("ended_at")
    return state == "cancelled" and ended is not None and is_ == (float(ended), *was[1:])


async def _places(
    redis: Redis, topology: Topology, job_ids: list[str], states: list[str]
) -> list[_Places]:
    async with redis.pipeline(transaction=False) as pipeline:
        for job_id, state in zip(job_ids, states, strict=True):
            pipeline.zscore(topology.index(state), job_id)
            pipeline.zscore(topology.wake, job_id)
            pipeline.zscore(topology.interruptible, job_id)
        rows = await pipeline.execute()
    return [
        (state, wakes is not None, interruptible)
        for state, wakes, interruptible in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
    ]


def _difference(expected: Fields, found: Fields) -> tuple[str, str | None, str | None] | None:
    """The first field that differs, but for what no event tells."""
    for name in sorted(expected.keys() | found.keys() - _UNTOLD):
        one, other = expected.get(name), found.get(name)
        if one != other and (
            one is None or other is None or _told(name, one) != _told(name, other)
        ):
            return name, _text(one), _text(other)
    return None


def _told(name: str, value: bytes) -> Any:
    """What events tell of a field's value."""
    untold = (
        "output" if _FINISHED.fullmatch(name) else "wake" if name in ("plan", "suspend") else ""
    )
    if not untold:
        return value
    try:
        decoded = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value
    if isinstance(decoded, dict):
        decoded.pop(untold, None)
    return decoded


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _whole(fields: Fields) -> str:
    return str({name: _text(value) for name, value in sorted(fields.items())})


class Rebuilt(NamedTuple):
    """What was written: records; of how many jobs there is none any more, because they ended long
    ago; `result`: what comparing it found."""

    records: int
    expired: int
    result: Result


async def rebuild_and_compare(
    source: Source,
    into: str,
    namespace: str | None,
    *,
    compared: bool = True,
    tell: Callable[[int], None] = lambda count: None,
) -> Rebuilt:
    """Rebuild what the record of `source` comes to in the Redis at the URL `into`, under its
    namespace or another one. Raises NotEmpty, ArchiveError, and what redis raises."""
    findings = Findings()
    there: Cut | None = None
    until = source.until
    target = connect(into, partition=source.partition.number)
    try:
        await check_empty(target, namespace)
        if source.url is not None:
            async with reading(source) as view:
                await view.prepare(intensities=False)
                assert view.redis is not None
                # The totals first: all that is counted in them is then within what is read.
                if compared:
                    there = await cut(view.redis, view.topology)
                until, _ = await moment(view.redis, source.partition)
        async with reading(msgspec.structs.replace(source, until=until)) as view:
            await view.prepare(intensities=False)
            name = namespace or source.partition.namespace
            partition = msgspec.structs.replace(source.partition, namespace=name)
            builder, sums = await rebuild(view, target, partition, there, findings, tell)
            if there is not None and until is not None:
                compare(
                    sums,
                    renamed(there, view.topology, builder.topology),
                    builder.topology,
                    findings,
                )
                await Comparison(view, builder, target, findings).run(until)
    finally:
        await target.aclose()
    return Rebuilt(builder.written, builder.expired, Result(findings.tallies))


def renamed(there: Cut, live: Topology, rebuilt: Topology) -> Cut:
    """The live totals under the names that the rebuilt ones have."""
    name, key = live.partition.name, rebuilt.partition.key
    hashes = {key(name(each)): fields for each, fields in there.hashes.items()}
    return msgspec.structs.replace(there, hashes=hashes)
