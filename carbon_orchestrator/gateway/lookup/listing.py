"""`GET /jobs`: found by walking the jobs of each state in order, in slices, for so long at most."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from redis.asyncio import Redis

from carbon_orchestrator.gateway.door.guard import caller
from carbon_orchestrator.gateway.lookup.cursors import Place, between
from carbon_orchestrator.gateway.lookup.job_query import BadQuery, JobQuery, job_query
from carbon_orchestrator.gateway.lookup.running import Running
from carbon_orchestrator.gateway.problems import answer, problem
from carbon_orchestrator.job_view import FIRST_FIELDS, LATER_FIELDS, UNTRIED, summary
from carbon_orchestrator.lifecycle import STATES
from carbon_orchestrator.topology import Topology
from streams.scripts import Script

_LISTING = Script("listing", "carbon_orchestrator.gateway.lookup")
#: What one slice may take of the stream server's time, ms: nothing else happens there meanwhile.
_SLICE_MS = 4
#: After which a page is given as far as it is; seconds.
_PATIENCE = 0.25
#: What is returned of one job: score, id, and fields of its record.
_WIDTH = 2 + len(FIRST_FIELDS) + 1


class Found(NamedTuple):
    """Jobs in the order of a list, each with its place; `until`: there may be more after that."""

    jobs: list[tuple[Place, dict[str, Any]]]
    until: Place | None


class Listing:
    """Lists jobs. Pages are of no single moment, but by submission each job that matches all the
    while that they are read is on exactly one of them, whatever comes, goes or changes state."""

    def __init__(self, redis: Redis, topology: Topology, running: Running) -> None:
        self._redis = redis
        self._topology = topology
        self._running = running
        #: So that of all searches of this gateway one slice at most stands in others' way.
        self._turn = asyncio.Lock()

    async def show(self, request: web.Request) -> web.Response:
        """A page of jobs."""
        try:
            query = job_query(list(request.query.items()), caller(request).project)
        except BadQuery as error:
            return problem(422, "invalid-query", str(error), field=error.field)
        jobs, following = await self.page(query)
        await self._running.add(jobs)
        return answer({"jobs": jobs, "next": following})

    async def page(self, query: JobQuery) -> tuple[list[dict[str, Any]], str | None]:
        """The jobs of a page, and the cursor of the next: there may be one though the page is
        short, even empty."""
        found = await self.found(query)
        following = None if found.until is None else query.filters.give(found.until)
        return [job for _, job in found.jobs], following

    async def found(self, query: JobQuery) -> Found:
        """The same, with where each job stands, and up to where the list was read."""
        filters, topology = query.filters, self._topology
        by_plan = filters.sort == "planned_start"
        states = filters.states or STATES
        keys = [topology.wake] if by_plan else [topology.index(each) for each in states]
        question: dict[str, Any] = {
            **filters.question(),
            "first": FIRST_FIELDS,
            "later": LATER_FIELDS,
            "untried": UNTRIED,
            "ms": _SLICE_MS,
        }
        said = filters.in_spec
        shown: list[tuple[Place, dict[str, Any]]] = []
        after, until = query.after, time.monotonic() + _PATIENCE
        while True:
            question["limit"] = query.limit - len(shown)
            if after is not None:
                question["after"] = after
            arguments = [topology.record(""), msgspec.json.encode(question)]
            async with self._turn if filters.searched else nullcontext():
                reply = await _LISTING(self._redis, keys, arguments)
            rows, last, following = reply
            for score, raw_id, *first, later in zip(*[iter(rows)] * _WIDTH, strict=True):
                job_id = raw_id.decode()
                job = summary(job_id, first, later)
                if not said or filters.allow(job):
                    shown.append(((int(score), job_id), job))
            if last is None or following is None:
                return Found(shown, None)
            after = between(_place(last), _place(following), descending=filters.descending)
            if len(shown) == query.limit or time.monotonic() > until:
                return Found(shown, after)


def _place(row: list[bytes]) -> Place:
    return int(row[0]), row[1].decode()
