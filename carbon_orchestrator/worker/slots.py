"""The slots of a worker process, for which the partitions that it serves stand in line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio

#: Between two looks whether what one waits for a slot with has become pressing.
_LOOK_SECONDS = 1.0


class _Turn:
    """One place in the line."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.pressing = False


class Slots:
    """So many; who wants some waits for his turn, so that no partition is passed over; who has
    something pressing goes before the others."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._taken = 0
        self._line: list[_Turn] = []

    @property
    def free(self) -> int:
        return max(0, self.total - self._taken)

    async def some(self, most: int, pressing: Callable[[], Awaitable[bool]] | None = None) -> int:
        """Take what is free, up to so many, once it is our turn and there is one. `pressing`: asked
        now and then while there is none; raises what that raises."""
        turn = _Turn()
        self._line.append(turn)
        try:
            while self._next() is not turn or not self.free:
                turn.called.clear()
                if pressing is not None and not turn.pressing:
                    turn.pressing = await pressing()
                    if turn.pressing:
                        continue
                with anyio.move_on_after(_LOOK_SECONDS if pressing is not None else None):
                    await turn.called.wait()
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

    def _next(self) -> _Turn:
        return next((each for each in self._line if each.pressing), self._line[0])

    def _call(self) -> None:
        if self._line:
            self._next().called.set()
