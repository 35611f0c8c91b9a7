"""How an attempt is stopped from outside, and how it ended: what all kinds of handler share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

StopReason = Literal["cancelled", "timeout", "interrupted"]
HaltReason = Literal["cancelled", "suspended", "interrupted"]


class Halt(asyncio.Event):
    """Tells an attempt to stop, and why: `stop`, or `set` for a cancellation."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: HaltReason = "cancelled"

    def stop(self, reason: HaltReason) -> None:
        """The first reason stands, but a cancellation has the last word."""
        if reason == "cancelled" or not self.is_set():
            self.reason = reason
        self.set()

    def suspending(self) -> bool:
        """Whether it is to stop in order to go on later. Safe between threads."""
        return self.is_set() and self.reason == "suspended"


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended. `error` is None exactly where the handler did well by itself."""

    stopped: StopReason | None = None  # why it was stopped from outside, if it was
    error: str | None = None  # one line for a person
    done: bool = False  # it reached its end, perhaps after it was told to stop
    exit_code: int | None = None  # of a command; -N: killed by signal N
    cpu_ms: float = 0.0  # user and system time of everything that ran for the attempt
    reserved_ms: float = 0.0  # CPU time set aside for it elsewhere, where what it used is not seen
    applied: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()


class StopWatch:
    """Calls `stop` once, when `cancel` is set or `loop.time()` has reached `deadline`.

    Costs no task: it stands in the event's own line of waiters. After `close` it never calls.
    """

    __slots__ = ("_stop", "_timer", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cancel: asyncio.Event,
        deadline: float,
        stop: Callable[[StopReason], None],
    ) -> None:
        self._stop: Callable[[StopReason], None] | None = stop
        self._timer = loop.call_at(deadline, self._fire, "timeout")
        self._waiting = cancel.wait()
        try:
            waiter: asyncio.Future[object] = self._waiting.send(None)
            waiter.add_done_callback(lambda _: self._fire("cancelled"))
        except StopIteration:  # set already
            loop.call_soon(self._fire, "cancelled")

    def close(self) -> None:
        self._stop = None
        self._timer.cancel()
        self._waiting.close()  # leaves the line

    def _fire(self, reason: StopReason) -> None:
        if stop := self._stop:
            self.close()
            stop(reason)
