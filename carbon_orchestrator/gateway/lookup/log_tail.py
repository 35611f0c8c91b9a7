"""The output of jobs, read for all who follow it at a time, over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import structlog
from redis.asyncio import Redis

from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.topology import Topology
from streams.byte_log import Piece, pieces, reading
from streams.errors import is_transient
from streams.stop import Stop

log = structlog.get_logger(__name__)

#: Entries of one job that are read at once; each has 16 KiB at most.
ENTRIES = 16
#: Jobs that are looked at in one go, so that what is read stays small.
_TOGETHER = 16
_PAUSE = 0.5  # seconds between looks for more of the same job
_ENDED = {state.encode() for state in TERMINAL}


class Read(NamedTuple):
    """What came after the offset that was asked for. `ended`: the job has, and this is all."""

    pieces: Sequence[Piece]
    ended: bool


class _Ask(msgspec.Struct):
    job_id: str
    offset: int
    answer: asyncio.Future[Read]
    due: float = 0.0


class LogTail:
    """`redis`: used by nobody else. `run` answers what `next` asks."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self._redis = redis
        self._topology = topology
        self._asks: list[_Ask] = []
        self._asked = asyncio.Event()

    async def next(self, job_id: str, offset: int) -> Read:
        """The output from the offset on, as soon as there is any, or the job has ended."""
        answer: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
        self._asks.append(_Ask(job_id, offset, answer))
        self._asked.set()
        return await answer

    async def run(self, stop: Stop) -> None:
        """Until the stop. A server that is away is waited for."""
        now = asyncio.get_running_loop().time
        with stop.cut():
            while True:
                self._asked.clear()
                self._asks = [each for each in self._asks if not each.answer.done()]
                due = [each for each in self._asks if each.due <= now()]
                for start in range(0, len(due), _TOGETHER):
                    some = due[start : start + _TOGETHER]
                    try:
                        await self._look(some)
                    except Exception as error:
                        if not is_transient(error):
                            log.exception("reading the output of jobs failed, going on")
                    for each in some:
                        each.due = now() + _PAUSE
                left = [each.due for each in self._asks if not each.answer.done()]
                wait = max(0.01, min(left) - now()) if left else None
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), wait)

    async def _look(self, asks: Sequence[_Ask]) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for each in asks:
                # The state first: the end of a job is recorded after its last output.
                pipeline.hget(self._topology.record(each.job_id), "state")
                log_key = self._topology.output(each.job_id)
                pipeline.execute_command(*reading(log_key, each.offset, ENTRIES))
            rows: Any = await pipeline.execute()
        for each, state, found in zip(asks, rows[::2], rows[1::2], strict=True):
            ended = (state is None or state in _ENDED) and len(found) < ENTRIES
            if (found or ended) and not each.answer.done():
                each.answer.set_result(Read(pieces(found, each.offset), ended))


def on_record(job: Mapping[str, Any]) -> bytes:
    """The ends of all attempts' output, as the job's record has them: all there is of a job that
    has ended and of whose output no more was kept."""
    return "".join(run.get("output", "") for run in job["runs"]).encode()
