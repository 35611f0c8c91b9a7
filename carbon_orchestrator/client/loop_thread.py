"""An event loop on a thread of its own, for callers that have none, or one that they are in."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")

_END_SECONDS = 5.0
_CLOSED = "this client has been closed"


class LoopThread:
    """Starts at once. The thread is a daemon: it keeps no program from ending."""

    def __init__(self, name: str) -> None:
        self.pid = os.getpid()  # threads do not come along in a fork
        # The kernel's epoll is shared over a fork: what the child forgets, the parent never hears
        # of again. What is polled for is known to the process alone.
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        # Nothing begins once it is to end. Reentrant, as the garbage collector may call `close`.
        self._lock = threading.RLock()
        self._last: Coroutine[Any, Any, None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it over there; its result. An interrupt here (Ctrl-C) cancels it. RuntimeError
        when closed meanwhile, or called from there, as nobody would be left to run it."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this would wait for itself: use the async client here")
        running = self.begin(work)
        try:
            return running.result()
        except CancelledError:
            raise RuntimeError(_CLOSED) from None
        except BaseException:
            running.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it over there, without waiting. RuntimeError once closed."""
        with self._lock:
            if self._last is None:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError(_CLOSED)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """End it: all that runs on it is cancelled, then `last` is run. Safe to call twice."""
        if self.pid != os.getpid():
            last.close()
            return
        with self._lock:
            if self._last is not None:
                last.close()
                return
            self._last = last
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            if self._last is not None:
                loop.run_until_complete(self._last)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
