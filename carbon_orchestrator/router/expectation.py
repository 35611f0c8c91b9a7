"""How long a job is expected to run, from what its submitter, history and operator say."""

from __future__ import annotations

from collections.abc import Mapping

from carbon_orchestrator.config import Config
from carbon_orchestrator.durations import seconds
from carbon_orchestrator.events import Pool, Spec
from carbon_orchestrator.run_times import quantile

#: (type, pool) to histogram, see run_times.py
RunTimes = Mapping[tuple[str, Pool], Mapping[int, int]]
#: The share of runs that the expected length covers: a deadline is at stake.
QUANTILE = 0.95
UNKNOWN_SECONDS = 60.0


def expected_seconds(spec: Spec, pool: Pool, config: Config, learned: RunTimes) -> float:
    """Wall seconds that the job takes on `pool`, rather too long than too short.

    What has been learned for the type on that pool; before that what the submitter, then the
    operator, expects on FAST, times the pool's slowdown. A submitter who expects more than
    was learned is believed.
    """
    stated = spec.expected_duration
    learned_ms = quantile(learned.get((spec.type, pool), {}), QUANTILE)
    if learned_ms is not None:
        return max(learned_ms / 1000, stated or 0.0)
    if stated is None:
        job_type = config.types.get(spec.type)  # a type may be gone while its jobs wait
        configured = None if job_type is None else job_type.expected_duration
        stated = UNKNOWN_SECONDS if configured is None else seconds(configured)
    return stated * config.pools[pool].slowdown
