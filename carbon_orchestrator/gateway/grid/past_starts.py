"""Attempts that have ended or run: when, where and whose. Read when somebody asks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from sys import intern
from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.config import Config
from carbon_orchestrator.events import EmissionsRecorded, Pool
from carbon_orchestrator.gateway.grid.starts import Start
from carbon_orchestrator.gateway.live.projects import Projects
from carbon_orchestrator.topology import CODEC, Topology
from streams.event import entry_order
from streams.page_size import PageSize
from streams.scripts import GATHER

#: Ended attempts that are remembered, and running jobs that are looked at.
MOST_ENDED = 20_000
MOST_RUNNING = 1000
_PAGE = 500
#: Events that are decoded in a row, or of an entry where those are more, before others have their
#: turn.
_TURN = 100


class _Ended(msgspec.Struct, frozen=True):
    start: Start
    project: str
    at: int


class _Dispatched(msgspec.Struct):
    pool: Pool
    zone: str | None = None


class _Started(msgspec.Struct):
    at: int


_dispatched = msgspec.json.Decoder(_Dispatched).decode
_started = msgspec.json.Decoder(_Started).decode


class PastStarts:
    """Of attempts that ended `emissions` has the last ones; the others run, and are on record."""

    def __init__(
        self, redis: Redis, topology: Topology, config: Config, projects: Projects
    ) -> None:
        self._redis = redis
        self._topology = topology
        self._home = config.zone
        self._projects = projects
        self._reading = asyncio.Lock()
        self._ended: deque[_Ended] = deque(maxlen=MOST_ENDED)
        self._last = "0-0"
        self._whole = True

    async def between(
        self, start: int, end: int, zone: str, project: str | None
    ) -> tuple[Sequence[Start], bool]:
        """The starts of a zone, of one project or all, from `start` to `end` (grid ms), and
        whether these are all."""
        running, all_running = await self._running(project)
        async with self._reading:
            await self._catch_up()
        ended = [each.start for each in self._ended if project is None or each.project == project]
        # One that ended meanwhile is in both.
        found = {(each.job, each.at): each for each in (*running, *ended)}
        chosen = [each for each in found.values() if each.zone == zone and start <= each.at < end]
        # What started after the first end that is remembered ended after it, or runs.
        all_ended = self._whole or (bool(self._ended) and self._ended[0].at <= start)
        return sorted(chosen, key=lambda each: each.at), all_running and all_ended

    async def _catch_up(self) -> None:
        """From the newest back to what is known, or as far as is remembered at all."""
        key, end, found = self._topology.emissions, "+", list[_Ended]()
        newest, size, decoded = self._last, PageSize(_PAGE), 0
        while True:
            count, read = size.count, 0
            rows: Any = await self._redis.execute_command(
                "XREVRANGE", key, end, "-", "COUNT", count
            )
            ids = [number.decode() for number, _ in rows]
            if end == "+" and ids:
                newest = ids[0]
                if entry_order(newest) < entry_order(self._last):  # another server
                    self._ended.clear()
                    self._last, self._whole = "0-0", True
            for entry_id, (_, fields) in zip(ids, rows, strict=True):
                if entry_order(entry_id) <= entry_order(self._last):
                    break
                messages = CODEC.entry(key, entry_id, tuple(fields)).messages
                events = [each.event for each in reversed(messages)]
                found += [self._of(each) for each in events if isinstance(each, EmissionsRecorded)]
                read += sum(map(len, fields))
                decoded += len(events)
                if decoded >= _TURN:
                    decoded = 0
                    await asyncio.sleep(0)
            else:
                if len(rows) == count and len(found) < MOST_ENDED:
                    end = f"({ids[-1]}"
                    size.read(read)
                    continue
                # Not back to what is known: the first time, or much has happened since.
                archived = await self._redis.hexists(
                    self._topology.archived, self._topology.partition.name(key)
                )
                self._ended.clear()
                self._whole = len(rows) < count and not archived
            break
        if len(self._ended) + len(found) > MOST_ENDED:
            self._whole = False
        self._ended.extend(reversed(found))
        self._last = newest

    def _of(self, event: EmissionsRecorded) -> _Ended:
        zone = intern(event.zone or self._home)
        start = Start(event.started_at, event.pool, zone, event.job_id)
        return _Ended(start, intern(event.project), event.at)

    async def _running(self, project: str | None) -> tuple[list[Start], bool]:
        found: list[Start] = []
        members: Any = await self._redis.zrange(self._topology.index("running"), 0, MOST_RUNNING)
        ids = [each.decode() for each in members[:MOST_RUNNING]]
        if project is not None:
            projects = await self._projects.of(ids)
            ids = [each for each in ids if projects.get(each) == project]
        for first in range(0, len(ids), _PAGE):
            found += await self._run_now(ids[first : first + _PAGE])
        return found, len(members) <= MOST_RUNNING

    async def _run_now(self, ids: Sequence[str]) -> list[Start]:
        """Those of these jobs that run: their current attempts."""
        keys = [self._topology.record(each) for each in ids]
        rows = await GATHER(self._redis, keys, ["state", "attempt", "dispatch"])
        running = [
            (job, key, row[1].decode(), row[2].decode())
            for job, key, row in zip(ids, keys, rows, strict=True)
            if row[0] == b"running" and None not in row
        ]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for _, key, attempt, dispatch in running:
                pipeline.hmget(key, f"{attempt}.started", f"{dispatch}.dispatched")
            steps = await pipeline.execute()
        starts = []
        for (job, *_), (started, dispatched) in zip(running, steps, strict=True):
            if started is not None and dispatched is not None:
                where = _dispatched(dispatched)
                zone = where.zone or self._home
                starts.append(Start(_started(started).at, where.pool, zone, job))
        return starts
