"""What is left of jobs that ended elsewhere, cancelled between attempts or run on by others: their
directories, and Jobs of a cluster whose workers died."""

from __future__ import annotations

import asyncio
import os

import structlog
from redis.asyncio import Redis

from carbon_orchestrator.kubernetes.cluster import ClusterError
from carbon_orchestrator.kubernetes.job_template import DEPLOYMENT, JOB
from carbon_orchestrator.kubernetes.jobs import Jobs
from carbon_orchestrator.kubernetes.objects import Job
from carbon_orchestrator.lifecycle import TERMINAL
from carbon_orchestrator.submission import partition_of
from carbon_orchestrator.topology import Topology
from carbon_orchestrator.worker.execution import Executor
from streams.scripts import GATHER

log = structlog.get_logger(__name__)

_CHUNK = 500
_ENDED = {state.encode() for state in TERMINAL}


async def clear(executor: Executor, redis: Redis, topology: Topology) -> int:
    """Remove it where the job is over or forgotten; returns of how many jobs.

    Directories of jobs with ids that are no plain names are left alone.
    """
    in_cluster = await _unfinished(executor)
    everywhere = {*await asyncio.to_thread(_names, executor.root), *in_cluster}
    number = topology.partition.number  # jobs of another partition are not ours to judge
    names = sorted(each for each in everywhere if partition_of(each) in (number, None))
    removed = 0
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        rows = await GATHER(redis, [topology.record(each) for each in chunk], ["state"])
        for name, (state,) in zip(chunk, rows, strict=True):
            if state is None or state in _ENDED:
                await executor.discard(name)
                if name in in_cluster:
                    await _withdraw(executor, in_cluster[name])
                removed += 1
    return removed


async def _unfinished(executor: Executor) -> dict[str, Job]:
    """The Jobs of a cluster by the jobs whose attempts they are; none where it does not tell now.
    Of a job that has several, one: workers have its others removed."""
    if executor.cluster is None:
        return {}
    try:
        jobs = await Jobs(executor.cluster).all({DEPLOYMENT: executor.deployment})
    except ClusterError as error:
        log.warning("what others left in the cluster is not looked for", error=str(error))
        return {}
    return {
        job.metadata.labels[JOB]: job
        for job in jobs
        if JOB in job.metadata.labels and not job.finished
    }


async def _withdraw(executor: Executor, job: Job) -> None:
    assert executor.cluster is not None
    try:
        await Jobs(executor.cluster).delete(job, "Background")
        log.warning("Job removed: nobody waits for it", job=job.metadata.name)
    except ClusterError as error:  # at worst it runs until its time is up
        log.warning("Job not removed", job=job.metadata.name, error=str(error))


def _names(root: str) -> list[str]:
    try:
        return [each for each in os.listdir(root) if not each.startswith("x-")]
    except FileNotFoundError:
        return []
