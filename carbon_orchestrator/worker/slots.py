"""The slots of a worker process, for which the partitions that it serves stand in line."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """So many; who wants some waits for his turn, so that no partition is passed over."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._taken = 0
        self._line: deque[asyncio.Event] = deque()

    @property
    def free(self) -> int:
        return max(0, self.total - self._taken)

    async def some(self, most: int) -> int:
        """Take what is free, up to so many, once it is our turn and there is one."""
        turn = asyncio.Event()
        self._line.append(turn)
        try:
            while self._line[0] is not turn or not self.free:
                turn.clear()
                await turn.wait()
            return self.take(most)
        finally:
            self._line.remove(turn)
            self._call()

    def take(self, count: int) -> int:
        """Take so many, or what is free, without waiting; how many these are."""
        taken = max(0, min(count, self.free))
        self._taken += taken
        return taken

    def exceed(self) -> None:
        """Take one whether it is free or not, for what runs already by the record."""
        self._taken += 1

    def give(self, count: int = 1) -> None:
        """Give so many back."""
        self._taken -= count
        self._call()

    def _call(self) -> None:
        if self._line:
            self._line[0].set()
