"""Commands as attempts: real processes, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from carbon_orchestrator.worker.attempt import Ended
from carbon_orchestrator.worker.command import base_environment, run_command
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.output import OutputTail

Body = Callable[["Commands"], Awaitable[None]]


class Commands:
    """Runs commands as the executor does, and keeps what they wrote."""

    def __init__(self, guardian: Guardian, cwd: Path) -> None:
        self.guardian = guardian
        self.cwd = cwd
        self.output = OutputTail(1000)
        self.cancel = asyncio.Event()

    async def run(self, *argv: str, payload: bytes = b"{}", **options: Any) -> Ended:
        settings = {"timeout": 20.0, "grace": 5.0, **options}
        return await run_command(
            argv,
            payload,
            self.output,
            self.guardian,
            cwd=self.cwd,
            environment=base_environment(os.environ),
            cancel=self.cancel,
            **settings,
        )

    async def sh(self, script: str, **options: Any) -> Ended:
        return await self.run("sh", "-c", script, **options)

    async def python(self, code: str, **options: Any) -> Ended:
        return await self.run(sys.executable, "-S", "-c", code, **options)

    def start(self, script: str, **options: Any) -> asyncio.Task[Ended]:
        return asyncio.create_task(self.sh(script, **options))

    async def until(self, condition: Callable[[], bool], seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    async def said(self, text: str) -> None:
        await self.until(lambda: text in self.output.text())


@pytest.fixture(scope="module")
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    guardian.start()
    yield guardian
    guardian.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(
    request: pytest.FixtureRequest, guardian: Guardian, tmp_path: Path
) -> Callable[[Body], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(body: Body) -> None:
        async def main() -> None:
            await body(Commands(guardian, tmp_path))

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        assert not guardian._groups

    return run


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_payload_output_exit_and_place(on_loop: Callable[[Body], None], tmp_path: Path) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.sh("cat; pwd; echo oops >&2; exit 3", payload=b'{"a":1}')
        assert ended.exit_code == 3
        assert ended.error == "exit code 3"
        assert ended.stopped is None
        assert commands.output.text() == f'{{"a":1}}{tmp_path}\noops\n'

    on_loop(body)


def test_success_has_no_error(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        assert (await commands.sh("true")).error is None

    on_loop(body)


def test_death_by_signal_is_told_apart(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.sh("kill -SEGV $$")
        assert ended.exit_code == -signal.SIGSEGV
        assert ended.error == "killed by SIGSEGV"

    on_loop(body)


@pytest.mark.parametrize("argv", [("no-such-program",), ("/",), ("sh\0",)])
def test_what_cannot_be_started_fails(argv: tuple[str], on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.run(*argv)
        assert ended.exit_code is None
        assert ended.error is not None
        assert ended.error.startswith("cannot start")

    on_loop(body)


def test_cancelling_ends_the_whole_group_politely(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        task = commands.start("sleep 100 & echo $! up; sleep 100")
        await commands.said("up")
        child = int(commands.output.text().split()[0])
        commands.cancel.set()
        ended = await task
        assert (ended.stopped, ended.exit_code) == ("cancelled", -signal.SIGTERM)
        await commands.until(lambda: not alive(child))

    on_loop(body)


def test_who_ignores_sigterm_is_killed_after_the_grace(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        task = commands.start("trap '' TERM; sleep 100 & echo $! up; wait; wait", grace=0.2)
        await commands.said("up")
        child = int(commands.output.text().split()[0])
        began = time.monotonic()
        commands.cancel.set()
        ended = await task
        assert 0.2 <= time.monotonic() - began < 1.2
        assert (ended.stopped, ended.exit_code) == ("cancelled", -signal.SIGKILL)
        await commands.until(lambda: not alive(child))

    on_loop(body)


def test_what_a_dead_leader_leaves_has_the_grace_too(on_loop: Callable[[Body], None]) -> None:
    """A wrapper script dies of SIGTERM at once; the program in it may still save its work."""

    async def body(commands: Commands) -> None:
        saving = (
            "trap 'sleep 0.3; echo saved > saved; exit' TERM; echo up; while :; do sleep 0.05; done"
        )
        task = commands.start(f"sh -c '{saving.replace(chr(39), chr(34))}' & wait")
        await commands.said("up")
        commands.cancel.set()
        ended = await task
        assert ended.exit_code == -signal.SIGTERM
        assert (commands.cwd / "saved").read_text() == "saved\n"

    on_loop(body)


def test_a_stopped_process_can_be_cancelled(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        task = commands.start("echo $$ up; kill -STOP $$; sleep 100")
        await commands.said("up")
        pid = int(commands.output.text().split()[0])
        await commands.until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        commands.cancel.set()
        assert (await task).exit_code == -signal.SIGTERM

    on_loop(body)


def test_cancelled_before_the_start(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        commands.cancel.set()
        assert (await commands.sh("sleep 100")).stopped == "cancelled"

    on_loop(body)


def test_timeout(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.sh("sleep 100", timeout=0.1)
        assert (ended.stopped, ended.exit_code) == ("timeout", -signal.SIGTERM)

    on_loop(body)


def test_a_cancelled_task_ends_its_command_first(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        task = commands.start(
            "trap 'echo bye; exit 0' TERM; echo $$ up; while :; do sleep 0.05; done"
        )
        await commands.said("up")
        pid = int(commands.output.text().split()[0])
        task.cancel()
        ended = await task
        assert (ended.stopped, ended.exit_code) == ("interrupted", 0)
        assert "bye" in commands.output.text()
        assert not alive(pid)

    on_loop(body)


def test_cancelling_a_task_twice_leaves_no_grace(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        task = commands.start(
            "trap 'echo no' TERM; echo up; while :; do sleep 0.05; done", grace=60
        )
        await commands.said("up")
        task.cancel()
        await commands.said("no")
        task.cancel()
        ended = await asyncio.wait_for(task, 2)
        assert (ended.stopped, ended.exit_code) == ("interrupted", -signal.SIGKILL)

    on_loop(body)


def test_ten_megabytes_of_output_leave_the_tail(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.sh("head -c 10000000 /dev/zero; printf 'the end'")
        assert ended.error is None
        assert commands.output.total == 10_000_007
        assert len(commands.output.text()) == 1000
        assert commands.output.text().endswith("\0the end")

    on_loop(body)


def test_a_payload_larger_than_the_pipe_arrives(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        assert (await commands.sh("sleep 0.1; wc -c", payload=b"x" * 3_000_000)).error is None
        assert commands.output.text().strip() == "3000000"

    on_loop(body)


@pytest.mark.parametrize("script", ["exec <&-; sleep 0.1", "true", "sleep 0.1"])
def test_a_payload_nobody_reads_is_no_fault(script: str, on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        assert (await commands.sh(script, payload=b"x" * 3_000_000)).error is None

    on_loop(body)


def test_leftovers_of_the_group_are_killed(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.sh("trap '' TERM HUP; sleep 100 & echo $!")
        assert ended.exit_code == 0
        child = int(commands.output.text())
        await commands.until(lambda: not alive(child))

    on_loop(body)


def test_a_daemon_that_holds_stdout_does_not_hold_us(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        began = time.monotonic()
        # The leader ends only when the daemon has left the group.
        ended = await commands.python(
            "import os,time\n"
            "r, w = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    os.setsid(); print(os.getpid(), flush=True); os.write(w, b'x'); time.sleep(100)\n"
            "os.read(r, 1)\n"
        )
        assert ended.exit_code == 0
        assert time.monotonic() - began < 5
        os.kill(int(commands.output.text()), signal.SIGKILL)

    on_loop(body)


BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_cpu_time_counts_grandchildren(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        burn = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {BURN!r}])"
        assert 300 <= (await commands.python(burn)).cpu_ms < 2000
        assert (await commands.sh("sleep 0.3")).cpu_ms < 100

    on_loop(body)


def test_cpu_time_of_killed_grandchildren_is_not_lost(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        code = BURN + "print('burnt', flush=True)\ntime.sleep(100)"
        (commands.cwd / "burn.py").write_text(code)
        task = commands.start(f"{sys.executable} -S burn.py & wait")
        await commands.said("burnt")
        commands.cancel.set()
        assert (await task).cpu_ms >= 280  # the kernel shows it in ticks of 10 ms

    on_loop(body)


def test_nice_and_affinity_are_applied_and_told(on_loop: Callable[[Body], None]) -> None:
    cpu = max(os.sched_getaffinity(0))

    async def body(commands: Commands) -> None:
        code = "import os,time; time.sleep(0.2); print(os.nice(0), os.sched_getaffinity(0))"
        ended = await commands.python(code, nice=7, cpus=[cpu])
        assert commands.output.text() == f"7 {{{cpu}}}\n"
        assert ended.applied == ("nice 7", f"cpus {cpu}")
        assert ended.limitations == ()

    on_loop(body)


def test_what_cannot_be_applied_is_told(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        ended = await commands.sh("sleep 0.1", cpus=[1000])
        assert ended.applied == ()
        assert ended.limitations == ("cpus 1000 not applied: EINVAL",)
        assert ended.error is None

    on_loop(body)


def test_a_command_sees_no_secrets(
    on_loop: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "secret")
    monkeypatch.setenv("LC_TIME", "C")

    async def body(commands: Commands) -> None:
        await commands.sh('echo "$API_TOKEN,$LC_TIME"')
        assert commands.output.text() == ",C\n"

    on_loop(body)


def test_no_descriptor_nor_child_is_left_after_fifty_runs(on_loop: Callable[[Body], None]) -> None:
    async def body(commands: Commands) -> None:
        await commands.sh("true")
        before = os.listdir("/proc/self/fd")
        children = len(psutil.Process().children())
        for index in range(5):
            results = await asyncio.gather(
                *(commands.sh("cat; sleep 0.01 & exit 1") for _ in range(8)),
                commands.run("no-such-program"),
                commands.sh("sleep 9", timeout=0.01 * index),
            )
            assert [result.exit_code for result in results[:8]] == [1] * 8
        assert len(os.listdir("/proc/self/fd")) <= len(before)
        assert len(psutil.Process().children()) == children

    on_loop(body)


def test_without_pidfd_a_thread_awaits_the_exit(
    on_loop: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")

    async def body(commands: Commands) -> None:
        ended = await commands.sh("sleep 100 & exit 4")
        assert ended.error == "exit code 4"
        assert 0 < ended.cpu_ms < 1000
        assert (await commands.sh("sleep 100", timeout=0.1)).stopped == "timeout"

    on_loop(body)
