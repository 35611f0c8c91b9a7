"""An answer that many ask for: found once for all who ask at a time, and kept for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """What `ask` answers, no older than `seconds`. All who ask meanwhile share its failure, too;
    one who gives up takes nothing from the others."""

    def __init__(self, seconds: float, ask: Callable[[], Awaitable[T]]) -> None:
        self._seconds = seconds
        self._ask = ask
        self._task: asyncio.Task[T] | None = None
        self._at = 0.0

    async def get(self) -> T:
        if self._task is None or (self._task.done() and self._over(self._task)):
            self._task = asyncio.create_task(self._found())
            self._task.add_done_callback(_seen)
        return await asyncio.shield(self._task)

    def forget(self) -> None:
        """What was answered is no longer so: whoever asks from now on is answered anew."""
        self._task = None

    def _over(self, task: asyncio.Task[T]) -> bool:
        failed = task.cancelled() or task.exception() is not None
        return failed or time.monotonic() - self._at > self._seconds

    async def _found(self) -> T:
        found = await self._ask()
        self._at = time.monotonic()
        return found


def _seen(task: asyncio.Task[T]) -> None:
    """A failure that nobody waits for any more is nobody's."""
    if not task.cancelled():
        task.exception()
