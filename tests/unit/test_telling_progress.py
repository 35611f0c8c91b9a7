"""Handlers of every kind say how far they are, and what they say is heard."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carbon_orchestrator.config import Config, JobType, complete
from carbon_orchestrator.events import Spec
from carbon_orchestrator.progress import LONGEST_LINE, Report
from carbon_orchestrator.worker.attempt import Halt
from carbon_orchestrator.worker.context import JobContext
from carbon_orchestrator.worker.execution import Execution, Executor
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.telling import Telling
from streams.testing import until


async def in_the_loop(payload: dict[str, Any], context: JobContext) -> None:
    context.progress(0.25, "first")
    await asyncio.sleep(0)
    context.progress(0.5)


def in_a_thread(payload: dict[str, Any], context: JobContext) -> None:
    others = [threading.Thread(target=context.progress, args=(0.2,)) for _ in range(4)]
    for each in others:
        each.start()
    for each in others:
        each.join()
    context.progress(None, "nearly there")


def wrongly(payload: dict[str, Any], context: JobContext) -> None:
    context.progress("half")  # type: ignore[arg-type]


class Heard(Telling):
    """Keeps all reports."""

    def __init__(self) -> None:
        super().__init__(OutputTail(1000), "job", 1)
        self.reports: list[Report] = []

    def report(self, report: Report) -> None:
        self.reports.append(report)
        super().report(report)


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.fixture
def start(tmp_path: Path, guardian: Guardian) -> Callable[[JobType], tuple[Heard, Any]]:
    def begin(job_type: JobType) -> tuple[Heard, Any]:
        config = complete(Config(types={"t": job_type}, default_types=False))
        executor, heard = Executor(config, "fast", guardian, tmp_path), Heard()
        spec = Spec(job_id="job", type="t", submitted_at=0)
        return heard, asyncio.ensure_future(executor.run(spec, 1, "1", Halt(), heard))

    return begin


Start = Callable[[JobType], tuple[Heard, Any]]


def sh(script: str, **more: Any) -> JobType:
    return JobType(command=["sh", "-c", script], **more)


async def ended(task: Any) -> Execution:
    async with asyncio.timeout(10):
        result: Execution = await task
    return result


async def test_python_handlers_call_it(start: Start) -> None:
    heard, task = start(JobType(python=f"{__name__}:in_the_loop"))
    assert (await ended(task)).outcome == "completed"
    assert heard.reports == [Report(0.25, "first"), Report(0.5)]
    heard, task = start(JobType(python=f"{__name__}:in_a_thread"))
    assert (await ended(task)).outcome == "completed"
    assert heard.reports == [Report(0.2)] * 4 + [Report(None, "nearly there")]
    assert heard.progress is not None
    assert heard.progress.fraction == 0.2


async def test_a_fraction_that_is_none_is_the_handlers_fault(start: Start) -> None:
    _, task = start(JobType(python=f"{__name__}:wrongly"))
    result = await ended(task)
    assert result.outcome == "failed"
    assert "half" in (result.error or "")


@pytest.mark.parametrize("way", ['> "$CARBON_PROGRESS"', ">> $CARBON_PROGRESS"])
async def test_commands_write_to_the_path(start: Start, way: str, tmp_path: Path) -> None:
    script = f"echo 0.25 first {way}; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    heard, task = start(sh(f"{script}; echo only output"))
    await until(lambda: bool(heard.reports))
    (tmp_path / "go").touch()
    result = await ended(task)
    assert heard.reports == [Report(0.25, "first")]
    assert (result.outcome, result.output) == ("completed", "only output\n")


async def test_commands_write_in_pieces(start: Start, tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "fd = os.open(os.environ['CARBON_PROGRESS'], os.O_WRONLY)\n"
        "os.write(fd, b'{\"fraction\": 0.5, ')\n"
        'os.write(fd, b\'"message": "half"}\\n\')\n'
        f"while not os.path.exists('{tmp_path}/go'): time.sleep(0.01)\n"
    )
    heard, task = start(JobType(command=["{python}", "-c", program]))
    await until(lambda: bool(heard.reports))
    (tmp_path / "go").touch()
    await ended(task)
    assert heard.reports == [Report(0.5, "half")]


async def test_nonsense_fails_no_job(start: Start, tmp_path: Path) -> None:
    script = (
        f"head -c {3 * LONGEST_LINE} /dev/zero > $CARBON_PROGRESS; echo > $CARBON_PROGRESS;"
        " echo nonsense > $CARBON_PROGRESS; echo 0.75 > $CARBON_PROGRESS;"
        f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    )
    heard, task = start(sh(script))
    await until(lambda: bool(heard.reports))
    (tmp_path / "go").touch()
    assert (await ended(task)).outcome == "completed"
    assert heard.reports == [Report(0.75)]


async def test_one_who_closes_it_early_is_not_waited_upon(start: Start) -> None:
    """A pipe at its end is readable for ever: the worker must not look at it for ever."""
    program = (
        "import os, time; name = os.environ['CARBON_PROGRESS'].rpartition('/')[2]\n"
        "os.close(int(name)); time.sleep(0.4)"
    )
    heard, task = start(JobType(command=["{python}", "-c", program]))
    began, used = time.monotonic(), time.process_time()
    assert (await ended(task)).outcome == "completed"
    assert time.process_time() - used < (time.monotonic() - began) / 2
    assert heard.reports == []


async def test_a_pipe_leaves_no_descriptor(start: Start) -> None:
    _, first = start(sh("true"))
    await ended(first)
    before = len(os.listdir("/proc/self/fd"))
    for script in ("true", "exit 3", "echo 1 > $CARBON_PROGRESS"):
        await ended(start(sh(script))[1])
    await ended(start(JobType(command=["no-such-program"]))[1])
    assert len(os.listdir("/proc/self/fd")) == before
