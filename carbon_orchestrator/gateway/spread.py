"""Several partitions as one: what is asked of a job goes to its own, what is asked of all is put
together. Of one partition nothing of this is in the way."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from carbon_orchestrator.events import CancelRequested
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.gateway.deployment.pools import PoolState
from carbon_orchestrator.gateway.door.access import Caller
from carbon_orchestrator.gateway.door.guard import caller
from carbon_orchestrator.gateway.intake.outcome import Accepted, Asked, Outcome, Refused
from carbon_orchestrator.gateway.intake.submitting import Submitting
from carbon_orchestrator.gateway.lookup.cursors import Place, between
from carbon_orchestrator.gateway.lookup.job_query import BadQuery, JobQuery, job_query
from carbon_orchestrator.gateway.lookup.jobs import Jobs
from carbon_orchestrator.gateway.lookup.listing import Found
from carbon_orchestrator.gateway.part import Part
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.gateway.reading import Reading
from carbon_orchestrator.submission import home_of, partition_of
from streams.inspection import GroupState

_KEPT_SECONDS = 1.0


def by_id(parts: Sequence[Part], handlers: Sequence[Handler]) -> Handler:
    """Of these handlers, one a partition, that of the job in the path; the first says of others
    that there is no such job."""
    of = {part.number: handler for part, handler in zip(parts, handlers, strict=True)}

    async def handler(request: web.Request) -> web.StreamResponse:
        return await of.get(_number(request.match_info["id"]), handlers[0])(request)

    return handler


class SpreadReading(Reading):
    """Of all partitions."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [part.reading for part in parts]
        self._of = {part.number: part.reading for part in parts}

    async def silence(self, zone: str) -> str | None:
        return await self._parts[0].silence(zone)

    async def job_and_output(
        self, job_id: str
    ) -> tuple[dict[str, Any], tuple[int, int] | None] | None:
        part = self._of.get(_number(job_id))
        return None if part is None else await part.job_and_output(job_id)

    async def remembered(self, job_ids: Sequence[str]) -> list[tuple[str, str | None] | None]:
        known: dict[str, tuple[str, str | None] | None] = {}
        for number, part in self._of.items():
            if own := [job_id for job_id in job_ids if _number(job_id) == number]:
                known |= zip(own, await part.remembered(own), strict=True)
        return [known.get(job_id) for job_id in job_ids]

    async def counts(self) -> dict[str, int]:
        return dict(_sum(await asyncio.gather(*(each.counts() for each in self._parts))))

    async def totals(self, first: str | None, last: str | None) -> dict[str, Mapping[bytes, bytes]]:
        days: defaultdict[str, list[Mapping[bytes, bytes]]] = defaultdict(list)
        for found in await asyncio.gather(*(each.totals(first, last) for each in self._parts)):
            for day, sums in found.items():
                days[day].append(sums)
        return {day: _added(days[day]) for day in sorted(days)}

    async def ever(self) -> Mapping[bytes, bytes]:
        return _added(await asyncio.gather(*(each.ever() for each in self._parts)))

    async def groups(self) -> list[GroupState]:
        found = await asyncio.gather(*(each.groups() for each in self._parts))
        return [state for states in found for state in states]

    def unserved(self, groups: Sequence[GroupState]) -> list[str]:
        missing = [role for each in self._parts for role in each.unserved(groups)]
        return list(dict.fromkeys(missing))

    async def asleep(self) -> frozenset[str]:
        return await self._parts[0].asleep()  # where scalers keep what they remember

    async def dead_letters(self) -> int:
        return sum(await asyncio.gather(*(each.dead_letters() for each in self._parts)))


class SpreadSubmitting(Submitting):
    """To the partition of its identity where a job has one, so that what comes again meets what
    came before; else to each partition in turn."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [part.submitting for part in parts]
        self._turn = count()

    def now(self) -> int:
        return self._parts[0].now()

    async def submit(
        self, asked: Sequence[Asked], asking: Caller, now: int | None = None
    ) -> list[Outcome]:
        now = self.now() if now is None else now
        chosen = [self._choose(each, asking) for each in asked]
        shares: dict[int, list[Asked]] = {number: [] for number in chosen}
        for each, number in zip(asked, chosen, strict=True):
            shares[number].append(each)
        outcomes = await asyncio.gather(
            *(self._parts[n].submit(share, asking, now) for n, share in shares.items())
        )
        of = {number: iter(some) for number, some in zip(shares, outcomes, strict=True)}
        return [next(of[number]) for number in chosen]

    async def one(self, asked: Asked, asking: Caller) -> Outcome:
        return await self._parts[self._choose(asked, asking)].one(asked, asking)

    def check(self, asked: Asked, asking: Caller) -> Accepted | Refused:
        return self._parts[0].check(asked, asking)

    def _choose(self, asked: Asked, asking: Caller) -> int:
        if asked.identity is None:
            return next(self._turn) % len(self._parts)
        scope = () if asking.project is None else (asking.project,)
        return home_of(len(self._parts), *scope, *asked.identity)


class SpreadJobs(Jobs):
    """For who asks for the end of a job by an event."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._first = parts[0].jobs
        self._of = {part.number: part.jobs for part in parts}

    async def end(self, event: CancelRequested, asking: Caller) -> dict[str, Any] | Refused:
        return await self._of.get(_number(event.job_id), self._first).end(event, asking)


class SpreadListing:
    """One list of the jobs of all: each partition's is read from the same place on, and they are
    put together as far as all of them were read."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    async def show(self, request: web.Request) -> web.Response:
        """As Listing's."""
        try:
            query = job_query(list(request.query.items()), caller(request).project)
        except BadQuery as error:
            return problem(422, "invalid-query", str(error), field=error.field)
        found = await asyncio.gather(*(each.listing.found(query) for each in self._parts))
        jobs, following = merged(found, query)
        for part in self._parts:
            await part.running.add([job for job in jobs if _number(job["id"]) == part.number])
        return answer({"jobs": jobs, "next": following})


def merged(found: Sequence[Found], query: JobQuery) -> tuple[list[dict[str, Any]], str | None]:
    """One page of these, and the cursor of the next. Pure."""
    descending = query.filters.descending
    rows = [row for each in found for row in each.jobs]
    rows.sort(key=lambda row: row[0], reverse=descending)
    ends = [each.until for each in found if each.until is not None]
    end: Place | None = None
    if ends:
        # Behind the nearest of them something may stand that was not read.
        end = max(ends) if descending else min(ends)
        rows = [row for row in rows if (row[0] >= end if descending else row[0] <= end)]
    shown, rest = rows[: query.limit], rows[query.limit :]
    if rest:
        end = between(shown[-1][0], rest[0][0], descending=descending)
    return [job for _, job in shown], None if end is None else query.filters.give(end)


class SpreadPools:
    """The pools of all partitions; a worker serves every one of them."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    async def show_all(self, request: web.Request) -> web.Response:
        """As Pools'."""
        found = await asyncio.gather(*(each.pools.states.get() for each in self._parts))
        return answer({"pools": [_beside(states).json() for states in zip(*found, strict=True)]})


class SpreadOverview:
    """All partitions at a glance."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._found = Fresh(_KEPT_SECONDS, self._look)

    async def show(self, request: web.Request) -> web.Response:
        """As Overview's."""
        return answer(await self._found.get())

    async def _look(self) -> dict[str, Any]:
        return at_a_glance(
            await asyncio.gather(*(each.overview.found.get() for each in self._parts))
        )


_EXAMPLES = 5


def at_a_glance(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One overview of those of each partition. Pure."""
    emissions = [each["emissions"] for each in views]
    sums = _sum([{k: v for k, v in each.items() if k in _SUMS} for each in emissions])
    since = [each["since"] for each in emissions if each["since"] is not None]
    risks = [each["deadline_risk"] for each in views]
    examples = sorted(
        (one for each in risks for one in each["examples"]),
        key=lambda each: (each["deadline"], each["id"]),
    )
    waits = [each["oldest_wait"] for each in views if each["oldest_wait"] is not None]
    return {
        "now": views[0]["now"],
        "emissions": {
            **emissions[0],
            **sums,
            "since": min(since, default=None),
            "simulated": any(each["simulated"] for each in emissions),
        },
        "jobs": _sum([each["jobs"] for each in views]),
        "running": _sum([each["running"] for each in views]),
        "waiting": sum(each["waiting"] for each in views),
        "oldest_wait": min(waits, key=lambda each: each["submitted_at"], default=None),
        "dead_letters": sum(each["dead_letters"] for each in views),
        "deadline_risk": {
            "jobs": sum(each["jobs"] for each in risks),
            "examined": sum(each["examined"] for each in risks),
            "complete": all(each["complete"] for each in risks),
            "examples": examples[:_EXAMPLES],
        },
        "rates": _sum([each["rates"] for each in views]),
    }


_SUMS = ("emitted_ug", "baseline_ug", "avoided_ug", "energy_mj")


def _number(job_id: str) -> int:
    """The partition in a job's id; that of none where it is no job's id."""
    number = partition_of(job_id)
    return -1 if number is None else number


def _beside(states: Sequence[PoolState]) -> PoolState:
    first, *others = states
    for each in others:
        first = first.beside(each)
    return first


def _sum(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By name; with names whose sum is 0."""
    return {name: sum(one[name] for one in each) for name in each[0]}


def _added(hashes: Sequence[Mapping[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Hashes of whole numbers, added field by field."""
    sums: Counter[bytes] = Counter()
    for each in hashes:
        for field, value in each.items():
            sums[field] += int(value)
    return {field: b"%d" % value for field, value in sums.items()}
