"""What must be true of a deployment that has come to rest, read from the server alone.

Every job is in one terminal state and one index; it ended once, by the streams as by its
record; the totals are the sums of the records, to the unit; nothing is pending, nothing leaks.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator import topology as topology_module
from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.events import (
    EmissionsRecorded,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobRejected,
    JobSuspended,
)
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.run_times import Learned
from carbon_orchestrator.topology import CODEC, Topology
from carbon_orchestrator.worker.attempts import Finished
from streams.archive import Archive
from streams.history import History
from streams.inspection import GroupState
from streams.testing import leaked_keys

_CHUNK = 500
_SHOWN = 5
_LOOKS, _LOOK_SECONDS = 30, 0.1
_finished = msgspec.json.Decoder(Finished).decode
#: Fields of a record, each the sum over its attempts.
_AMOUNTS = ("energy_mj", "emissions_ug", "baseline_ug", "unpriced_mj", "embodied_ug")
#: What the totals must hold, by the records.
_METRICS = ("attempts", "completed", "failed", "cancelled", "run_ms", *_AMOUNTS)


class Findings(msgspec.Struct):
    """`counts` of what was found, `wrong`: one sentence for each kind of violation, `lost`:
    accepted jobs of which the server knows nothing."""

    counts: dict[str, int]
    wrong: list[str]
    lost: list[str]


class _Violations:
    """Gathers violations by kind, with a few examples of each."""

    def __init__(self) -> None:
        self._cases: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, case: object) -> None:
        self._cases[kind].append(str(case))

    def sentences(self) -> list[str]:
        return [
            f"{kind}: {len(cases)} ({', '.join(cases[:_SHOWN])}{', ...' * (len(cases) > _SHOWN)})"
            for kind, cases in sorted(self._cases.items())
        ]


class _Ends:
    """What the streams say about ends: of jobs (exactly one each) and of attempts."""

    def __init__(self) -> None:
        self.jobs: defaultdict[str, list[str]] = defaultdict(list)
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.burnt: Counter[tuple[str, int]] = Counter()
        self.amounts: Counter[str] = Counter()

    def take(self, event: Any) -> None:
        match event:
            case JobCompleted():
                self.attempts[event.job_id, event.attempt] += 1
                self.jobs[event.job_id].append("completed")
            case JobSuspended():
                self.attempts[event.job_id, event.attempt] += 1
            case JobFailed():
                self.attempts[event.job_id, event.attempt] += 1
                if event.final:
                    self.jobs[event.job_id].append("cancelled" if event.cancelled else "failed")
            case JobCancelled():
                self.jobs[event.job_id].append("cancelled")
            case JobRejected():
                self.jobs[event.job_id].append("rejected")
            case EmissionsRecorded():
                self.burnt[event.job_id, event.attempt] += 1
                self.amounts.update({name: getattr(event, name) for name in _AMOUNTS})


async def resting(redis: Redis, topology: Topology) -> bool:
    """Whether no job is under way and every group has finished with its streams."""
    reading = Reading(redis, topology)
    if await reading.unfinished():
        return False
    return all(each.lag == 0 and not each.pending for each in await reading.groups())


async def check(
    redis: Redis, topology: Topology, accepted: Iterable[str], archive: Path | None = None
) -> Findings:
    """Check all of it, on a deployment that rests. `accepted`: ids of the jobs that were
    answered for; others may be there (an answer was lost), under the same rules. `archive`:
    where what was trimmed from the streams is."""
    kept = None if archive is None else Archive(archive, topology.partition)
    history = History(redis, kept, topology.partition)
    wrong = _Violations()
    ends = _Ends()
    for stream in (topology.completions, topology.emissions, topology.deferrals):
        async for event in _replay(history, stream):
            ends.take(event)
    places = await _places(redis, topology)
    counts: Counter[str] = Counter()
    sums: Counter[str] = Counter(dict.fromkeys(_METRICS, 0))
    known: set[str] = set()
    async for job_id, record in _records(redis, topology):
        known.add(job_id)
        _check_record(job_id, record, ends, places.pop(job_id, []), counts, sums, wrong)
    for job_id, states in places.items():
        wrong.add("in an index without a record", f"{job_id} {states}")
    for job_id in ends.jobs.keys() - known:
        wrong.add("ended without a record", job_id)
    for which, counted in (("attempts", ends.attempts), ("emissions", ends.burnt)):
        for attempt in (attempt for attempt, times in counted.items() if times > 1):
            wrong.add(f"{which} reported twice", attempt)
    for name in _AMOUNTS:
        if ends.amounts[name] != sums[name]:
            wrong.add(f"{name} of the stream is not that of the records", ends.amounts[name])
    await _check_totals(redis, topology, sums, wrong)
    for group in await _at_rest(Reading(redis, topology)):
        if group.pending or group.lag != 0:
            wrong.add("not finished with", f"{group.stream} {group.group} {group}")
    if await redis.zcard(topology.wake):
        wrong.add("still to be woken", await redis.zcard(topology.wake))
    letters = int(await redis.xlen(topology.dead_letters))
    if letters != counts["given up"]:
        wrong.add("dead letters that are no job given up", letters - counts["given up"])
    for key in await leaked_keys(redis, topology_module.PERMANENT):
        wrong.add("keys without expiry", key)
    lost = sorted(set(accepted) - known)
    counts["jobs"], counts["lost"] = len(known), len(lost)
    counts.update({name: sums[name] for name in ("attempts", *_AMOUNTS)})
    return Findings(dict(counts), wrong.sentences(), lost)


def together(found: Sequence[Findings]) -> Findings:
    """Those of several partitions as one."""
    if len(found) == 1:
        return found[0]
    counts: Counter[str] = Counter()
    for each in found:
        counts.update(each.counts)
    wrong = [f"partition {n}: {text}" for n, each in enumerate(found) for text in each.wrong]
    return Findings(dict(counts), wrong, [job_id for each in found for job_id in each.lost])


async def _replay(history: History, stream: str) -> AsyncIterator[Any]:
    """Every event of a stream, from its first."""
    async for entry_id, fields in history.entries(history.partition.name(stream)):
        entry = CODEC.entry(stream, entry_id, fields)
        if entry.faults:
            raise ValueError(f"{stream} {entry.id}: {entry.faults[0].reason}")
        for message in entry.messages:
            yield message.event


async def _at_rest(reading: Reading) -> list[GroupState]:
    """The groups, when they have finished; after a while as they are. What an intensity changes
    about the past may be on its way to the totals meanwhile."""
    groups = await reading.groups()
    for _ in range(_LOOKS):
        if all(each.lag == 0 and not each.pending for each in groups):
            break
        await asyncio.sleep(_LOOK_SECONDS)
        groups = await reading.groups()
    return groups


async def _records(redis: Redis, topology: Topology) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Every record, its id first; `ttl` is added to its fields."""
    prefix = topology.record("")
    found = {key.decode() async for key in redis.scan_iter(match=f"{prefix}*", count=5000)}
    keys = sorted(found)
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        async with redis.pipeline(transaction=False) as pipeline:
            for key in chunk:
                pipeline.hgetall(key)
                pipeline.ttl(key)
            rows = await pipeline.execute()
        for key, fields, ttl in zip(chunk, rows[::2], rows[1::2], strict=True):
            yield (
                key.removeprefix(prefix),
                {name.decode(): value for name, value in fields.items()} | {"ttl": ttl},
            )


async def _places(redis: Redis, topology: Topology) -> dict[str, list[str]]:
    """The states in whose index each job is."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for state in STATES:
        members: Any = await redis.zrange(topology.index(state), 0, -1)
        for member in members:
            places[member.decode()].append(state)
    return dict(places)


def _check_record(
    job_id: str,
    record: dict[str, Any],
    ends: _Ends,
    places: list[str],
    counts: Counter[str],
    sums: Counter[str],
    wrong: _Violations,
) -> None:
    """One job; what it counts for is added to `counts` and, as the totals name it, `sums`."""
    state = record["state"].decode()
    counts[state] += 1
    if state not in TERMINAL:
        wrong.add("not terminal", f"{job_id} {state}")
    elif record["ttl"] < 0:
        wrong.add("terminal without expiry", job_id)
    if places != [state]:
        wrong.add("not in just its index", f"{job_id} is {state}, in {places}")
    if ends.jobs[job_id] != [state]:
        wrong.add("did not end once", f"{job_id} is {state}, ended as {ends.jobs[job_id]}")
    attempts = {name.partition(".")[0]: name for name in record if name.endswith(".started")}
    finished = {
        name.partition(".")[0]: _finished(value)
        for name, value in record.items()
        if name.endswith(".finished")
    }
    last = str(int(record.get("attempt", 0)))
    given_up = state == "failed" and last not in finished
    ended = {*finished, last} if given_up else {*finished}
    for number in ended:
        if ends.attempts[job_id, int(number)] != 1:
            wrong.add("attempt ended, not reported once", f"{job_id} {number}")
    for number in finished:
        if ends.burnt[job_id, int(number)] != 1:
            wrong.add("attempt ended, emissions not reported once", f"{job_id} {number}")
        if number not in attempts:
            wrong.add("attempt ended, never started", f"{job_id} {number}")
    counts["given up"] += given_up
    counts["retries"] += max(0, sum(name.endswith(".dispatched") for name in record) - 1)
    counts["interrupted"] += sum(each.outcome == "interrupted" for each in finished.values())
    counts["takeovers"] += len(attempts.keys() - ended)
    counts["deferrals"] += "plan" in record
    sums["attempts"] += len(ended)
    sums["completed"] += state == "completed"
    sums["failed"] += state == "failed"
    sums["cancelled"] += sum(each.outcome == "cancelled" for each in finished.values())
    sums["run_ms"] += sum(each.run_ms for each in finished.values())
    for name in _AMOUNTS:
        amount = int(record.get(name, 0))
        sums[name] += amount
        if amount != sum(getattr(each, name) for each in finished.values()):
            wrong.add(f"{name} is not the sum over the attempts", job_id)


async def _check_totals(
    redis: Redis, topology: Topology, sums: Counter[str], wrong: _Violations
) -> None:
    """The totals against the sums of the records; and the histograms of run times."""
    rows = report(await Reading(redis, topology).totals(None, None), ())
    totals = rows[0].sums if rows else {}
    for metric, expected in sums.items():
        if totals.get(metric, 0) != expected:
            wrong.add(f"total of {metric}", f"{totals.get(metric, 0)}, by the records {expected}")
    learned = 0
    pattern = topology.partition.key("durations:*")
    async for key in redis.scan_iter(match=pattern, count=1000):
        fields: Any = await redis.hgetall(key)
        learned += sum(Learned.parse(fields).counts.values())
    if learned != sums["completed"]:
        wrong.add("run times learned", f"{learned}, completed {sums['completed']}")
