"""Running a Python callable as one attempt of a job, and measuring its CPU time exactly.

Async handlers run as a task of the loop, each of their steps timed; threads and further tasks
that they start are not seen. Plain functions run in a thread of their own: a daemon one, since
a function that ignores cancellation cannot be ended and must not keep the worker from exiting.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from time import clock_gettime, thread_time
from typing import Any

import msgspec
import structlog

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.worker.attempt import Ended, StopReason, StopWatch
from carbon_orchestrator.worker.context import JobContext
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.placement import place

log = structlog.get_logger(__name__)

Handler = Callable[[dict[str, Any], JobContext], Any]

_ERROR_LIMIT = 500  # characters of an error's line


class PythonHandler:
    """A handler named "module:function", resolved once. ConfigError when that cannot be done."""

    def __init__(self, reference: str, nice: int = 0, cpus: Sequence[int] = (), slots: int = 1):
        self.function = resolve(reference)
        self._is_async = _is_async(self.function)
        self._reference = reference
        self.nice = nice
        self.cpus = tuple(cpus)
        self._slots = slots
        self._abandoned: list[threading.Thread] = []
        self._limitations: tuple[str, ...] = ()
        if self._is_async and (nice or cpus):
            self._limitations = (
                "nice and cpus not applied: async handlers run in the worker's own thread",
            )

    async def run(
        self,
        payload: dict[str, Any],
        context: JobContext,
        output: OutputTail,
        *,
        timeout: float,
        grace: float,
        cancel: asyncio.Event,
    ) -> Ended:
        """Run to its end, or to `grace` seconds after it was told to stop. Never raises for
        the handler's faults; an interruption by the caller's cancellation is in `stopped`.
        """
        if self._is_async:
            call = _AsyncCall(self.function(payload, context), context, timeout, grace, cancel)
            await call.run()
            return self._ended(call, context, output, (), self._limitations)
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        if len(self._abandoned) >= self._slots:
            return Ended(error=f"{len(self._abandoned)} abandoned calls of this type still run")
        threaded = _ThreadCall(self, payload, context)
        await threaded.run(timeout, grace, cancel)
        if threaded.abandoned:
            self._abandoned.append(threaded.thread)
        return self._ended(threaded, context, output, threaded.applied, threaded.limitations)

    def _ended(
        self,
        call: _AsyncCall | _ThreadCall,
        context: JobContext,
        output: OutputTail,
        applied: tuple[str, ...],
        limitations: tuple[str, ...],
    ) -> Ended:
        error: str | None = None
        if call.abandoned:
            log.warning("handler.abandoned", handler=self._reference)
            error = "the handler did not stop in time and was abandoned"
        elif isinstance(call.fault, asyncio.CancelledError):
            error = "the handler was cancelled" if call.stopped is None else None
        elif call.fault is not None:
            error = one_line(call.fault)
            text = "".join(traceback.format_exception(call.fault))
            output.write(text.encode("utf-8", "replace"))
        elif call.value is not None:
            output.write(_encoded(call.value))
        return Ended(
            stopped=call.stopped,
            error=error,
            # Who asked, was told to stop, and returned has done what it was told.
            done=call.fault is None and not call.abandoned and not context.told,
            cpu_ms=call.cpu_s * 1000,
            applied=applied,
            limitations=limitations,
        )


class _Abandoned(BaseException):
    """The handler would not stop."""


class _AsyncCall:
    """One call of an async handler, in a task of its own.

    As an awaitable it drives the handler's coroutine step by step in that task, so that each
    step can be timed and a handler that ignores its cancellation can be left for good.
    """

    __slots__ = (
        "_caller",
        "_cancel",
        "_cancelling",
        "_context",
        "_coroutine",
        "_deadline",
        "_grace",
        "_kill",
        "_loop",
        "_task",
        "_watch",
        "abandoned",
        "cpu_s",
        "fault",
        "stopped",
        "value",
    )

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        context: JobContext,
        timeout: float,
        grace: float,
        cancel: asyncio.Event,
    ) -> None:
        self._coroutine = coroutine
        self._context = context
        self._grace = grace
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout
        self._watch: StopWatch | None = None
        self._kill: asyncio.TimerHandle | None = None
        caller = asyncio.current_task()
        assert caller is not None
        self._caller = caller
        self._cancelling = caller.cancelling()  # what it bears of earlier cancellations
        self._task: asyncio.Task[None] | None = None
        self.stopped: StopReason | None = None
        self.abandoned = False
        self.fault: BaseException | None = None
        self.value: Any = None
        self.cpu_s = 0.0

    async def run(self) -> None:
        self._task = self._loop.create_task(self._finish())
        try:
            await self._task  # a cancellation of the caller goes on to the task
        except asyncio.CancelledError:
            if self._task.cancelled():  # before its first step
                self._coroutine.close()
        finally:
            if self._watch is not None:
                self._watch.close()
            if self._kill is not None:
                self._kill.cancel()
            self._task = None  # or each call would be a cycle for the garbage collector
        if self._interrupted():
            self.stopped = "interrupted"

    async def _finish(self) -> None:
        try:
            self.value = await self
        except _Abandoned:
            self.abandoned = True
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            self.fault = error

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        step: Callable[[Any], Any] = coroutine.send
        argument: Any = None
        while True:
            began = thread_time()
            try:
                waiting = step(argument)
            except StopIteration as stop:
                return stop.value
            finally:
                self.cpu_s += thread_time() - began
            if self._watch is None:  # most handlers' first step is not their last
                self._watch = StopWatch(self._loop, self._cancel, self._deadline, self._stop)
            try:
                yield waiting
                step, argument = coroutine.send, None
            except GeneratorExit:  # the loop is closed under us
                coroutine.close()
                raise
            except asyncio.CancelledError as error:
                if self.abandoned:
                    self._leave()
                if self._interrupted():  # not so a timeout of the handler's own
                    self._arm()
                step, argument = coroutine.throw, error
            except BaseException as error:
                step, argument = coroutine.throw, error

    def _stop(self, reason: StopReason) -> None:
        assert self._task is not None
        self.stopped = reason
        self._arm()
        self._task.cancel()

    def _interrupted(self) -> bool:
        return self._caller.cancelling() > self._cancelling

    def _arm(self) -> None:
        """Once told to stop, it has `grace` seconds left."""
        self._context.stop()
        if self._kill is None:
            self._kill = self._loop.call_later(self._grace, self._abandon)

    def _abandon(self) -> None:
        assert self._task is not None
        self.abandoned = True
        self._task.cancel()

    def _leave(self) -> None:
        try:
            self._coroutine.close()
        except RuntimeError:  # it awaits even now; it is never stepped again
            pass
        except BaseException as error:
            raise _Abandoned from error
        raise _Abandoned


class _ThreadCall:
    """One call of a plain function, in a thread of its own."""

    def __init__(self, handler: PythonHandler, payload: dict[str, Any], context: JobContext):
        self._handler = handler
        self._payload = payload
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._kill: asyncio.TimerHandle | None = None
        self._grace = 0.0
        self.thread = threading.Thread(target=self._work, name=f"job-{context.job_id}", daemon=True)
        self.stopped: StopReason | None = None
        self.abandoned = False
        self.fault: BaseException | None = None
        self.value: Any = None
        self.cpu_s = 0.0
        self.applied: tuple[str, ...] = ()
        self.limitations: tuple[str, ...] = ()
        self._clock: int | None = None  # of the thread's CPU time, readable from outside

    async def run(self, timeout: float, grace: float, cancel: asyncio.Event) -> None:
        self._grace = grace
        watch = StopWatch(self._loop, cancel, self._loop.time() + timeout, self._stop)
        try:
            self.thread.start()
            while not self._done.done():
                try:
                    await asyncio.wait([self._done])
                except asyncio.CancelledError:
                    if self.stopped == "interrupted":  # asked twice: no more grace
                        self._abandon()
                    self._stop("interrupted")
        except RuntimeError as error:  # the system has no thread left
            self.fault = error
        finally:
            watch.close()
            if self._kill is not None:
                self._kill.cancel()

    def _stop(self, reason: StopReason) -> None:
        self.stopped = reason
        self._context.stop()
        if self._kill is None:
            self._kill = self._loop.call_later(self._grace, self._abandon)

    def _abandon(self) -> None:
        if not self._done.done():
            self.abandoned = True
            if self._clock is not None:
                with suppress(OSError):  # it ended just now
                    self.cpu_s = clock_gettime(self._clock)
            self._done.set_result(None)

    def _work(self) -> None:
        handler = self._handler
        if sys.platform == "linux":
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
        applied, limitations = place(0, handler.nice, handler.cpus)
        value: Any = None
        fault: BaseException | None = None
        began = thread_time()
        try:
            value = handler.function(self._payload, self._context)
        except BaseException as error:
            fault = error
        cpu_s = thread_time() - began
        with suppress(RuntimeError):  # abandoned long ago, and the loop is closed
            self._loop.call_soon_threadsafe(self._finish, value, fault, cpu_s, applied, limitations)

    def _finish(
        self,
        value: Any,
        fault: BaseException | None,
        cpu_s: float,
        applied: tuple[str, ...],
        limitations: tuple[str, ...],
    ) -> None:
        if self._done.done():  # abandoned
            return
        if inspect.iscoroutine(value):
            value.close()
            fault = TypeError("the function returned a coroutine: define it with async def")
        self.value, self.fault, self.cpu_s = value, fault, cpu_s
        self.applied, self.limitations = applied, limitations
        self._done.set_result(None)


def resolve(reference: str) -> Handler:
    """The callable named "module:function" (or "module:Class.method").

    ConfigError when it cannot be imported, found, or called with (payload, context).
    """
    module_name, _, path = reference.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(f"cannot import {module_name!r}: {one_line(error)}") from error
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise ConfigError(f"module {module_name!r} has no {path!r}") from None
    if not callable(target):
        raise ConfigError(f"{reference!r} is not callable")
    try:
        inspect.signature(target).bind(None, None)
    except TypeError:
        raise ConfigError(f"{reference!r} must take (payload, context)") from None
    except ValueError:  # built in, its signature is not known
        pass
    handler: Handler = target
    return handler


def one_line(error: BaseException) -> str:
    """Such as "ValueError: no such column"."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:_ERROR_LIMIT]


def _is_async(function: Handler) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - of an instance with an async call
    )


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        return f"result not kept: {one_line(error)}\n".encode()
