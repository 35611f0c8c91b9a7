"""What share of the queue the jobs of each API key take up.

In the commit that makes a job its id goes into its key's set, and the gateway takes those that
have ended out again when the set fills: a set is never smaller than what it stands for, and the
rest of the system, through which jobs end, knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import structlog
from redis.asyncio import Redis

from carbon_orchestrator.gateway.intake.tally import Tally
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.topology import Topology
from streams.errors import is_transient
from streams.scripts import GATHER
from streams.stop import Stop

log = structlog.get_logger(__name__)

_SWEEP_SECONDS = 1.0
#: A set that is not nearly full is swept so seldom, for the room that it takes.
_SELDOM = 60
_PAGE = 500
_PAGES = 20  # a sweep of one set
_ENDED = {state.encode() for state in TERMINAL}


class Held:
    """`most`: how many unfinished jobs of one key there may be."""

    def __init__(self, redis: Redis, topology: Topology, most: int) -> None:
        self._redis = redis
        self._topology = topology
        self.most = most
        self._tallies: dict[str, Tally] = {}
        self._swept_to: dict[str, int] = {}

    def tally(self, key_id: str) -> Tally:
        """How many there are of the key."""
        if key_id not in self._tallies:
            key = self._topology.held(key_id)
            self._tallies[key_id] = Tally(lambda: self._redis.zcard(key))
        return self._tallies[key_id]

    async def has(self, key_id: str, job_id: str) -> bool:
        """Whether this unfinished job came with the key."""
        return await self._redis.zscore(self._topology.held(key_id), job_id) is not None

    async def sweep(self, key_id: str) -> None:
        """Take out those that have ended; of a large set a part, and the next part next time."""
        held, at = self._topology.held(key_id), self._swept_to.pop(key_id, 0)
        for _ in range(_PAGES):
            page: Any = await self._redis.zrange(held, at, at + _PAGE - 1)
            if not page:
                return
            records = [self._topology.record(job_id.decode()) for job_id in page]
            states = await GATHER(self._redis, records, ["state"])
            ended = [
                job_id
                for job_id, (state,) in zip(page, states, strict=True)
                if state is None or state in _ENDED
            ]
            if ended:
                await self._redis.zrem(held, *ended)
                self.tally(key_id).expire()
            at += len(page) - len(ended)
        self._swept_to[key_id] = at

    async def keep_up(self, key_ids: Collection[str], turn: int) -> None:
        """Sweep the sets that are half full, and at times all. `turn`: counts the calls."""
        for gone in [each for each in self._tallies if each not in key_ids]:
            del self._tallies[gone]
        for key_id in key_ids:
            seldom = turn % _SELDOM == 0
            if seldom or await self._redis.zcard(self._topology.held(key_id)) * 2 >= self.most:
                await self.sweep(key_id)

    async def follow(self, key_ids: Callable[[], Collection[str]], stop: Stop) -> None:
        """Keep the sets of these keys true until the stop."""
        turn = 0
        while not stop.is_set():
            try:
                await self.keep_up(list(key_ids()), turn)
                turn += 1
            except Exception as error:
                if not is_transient(error):
                    log.exception("the jobs of API keys cannot be counted")
            await stop.sleep(_SWEEP_SECONDS)
