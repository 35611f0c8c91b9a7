"""One worker process that serves every partition: they share its slots, and what it measures by."""

from __future__ import annotations

import zlib
from pathlib import Path

from carbon_orchestrator.events import Pool
from carbon_orchestrator.partitions import part
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import site
from carbon_orchestrator.worker.bench import Bench
from carbon_orchestrator.worker.component import WorkerRole
from carbon_orchestrator.worker.energy import EnergyMeter
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.traced_execution import executor_of


def workers(
    runtime: Runtime,
    pool: Pool,
    data_dir: Path,
    guardian: Guardian,
    *,
    slots: int | None = None,
    meter: EnergyMeter | None = None,
    zone: str | None = None,
) -> list[WorkerRole]:
    """A worker of each partition, all of one process. As WorkerRole."""
    config, partitions = runtime.config, runtime.partitions
    total = slots if slots is not None else config.pools[pool].slots
    if partitions == 1:
        return [WorkerRole(runtime, pool, data_dir, guardian, slots=total, meter=meter, zone=zone)]
    away = "" if zone is None or zone == config.zone else zone
    name = runtime.consumer_name(f"worker-{site(pool, away)}")
    executor = executor_of(config, pool, guardian, data_dir, meter)
    bench = Bench(name, total, executor, partitions)
    turn = zlib.crc32(name.encode())
    return [
        WorkerRole(
            each,
            pool,
            data_dir,
            guardian,
            slots=part(total, partitions, each.topology.partition.number, turn),
            zone=zone,
            bench=bench,
        )
        for each in runtime.each()
    ]
