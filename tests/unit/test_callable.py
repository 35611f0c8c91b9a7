"""Python handlers as attempts: async ones on the loop, plain ones in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.worker.attempt import Ended
from carbon_orchestrator.worker.callable import PythonHandler, resolve
from carbon_orchestrator.worker.context import JobContext
from carbon_orchestrator.worker.output import OutputTail

Body = Callable[[], Awaitable[None]]
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="clean")


class Handlers:
    """What the tests name as "module:Handlers.name"; `release` lets stuck threads go."""

    release = threading.Event()
    seen: list[Any]

    @staticmethod
    async def add(payload: dict[str, Any], context: JobContext) -> int:
        return int(payload["a"]) + int(payload["b"])

    @staticmethod
    async def several_steps(payload: dict[str, Any], context: JobContext) -> list[str]:
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001, name)) for name in "xy"]
        return [task.result() for task in tasks]

    @staticmethod
    async def burn(payload: dict[str, Any], context: JobContext) -> None:
        for _ in range(4):
            until = time.thread_time() + 0.03
            while time.thread_time() < until:
                pass
            await asyncio.sleep(0.05)

    @staticmethod
    async def fail(payload: dict[str, Any], context: JobContext) -> None:
        context.log("before")
        await asyncio.sleep(0)
        raise ValueError("no such\ncolumn")

    @staticmethod
    async def leave(payload: dict[str, Any], context: JobContext) -> None:
        sys.exit(3)

    @staticmethod
    async def wait(payload: dict[str, Any], context: JobContext) -> str:
        try:
            await asyncio.sleep(100)
        finally:
            context.log(f"cancelled {context.cancelled()}")
        return "never"

    @staticmethod
    async def ignore(payload: dict[str, Any], context: JobContext) -> None:
        context.log("up")
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                context.log("no")

    @staticmethod
    async def own_timeout(payload: dict[str, Any], context: JobContext) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(100)
        except TimeoutError:
            await asyncio.sleep(0.2)  # longer than the grace of the test
        return f"cancelled {context.cancelled()}"

    @staticmethod
    async def cancel_itself(payload: dict[str, Any], context: JobContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    @staticmethod
    async def set_variable(payload: dict[str, Any], context: JobContext) -> str:
        before = VARIABLE.get()
        VARIABLE.set("dirty")
        return before

    @staticmethod
    async def odd_result(payload: dict[str, Any], context: JobContext) -> object:
        return object()

    @staticmethod
    def plain(payload: dict[str, Any], context: JobContext) -> dict[str, Any]:
        context.log(f"{context.job_id} {context.attempt} {context.pool} {context.fence}")
        main = threading.current_thread() is threading.main_thread()
        return {"main": main, "nice": os.getpriority(os.PRIO_PROCESS, 0), **payload}

    @staticmethod
    def plain_burn(payload: dict[str, Any], context: JobContext) -> None:
        until = time.thread_time() + 0.1
        while time.thread_time() < until:
            pass
        time.sleep(0.1)

    @staticmethod
    def plain_fail(payload: dict[str, Any], context: JobContext) -> None:
        raise KeyError("column")

    @staticmethod
    def plain_obedient(payload: dict[str, Any], context: JobContext) -> None:
        deadline = time.monotonic() + 10
        while not context.cancelled() and time.monotonic() < deadline:
            time.sleep(0.005)
        context.log("saved")

    @staticmethod
    def plain_stuck(payload: dict[str, Any], context: JobContext) -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        Handlers.release.wait(20)

    @staticmethod
    def returns_coroutine(payload: dict[str, Any], context: JobContext) -> Any:
        return Handlers.add(payload, context)

    @staticmethod
    def takes_one(payload: dict[str, Any]) -> None: ...

    class Instance:
        async def __call__(self, payload: dict[str, Any], context: JobContext) -> str:
            return "called"

    instance = Instance()
    number = 3


class Calls:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = OutputTail(1000)
        self.cancel = asyncio.Event()

    async def run(self, name: str, payload: dict[str, Any] | None = None, **options: Any) -> Ended:
        return await self.call(PythonHandler(f"{__name__}:Handlers.{name}"), payload, **options)

    async def call(
        self, handler: PythonHandler, payload: dict[str, Any] | None = None, **options: Any
    ) -> Ended:
        context = JobContext("j1", 2, "eco", "f7", lambda _: self.directory, self.output)
        settings = {"timeout": 20.0, "grace": 5.0, **options}
        return await handler.run(
            payload or {}, context, self.output, cancel=self.cancel, **settings
        )

    async def said(self, text: str) -> None:
        async with asyncio.timeout(5):
            while text not in self.output.text():
                await asyncio.sleep(0.005)


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(body: Callable[[Calls], Awaitable[None]]) -> None:
        async def main() -> None:
            await body(Calls(tmp_path / "job"))

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


@pytest.fixture
def released() -> Iterator[None]:
    Handlers.release.clear()
    yield
    Handlers.release.set()


@pytest.mark.parametrize(
    ("name", "payload", "text"),
    [
        ("add", {"a": 1, "b": 2}, "3\n"),
        ("several_steps", {}, '["x","y"]\n'),
        ("instance", {}, '"called"\n'),
        ("odd_result", {}, "result not kept: TypeError: Encoding objects of type object"),
    ],
)
def test_results_are_kept_as_json(
    name: str, payload: dict[str, Any], text: str, on_loop: Callable[..., None]
) -> None:
    async def body(calls: Calls) -> None:
        ended = await calls.run(name, payload)
        assert (ended.stopped, ended.error) == (None, None)
        assert calls.output.text().startswith(text)

    on_loop(body)


def test_async_cpu_time_is_that_of_its_steps(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        ended, *_ = await asyncio.gather(calls.run("burn"), calls.run("burn"))
        assert 120 <= ended.cpu_ms < 150

    on_loop(body)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fail", "ValueError: no such column"),
        ("leave", "SystemExit: 3"),
        ("cancel_itself", "the handler was cancelled"),
        ("plain_fail", "KeyError: 'column'"),
        ("returns_coroutine", "TypeError: the function returned a coroutine: define it"),
    ],
)
def test_faults_are_told_in_a_line(name: str, error: str, on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        ended = await calls.run(name, {"a": 1, "b": 1})
        assert ended.stopped is None
        assert ended.error is not None
        assert ended.error.startswith(error)

    on_loop(body)


def test_the_traceback_is_in_the_output(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        await calls.run("fail")
        assert calls.output.text().startswith("before\nTraceback")

    on_loop(body)


@pytest.mark.parametrize("name", ["wait", "plain_obedient"])
@pytest.mark.parametrize("how", ["cancelled", "timeout", "interrupted"])
def test_stopping(name: str, how: str, on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        timeout = 0.05 if how == "timeout" else 20.0
        task = asyncio.create_task(calls.run(name, timeout=timeout))
        await asyncio.sleep(0)
        if how == "cancelled":
            asyncio.get_running_loop().call_later(0.02, calls.cancel.set)
        if how == "interrupted":
            asyncio.get_running_loop().call_later(0.02, task.cancel)
        ended = await task
        assert ended.stopped == how
        assert ended.error is None
        assert calls.output.text() in ("cancelled True\n", "saved\n")

    on_loop(body)


@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
def test_an_async_handler_that_will_not_stop_is_ended(
    how: str, on_loop: Callable[..., None]
) -> None:
    async def body(calls: Calls) -> None:
        task = asyncio.create_task(calls.run("ignore", grace=0.05))
        await calls.said("up")
        if how == "cancelled":
            calls.cancel.set()
        else:
            task.cancel()
        ended = await asyncio.wait_for(asyncio.shield(task), 2)
        assert ended.stopped == how
        assert ended.error == "the handler did not stop in time and was abandoned"
        assert calls.output.text() == "up\nno\n"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    on_loop(body)


def test_cancelled_before_its_first_step(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        task = asyncio.create_task(calls.run("wait"))
        asyncio.get_running_loop().call_soon(task.cancel)
        assert (await task).stopped == "interrupted"
        calls.cancel.set()
        assert (await calls.run("wait")).stopped == "cancelled"

    on_loop(body)


def test_a_timeout_of_the_handlers_own_is_not_ours(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        ended = await calls.run("own_timeout", grace=0.05)
        assert (ended.stopped, ended.error) == (None, None)
        assert calls.output.text() == '"cancelled False"\n'

    on_loop(body)


def test_context_variables_do_not_pass_from_job_to_job(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        await calls.run("set_variable")
        await calls.run("set_variable")
        assert calls.output.text() == '"clean"\n"clean"\n'

    on_loop(body)


def test_plain_functions_run_in_a_thread_of_the_pools_priority(
    on_loop: Callable[..., None],
) -> None:
    async def body(calls: Calls) -> None:
        cpu = max(os.sched_getaffinity(0))
        handler = PythonHandler(f"{__name__}:Handlers.plain", nice=9, cpus=[cpu])
        ended = await calls.call(handler, {"z": 1})
        assert calls.output.text() == 'j1 2 eco f7\n{"main":false,"nice":9,"z":1}\n'
        assert ended.applied == ("nice 9", f"cpus {cpu}")
        assert os.getpriority(os.PRIO_PROCESS, 0) == 0

    on_loop(body)


def test_async_handlers_tell_that_the_pools_priority_is_not_theirs(
    on_loop: Callable[..., None],
) -> None:
    async def body(calls: Calls) -> None:
        handler = PythonHandler(f"{__name__}:Handlers.add", nice=9)
        ended = await calls.call(handler, {"a": 1, "b": 1})
        assert ended.applied == ()
        assert "not applied" in ended.limitations[0]

    on_loop(body)


def test_plain_cpu_time_is_that_of_the_thread(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        assert 100 <= (await calls.run("plain_burn")).cpu_ms < 130

    on_loop(body)


@pytest.mark.usefixtures("released")
def test_a_plain_function_that_will_not_stop_is_abandoned(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        handler = PythonHandler(f"{__name__}:Handlers.plain_stuck", slots=1)
        ended = await calls.call(handler, timeout=0.2, grace=0.05)
        assert ended.stopped == "timeout"
        assert ended.error == "the handler did not stop in time and was abandoned"
        assert ended.cpu_ms >= 40
        ended = await calls.call(handler)
        assert ended.error == "1 abandoned calls of this type still run"
        Handlers.release.set()
        async with asyncio.timeout(5):
            while any(thread.is_alive() for thread in handler._abandoned):
                await asyncio.sleep(0.005)
        assert (await calls.call(handler)).error is None

    on_loop(body)


@pytest.mark.usefixtures("released")
def test_interrupting_a_plain_function_twice_leaves_no_grace(on_loop: Callable[..., None]) -> None:
    async def body(calls: Calls) -> None:
        task = asyncio.create_task(calls.run("plain_stuck", grace=60))
        await asyncio.sleep(0)
        for _ in range(2):
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
        ended = await asyncio.wait_for(asyncio.shield(task), 2)
        assert ended.stopped == "interrupted"

    on_loop(body)


def test_the_checkpoint_directory_is_made_at_first_use(tmp_path: Path) -> None:
    context = JobContext("j", 1, "fast", "f", lambda _: tmp_path / "a" / "b", OutputTail(10))
    assert not (tmp_path / "a").exists()
    assert context.checkpoint_dir.is_dir()
    assert context.checkpoint_dir == tmp_path / "a" / "b"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no.such.module:f", "cannot import 'no.such.module': ModuleNotFoundError"),
        ("json:nothing", "module 'json' has no 'nothing'"),
        (f"{__name__}:Handlers.number", "is not callable"),
        (f"{__name__}:Handlers.takes_one", "must take \\(payload, context\\)"),
    ],
)
def test_what_cannot_be_called_is_told_at_the_start(reference: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(reference)


def test_the_output_keeps_its_tail_and_counts_all() -> None:
    output = OutputTail(5)
    for part in (b"abc", b"defgh" * 10, b"", b"\xc3"):
        output.write(part)
    assert output.text() == "efgh�"
    assert output.total == 54
    nothing = OutputTail(0)
    nothing.write(b"abc")
    assert (nothing.text(), nothing.total) == ("", 3)
