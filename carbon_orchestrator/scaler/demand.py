"""What wants a pool: what waits in its lanes, runs in it, and is to be handed to it soon.

A group's lag is not known after deletes, and does not tell how urgent the entries are, so each
entry that waits is looked at once, up to a limit. Times are grid ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from carbon_orchestrator.events import Backlog, InFlight, JobDispatched, Pool
from carbon_orchestrator.router.waiting import Plan
from carbon_orchestrator.scaler.pressure import Pressure, Wait, pressure
from carbon_orchestrator.topology import CODEC, LANES, WORKER, Lane, Topology
from streams.connection import Client
from streams.event import entry_order
from streams.scripts import GATHER

#: Deferred jobs that are looked at, of those whose time is near.
_SOON = 1000
#: Entries that are read of a lane in one look, and that are remembered.
_PAGE = 256
_PAGES = 8
_REMEMBERED = 100_000

Order = tuple[int, int]


class Demand(NamedTuple):
    """`busy`: names of the live workers that have jobs."""

    backlog: Backlog
    in_flight: InFlight
    busy: frozenset[str]


class _Lane:
    """One lane's entries that no worker has taken, as far as they have been read: by when each
    must start. Positions in the stream only ever grow."""

    def __init__(self, stream: str, *, pressing: bool) -> None:
        self.stream = stream
        self.pressing = pressing  # all that is in it
        self.waiting = 0
        self._delivered: Order = (0, 0)
        self._read: Order = (0, 0)
        self._waits: deque[tuple[Order, Wait]] = deque()

    async def look(self, redis: Redis, group: Mapping[str, Any] | None, length: int) -> None:
        """Take account of the group's state; without a group nothing has been taken."""
        delivered = (0, 0) if group is None else entry_order(group["last-delivered-id"].decode())
        if delivered < self._delivered or not length:  # the stream was lost and begun anew
            self._waits.clear()
            self._read = delivered
        self._delivered, self._read = delivered, max(self._read, delivered)
        while self._waits and self._waits[0][0] <= delivered:
            self._waits.popleft()
        lag = length if group is None else group.get("lag")
        if lag != len(self._waits):
            await self._read_on(redis)
        self.waiting = len(self._waits) if lag is None else int(lag)

    def pressure(self, now: int, ahead: int) -> Pressure:
        """What deadlines ask of it; of what was not read, nothing."""
        if self.pressing:
            return Pressure(self.waiting)
        found = pressure((wait for _, wait in self._waits), now, ahead)
        return Pressure(min(found.pressing, self.waiting), found.pace)

    async def _read_on(self, redis: Redis) -> None:
        for _ in range(_PAGES):
            room = min(_PAGE, _REMEMBERED - len(self._waits))
            if room < 1:
                return
            after = f"({self._read[0]}-{self._read[1]}"
            rows = await redis.execute_command("XRANGE", self.stream, after, "+", "COUNT", room)
            for entry_id, fields in rows:
                self._read = entry_order(entry_id.decode())
                self._waits.append((self._read, self._wait(entry_id.decode(), fields)))
            if len(rows) < room:
                return

    def _wait(self, entry_id: str, fields: Sequence[bytes]) -> Wait:
        messages = CODEC.entry(self.stream, entry_id, tuple(fields)).messages
        event = messages[0].event if messages else None
        if not isinstance(event, JobDispatched):
            return Wait(None, 0)
        decision, deadline = event.decision, event.spec.deadline
        expected = decision.fast_ms if decision.pool == "fast" else decision.eco_ms
        latest = None if deadline is None else deadline - decision.margin_ms - expected
        return Wait(latest, expected)


class DemandReader:
    """Reads the demand for some pools of a zone ("": home). One look at a time."""

    def __init__(
        self, redis: Redis, topology: Topology, pools: Sequence[Pool], zone: str, live_ms: int
    ) -> None:
        self._redis = redis
        self._topology = topology
        self._zone = zone
        self._live_ms = live_ms  # a worker that was silent for longer is dead
        self._lanes = {
            pool: [
                _Lane(topology.dispatch(pool, lane, zone), pressing=_all_pressing(lane))
                for lane in LANES
            ]
            for pool in pools
        }

    async def read(self, now: int, ahead: int) -> dict[Pool, Demand]:
        """The demand of each pool, counting as soon, or pressing, what is so within `ahead` ms."""
        soon = await self._soon(now + ahead)
        demands: dict[Pool, Demand] = {}
        for pool, lanes in self._lanes.items():
            running, busy = 0, set[str]()
            for lane in lanes:
                group, length, working = await self._state(lane.stream)
                await lane.look(self._redis, group, length)
                if group is not None:
                    running += int(group["pending"])
                busy |= working
            plans = soon.get(pool, [])
            pressed = sum(plan is not None and plan <= now + ahead for plan in plans)
            pressures = [lane.pressure(now, ahead) for lane in lanes]
            demands[pool] = Demand(
                Backlog(
                    waiting=sum(lane.waiting for lane in lanes),
                    soon=len(plans),
                    pressing=sum(each.pressing for each in pressures),
                    pressing_soon=pressed,
                    pace=max(each.pace for each in pressures),
                ),
                InFlight(jobs=running, workers=len(busy)),
                frozenset(busy),
            )
        return demands

    async def _state(self, stream: str) -> tuple[Mapping[str, Any] | None, int, set[str]]:
        """The workers' group of a lane (None where there is none yet), the lane's length, and
        who has jobs of it."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xlen(stream)
            pipeline.xinfo_groups(stream)
            pipeline.xinfo_consumers(stream, WORKER)
            length, groups, consumers = await pipeline.execute(raise_on_error=False)
        for reply in (length, groups, consumers):
            if isinstance(reply, Exception) and not _nothing_there(reply):
                if isinstance(self._redis, Client):
                    self._redis.check_refusal(reply, ("XINFO", stream))
                raise reply
        if isinstance(groups, Exception) or isinstance(consumers, Exception):
            return None, 0 if isinstance(length, Exception) else int(length), set()
        (group,) = (each for each in groups if each["name"] == WORKER.encode())
        working = {
            each["name"].decode()
            for each in consumers
            if each["pending"] and each["idle"] <= self._live_ms
        }
        return group, int(length), working

    async def _soon(self, until: int) -> dict[Pool, list[int | None]]:
        """The latest starts of the deferred jobs that are to be looked at again by `until`, where
        their plans are for our zone, by pool."""
        topology = self._topology
        ids: Any = await self._redis.zrange(
            topology.wake, "-inf", until, byscore=True, offset=0, num=_SOON
        )
        if not ids:
            return {}
        keys = [topology.record(each.decode()) for each in ids]
        found: dict[Pool, list[int | None]] = {}
        for (raw,) in await GATHER(self._redis, keys, ["plan"]):
            plan = None if raw is None else _plan(raw)
            if plan is not None and plan.pool is not None and (plan.zone or "") == self._zone:
                found.setdefault(plan.pool, []).append(plan.latest_start)
        return found


def _all_pressing(lane: Lane) -> bool:
    return lane in ("urgent", "due")


def _nothing_there(error: Exception) -> bool:
    """No stream yet, or no group on it."""
    text = str(error)
    return isinstance(error, ResponseError) and ("no such key" in text or "NOGROUP" in text)


def _plan(raw: bytes) -> Plan | None:
    try:
        return msgspec.json.decode(raw, type=Plan)
    except msgspec.DecodeError:  # a damaged record is the router's to report
        return None
