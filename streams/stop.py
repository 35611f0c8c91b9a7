"""How everything that runs is told to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Stop:
    """A flag, set once, that also cuts short the waits made under `cut`."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._scopes: set[anyio.CancelScope] = set()

    def set(self) -> None:
        self._event.set()
        for scope in self._scopes:
            scope.cancel()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past the stop."""
        with anyio.move_on_after(seconds):
            await self._event.wait()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """What is awaited in here is cancelled when the flag is set; then go on after it."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._event.is_set():
                    scope.cancel()
                yield
            finally:
                self._scopes.discard(scope)
