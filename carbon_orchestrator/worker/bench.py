"""What the partitions share that one worker process serves."""

from __future__ import annotations

from carbon_orchestrator.worker.execution import Executor
from carbon_orchestrator.worker.slots import Slots


class Bench:
    """For so many `partitions`; each leaves in the end."""

    def __init__(self, name: str, slots: int, executor: Executor, partitions: int = 1) -> None:
        self.name = name
        self.slots = Slots(slots)
        self.executor = executor
        self._there = partitions

    async def leave(self) -> None:
        """When nothing runs any more for one of them."""
        self._there -= 1
        if not self._there:
            await self.executor.aclose()
