"""Running a command as one attempt of a job: bounded, stoppable, its CPU time exact.

The command leads a session and process group of its own, and all of the group ends with it:
SIGTERM, then `grace` seconds, then SIGKILL. The leader is not reaped before the group is dealt
with, so that its number cannot be another's when signals are sent.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import structlog

from carbon_orchestrator.progress import Report
from carbon_orchestrator.worker.attempt import Ended, StopReason, StopWatch
from carbon_orchestrator.worker.confinement import Confinement
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.placement import place
from carbon_orchestrator.worker.progress_pipe import ProgressPipe

log = structlog.get_logger(__name__)

_UNCONFINED = Confinement()
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
_READ = 64 << 10  # bytes at once
_LAST_READ = 1 << 20  # bytes still taken from the pipe when the group is gone
_LINGER_POLL = 0.05  # seconds between looks at what is left of a group that is stopping
_KILL_WAIT = 1.0  # seconds that the kernel has to end what was killed


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the worker's own environment a command may see: no secrets among it."""
    return {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name.startswith("LC_")
    }


async def run_command(
    argv: Sequence[str],
    payload: bytes,
    output: OutputTail,
    guardian: Guardian,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    nice: int = 0,
    cpus: Sequence[int] = (),
    timeout: float,
    grace: float,
    cancel: asyncio.Event,
    confinement: Confinement | None = None,
    report: Callable[[Report], None] = lambda _: None,
) -> Ended:
    """Run `argv` with `payload` on stdin; stdout and stderr go to `output`, and what it writes
    to $CARBON_PROGRESS to `report`.

    Ends at the latest `grace` + 1 s after `cancel` is set, `timeout` seconds have passed or the
    caller is cancelled; the last is told by `stopped`, not raised. Never raises for the
    command's faults.
    """
    confined = _UNCONFINED if confinement is None else confinement
    identity = confined.identity
    pipe = ProgressPipe(report)
    try:
        if confined.limited:
            _must_be_there(argv[0], cwd, environment)
        pipe.open(None if identity is None else identity.uid)
        process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's reaps before the group is dealt with
            confined.argv(list(argv)),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**environment, **pipe.environment},
            pass_fds=pipe.for_the_child,
            start_new_session=True,
            user=None if identity is None else identity.uid,
            group=None if identity is None else identity.gid,
            extra_groups=None if identity is None else identity.groups,
        )
    except (OSError, ValueError) as error:
        pipe.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Ended(error=f"cannot start {argv[0]!r}: {reason}")
    child = _Child(process, output, guardian, grace)
    watch: StopWatch | None = None
    try:
        guardian.watch(process.pid)
        applied, limitations = place(process.pid, nice, cpus)
        child.attach(payload)
        pipe.listen()
        watch = StopWatch(child.loop, cancel, child.loop.time() + timeout, child.stop)
        await child.wait()
    except OSError as error:  # no guardian, no descriptors left: it must not run on unwatched
        log.error("command.unwatched", error=str(error))
        child.kill()
        await child.wait()
        return Ended(error=f"cannot run {argv[0]!r}: {error}", cpu_ms=child.end()[1] * 1000)
    finally:
        if watch is not None:
            watch.close()
        pipe.close()
        child.end()
    exit_code, cpu_s = child.end()
    return Ended(
        stopped=child.stopped,
        error=confined.explain(exit_code, cpu_s, output.text) or exit_error(exit_code),
        done=exit_code == 0,
        exit_code=exit_code,
        cpu_ms=cpu_s * 1000,
        applied=applied + confined.applied,
        limitations=limitations,
    )


def _must_be_there(program: str, cwd: Path, environment: Mapping[str, str]) -> None:
    """Raises OSError, as starting it would: `prlimit` would say so in the output only."""
    named = str(cwd / program) if os.sep in program else program
    if shutil.which(named, path=environment.get("PATH")) is None:
        missing = os.sep not in program or not os.path.exists(named)
        number = errno.ENOENT if missing else errno.EACCES
        raise OSError(number, os.strerror(number))


def exit_error(exit_code: int | None) -> str | None:
    """One line for a person, None for success. None: it did not end when killed."""
    if exit_code is None:
        return "did not end within a second of SIGKILL"
    if exit_code == 0:
        return None
    if exit_code > 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


class _Child:
    """A running command: its pipes, its end, and the ending of its group."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: OutputTail,
        guardian: Guardian,
        grace: float,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopped: StopReason | None = None
        self._process = process
        self._pid = process.pid
        self._output = output
        self._guardian = guardian
        self._grace = grace
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: int = process.stdin.fileno()
        self._stdout: int = process.stdout.fileno()
        self._pidfd = -1
        self._unsent = memoryview(b"")
        self._done: asyncio.Future[None] = self.loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._exited = False
        self._killed = False
        self._reaped: tuple[int, float] | None = None  # exit code, CPU seconds
        self._seen_cpu_s = 0.0  # of the whole group, when last looked at
        self._ended: tuple[int | None, float] | None = None

    def attach(self, payload: bytes) -> None:
        """Begin to feed, to listen, and to await the exit. OSError."""
        self._await_exit()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self.loop.add_reader(self._stdout, self._on_output)
        self._unsent = memoryview(payload)
        self._send()
        if self._stdin >= 0:
            self.loop.add_writer(self._stdin, self._send)

    async def wait(self) -> None:
        """Until the command and its group are over, or have been given up."""
        while not self._done.done():
            try:
                await asyncio.wait([self._done])
            except asyncio.CancelledError:
                if self.stopped == "interrupted":  # asked twice: no more grace
                    self.kill()
                self.stop("interrupted")
                self.stopped = "interrupted"  # over or not: the caller has to hear of it

    def stop(self, reason: StopReason) -> None:
        """Ask the whole group to end, and see that it does."""
        if self._exited or self.stopped is not None:
            return
        self.stopped = reason
        self._look()
        _signal_group(self._pid, signal.SIGTERM)
        _signal_group(self._pid, signal.SIGCONT)  # or a stopped process would not notice
        self._timer = self.loop.call_later(self._grace, self.kill)

    def kill(self) -> None:
        """End the whole group now."""
        if self._killed:
            return
        self._killed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._done.done():
            self._look()
        _signal_group(self._pid, signal.SIGKILL)
        if self._exited:
            self._finish()
        else:
            self._timer = self.loop.call_later(_KILL_WAIT, self._finish)

    def end(self) -> tuple[int | None, float]:
        """Leave nothing behind: (exit code, CPU seconds of all that was waited for)."""
        if self._ended is not None:
            return self._ended
        for handle in (self._timer, self._linger):
            if handle is not None:
                handle.cancel()
        _signal_group(self._pid, signal.SIGKILL)  # what the leader left running
        if self._pidfd >= 0:
            self.loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._close_stdin()
        self._take_rest()
        exit_code, cpu_s = self._reap()
        self._ended = exit_code, max(cpu_s, self._seen_cpu_s)
        return self._ended

    # The exit

    def _await_exit(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # an old kernel, or a sandbox that forbids it
                self._pidfd = os.pidfd_open(self._pid)
                self.loop.add_reader(self._pidfd, self._on_exit)
                return
        threading.Thread(target=self._reap_in_thread, daemon=True).start()

    def _reap_in_thread(self) -> None:
        reaped = _wait(self._pid, 0)
        with suppress(RuntimeError):  # the loop was closed: nobody asks any more
            self.loop.call_soon_threadsafe(self._on_reaped, reaped)

    def _on_reaped(self, reaped: tuple[int, float] | None) -> None:
        self._reaped = reaped
        if self._ended is None:
            self._on_exit()
        else:  # given up, and over at last
            self._guardian.forget(self._pid)

    def _on_exit(self) -> None:
        if self._pidfd >= 0:
            self.loop.remove_reader(self._pidfd)
        self._exited = True
        self._on_linger()

    def _on_linger(self) -> None:
        """What a stopped leader leaves has the rest of the grace, perhaps to save its work."""
        if self.stopped is not None and not self._killed and self._look():
            self._linger = self.loop.call_later(_LINGER_POLL, self._on_linger)
        else:
            self._finish()

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _reap(self) -> tuple[int | None, float]:
        if self._reaped is None:
            self._reaped = _wait(self._pid, os.WNOHANG)
        if self._reaped is None:  # the kernel does not let it go; somebody must wait for it
            self._process.returncode = 0
            if self._pidfd >= 0:
                threading.Thread(target=self._reap_in_thread, daemon=True).start()
            return None, 0.0
        self._guardian.forget(self._pid)
        self._process.returncode = self._reaped[0]  # or Popen would wait for it
        return self._reaped

    def _look(self) -> bool:
        """Note the group's CPU time, which is lost with those whom nobody waits for.

        Returns whether any process but the leader is left.
        """
        cpu_s, others = 0.0, False
        for pid in psutil.pids():
            try:
                if os.getpgid(pid) != self._pid:
                    continue
                process = psutil.Process(pid)
                cpu_s += sum(process.cpu_times()[:4])  # own and waited for, user and system
                if pid != self._pid and process.status() != psutil.STATUS_ZOMBIE:
                    others = True
            except (OSError, psutil.Error):
                continue
        self._seen_cpu_s = max(self._seen_cpu_s, cpu_s)
        return others

    # The pipes

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._stdin, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it does not want to read
            pass
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self.loop.remove_writer(self._stdin)
            self._stdin = -1
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _on_output(self) -> None:
        try:
            data = os.read(self._stdout, _READ)
        except BlockingIOError:
            return
        if data:
            self._output.write(data)
        else:
            self._close_stdout()

    def _take_rest(self) -> None:
        """What the pipe still holds; one who left the group may hold it open for ever."""
        left = _LAST_READ
        while self._stdout >= 0 and left > 0:
            try:
                data = os.read(self._stdout, _READ)
            except OSError:
                break
            if not data:
                break
            self._output.write(data)
            left -= len(data)
        self._close_stdout()

    def _close_stdout(self) -> None:
        if self._stdout >= 0:
            self.loop.remove_reader(self._stdout)
            self._stdout = -1
            assert self._process.stdout is not None
            self._process.stdout.close()


def _signal_group(pgid: int, number: int) -> None:
    # PermissionError: a group of zombies (macOS), or one whose members changed their user.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def _wait(pid: int, options: int) -> tuple[int, float] | None:
    """(exit code, CPU seconds of it and all whom it waited for), or None while it runs."""
    reaped, status, usage = os.wait4(pid, options)
    if reaped == 0:
        return None
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
