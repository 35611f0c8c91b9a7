"""What the records of jobs do not hold: how far those are that run, and how much was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from carbon_orchestrator import progress
from carbon_orchestrator.events import Pool, Spec
from carbon_orchestrator.gateway.deployment.fresh import Fresh
from carbon_orchestrator.router.expectation import RunTimes, expected
from carbon_orchestrator.router.learning import read_run_times
from carbon_orchestrator.runtime import Runtime

_LEARNED_SECONDS = 10.0
_spec = msgspec.json.Decoder(Spec)


class _Started(msgspec.Struct):
    at: int


_started = msgspec.json.Decoder(_Started)


class Running:
    """Adds to jobs that run what is known of their `progress`. `redis`: shared with others."""

    def __init__(self, runtime: Runtime, redis: Redis) -> None:
        self._runtime = runtime
        self._redis = redis
        self._learned: Fresh[RunTimes] = Fresh(_LEARNED_SECONDS, self._learn)

    async def _learn(self) -> RunTimes:
        return await read_run_times(self._redis, self._runtime.topology, self._runtime.config)

    async def add(self, jobs: Sequence[dict[str, Any]]) -> None:
        """To those of these jobs, as job_view.py has them, that run."""
        topology = self._runtime.topology
        running = [job for job in jobs if job["state"] == "running"]
        if not running:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job in running:
                record, started = topology.record(job["id"]), f"{job['attempts']}.started"
                pipeline.hmget(record, [started, "spec", "ran_fast_ms", "ran_eco_ms"])
                pipeline.get(topology.progress(job["id"], job["attempts"]))
            rows: Any = await pipeline.execute()
        learned = await self._learned.get()
        for job, fields, told in zip(running, rows[::2], rows[1::2], strict=True):
            if fields[0] is not None and fields[1] is not None:  # else it has ended just now
                job["progress"] = self._progress(job, fields, told, learned)

    def _progress(
        self,
        job: dict[str, Any],
        fields: Sequence[bytes | None],
        told: bytes | None,
        learned: RunTimes,
    ) -> dict[str, Any]:
        started, spec, *ran = fields
        assert started is not None
        assert spec is not None
        began = _started.decode(started).at
        latest = None if told is None else progress.decode(told)
        run_ms = self._expected_ms(_spec.decode(spec), job["pool"], learned)
        left = None if run_ms is None else max(0.0, run_ms - sum(int(ms or 0) for ms in ran))
        if latest is not None and latest.fraction is not None:
            left = run_ms  # of the whole, of which it says its share
        clock = self._runtime.clock
        expected_ms = None if left is None else clock.length(left / 1000)
        end = progress.finish(latest, began, expected_ms, job["attempts"] > 1, clock.now())
        return progress.view(latest, began, end)

    def _expected_ms(self, spec: Spec, pool: Pool | None, learned: RunTimes) -> float | None:
        """Wall ms that the whole job takes on average; None where nobody knows."""
        config = self._runtime.config
        kind = config.types.get(spec.type)
        known = any(
            times.mean_ms() is not None
            for (job_type, _), times in learned.items()
            if job_type == spec.type
        )
        stated = spec.expected_duration is not None or (
            kind is not None and kind.expected_duration is not None
        )
        if pool is None or not (known or stated):
            return None
        fast, eco = expected(spec, config, learned)
        return (fast if pool == "fast" else eco).mean
