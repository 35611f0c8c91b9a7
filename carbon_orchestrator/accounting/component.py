"""The accounting role: folds what workers report into totals, settles them when more is known,
and keeps the house in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio

from carbon_orchestrator.accounting.housekeeping import Housekeeping
from carbon_orchestrator.accounting.record_keeping import RecordKeeping, archive_directory
from carbon_orchestrator.accounting.settling import Settling
from carbon_orchestrator.accounting.totals import account
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import ACCOUNTING
from streams.commit import Transaction
from streams.consumer import Consumer
from streams.event import Entry


class Accounting:
    def __init__(self, runtime: Runtime, archive: Path | None = None) -> None:
        """`archive`: the directory of the archive, by default as configured."""
        self.runtime = runtime
        topology = runtime.topology
        name = runtime.consumer_name("accounting")
        self.consumer = Consumer(
            runtime.group(
                ACCOUNTING,
                name,
                [topology.completions, topology.emissions],
            ),
            runtime.committer(),
            self.process,
            lease_ms=round(runtime.config.lease_s * 1000),
            max_deliveries=runtime.config.limits.deliveries,
        )
        self.housekeeping = Housekeeping(runtime)
        archive = archive or archive_directory(runtime.config)
        self.records = RecordKeeping(runtime, archive)
        self.settling = Settling(runtime, archive)
        self._name = name

    async def run(self) -> None:
        """Account until stopped."""
        await self.runtime.announce(ACCOUNTING, self._name, self.consumer.committer)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.consumer.run, self.runtime.stop)
            tasks.start_soon(self.housekeeping.run)
            tasks.start_soon(self.records.run)
            tasks.start_soon(self.settling.run)

    async def process(self, entries: Sequence[Entry]) -> list[Transaction]:
        """One transaction per entry: the increments of all events in it, summed up."""
        topology, zone = self.runtime.topology, self.runtime.config.zone
        outcomes = []
        for entry in entries:
            outcomes.append(Transaction())
            account(outcomes[-1], topology, [each.event for each in entry.messages], zone)
        return outcomes
