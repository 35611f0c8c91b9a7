"""Directories of jobs that ended elsewhere: cancelled between attempts, or run on by others."""

from __future__ import annotations

import asyncio
import os

from redis.asyncio import Redis

from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.submission import partition_of
from carbon_orchestrator.topology import Topology
from carbon_orchestrator.worker.execution import Executor
from streams.scripts import GATHER

_CHUNK = 500
_ENDED = {state.encode() for state in TERMINAL}


async def clear(executor: Executor, redis: Redis, topology: Topology) -> int:
    """Remove the directories of jobs that are over or forgotten; returns how many went.

    Directories of jobs with ids that are no plain names are left alone.
    """
    number = topology.partition.number
    names = [
        each
        for each in await asyncio.to_thread(_names, executor.root)
        if partition_of(each) in (number, None)  # another partition's are not ours to judge
    ]
    removed = 0
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        rows = await GATHER(redis, [topology.record(each) for each in chunk], ["state"])
        for name, (state,) in zip(chunk, rows, strict=True):
            if state is None or state in _ENDED:
                await executor.discard(name)
                removed += 1
    return removed


def _names(root: str) -> list[str]:
    try:
        return [each for each in os.listdir(root) if not each.startswith("x-")]
    except FileNotFoundError:
        return []
