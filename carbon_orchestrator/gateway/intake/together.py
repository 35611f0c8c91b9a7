"""What is asked for by many, one by one, and done together: sending a command costs more than all
else of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """What comes while some is under way goes together in the next, at most `most` at once; one
    round at a time, so there are never more under way than there are who ask. `act` answers each
    in order, some by an exception perhaps; what it raises is the answer of all."""

    def __init__(
        self, act: Callable[[list[T]], Awaitable[Sequence[R | Exception]]], most: int
    ) -> None:
        self._act = act
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._round: asyncio.Task[None] | None = None

    async def ask(self, what: T) -> R:
        """The answer; raises what it is, or what `act` raises."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((what, future))
        if self._round is None:
            self._round = asyncio.create_task(self._go())
        return await future

    async def _go(self) -> None:
        """All that wait, and then what has come meanwhile, until there is no more."""
        try:
            while self._waiting:
                some, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                answers: Sequence[R | Exception]
                try:
                    answers = await self._act([what for what, _ in some])
                except Exception as error:
                    answers = [error] * len(some)
                for (_, future), answer in zip(some, answers, strict=True):
                    if future.done():
                        continue  # whoever asked has gone
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._round = None
