"""No job outlives its worker: process groups that die with this process, even by SIGKILL.

A guardian subprocess (guardian_process.py) reads a pipe whose write end this process alone
holds: when it dies the kernel closes the pipe, and the guardian signals every registered group.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path
from signal import SIGKILL

import structlog

from carbon_orchestrator.worker.guardian_process import POLITE_SECONDS

log = structlog.get_logger(__name__)

_SCRIPT = Path(__file__).with_name("guardian_process.py")


class Guardian:
    """Ends the registered process groups when this process ends, in whatever way.

    Groups are signalled with SIGKILL, or with the signal given and 10 s later with SIGKILL.
    Synchronous, and for one thread. OSError when the guardian cannot be started.
    """

    def __init__(self) -> None:
        self._groups: dict[int, int] = {}  # pgid -> signal number
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def start(self) -> None:
        """Start the guardian unless it runs."""
        if not self._running():
            self._launch()

    def watch(self, pgid: int, signal: int = SIGKILL) -> None:
        """Have `pgid` signalled when this process dies; restarts a guardian that died."""
        if pgid <= 1 or pgid == os.getpgrp():
            raise ValueError(f"process group {pgid} is not a job's")
        self._groups[pgid] = int(signal)
        if self._running():
            self._tell(f"+{pgid} {int(signal)}\n")
        else:
            self._launch()

    def forget(self, pgid: int) -> None:
        """The group is over: its number may soon be another's."""
        if self._groups.pop(pgid, None) is not None and self._running():
            self._tell(f"-{pgid}\n")

    def close(self) -> None:
        """End the guardian; groups still registered are signalled, as if this process died."""
        process, self._process = self._process, None
        self._groups.clear()
        self._close_pipe()
        if process is None:
            return
        try:
            process.wait(POLITE_SECONDS + 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(1)

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _tell(self, line: str) -> None:
        try:
            os.write(self._pipe, line.encode())
        except OSError:  # it died just now, or is stopped and its pipe is full
            self._launch()

    def _launch(self) -> None:
        """Start a guardian and tell it every group; any earlier one is ended first."""
        if self._process is not None:
            log.warning("guardian.restarted", exit_code=self._process.returncode)
            # Killed before its pipe closes, or it would end the groups that it has on its list.
            self._process.kill()
            self._process.wait()
            self._process = None
        self._close_pipe()
        # Neither end passes an exec (PEP 446); Popen makes stdin inheritable in the child alone.
        read_end, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SCRIPT)],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal is for the parent
            )
        except OSError:
            self._close_pipe()
            raise
        finally:
            os.close(read_end)
        _holders.add(self)
        # A full pipe must not stop the caller; before that, the list itself may be longer than it.
        os.write(self._pipe, "".join(f"+{p} {s}\n" for p, s in self._groups.items()).encode())
        os.set_blocking(self._pipe, False)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _release(self) -> None:
        """In a forked child: the parent alone holds the pipe and the guardian."""
        self._close_pipe()
        self._groups.clear()
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
            self._process = None


_holders: weakref.WeakSet[Guardian] = weakref.WeakSet()


def _release_in_forked_child() -> None:
    for guardian in list(_holders):
        guardian._release()


os.register_at_fork(after_in_child=_release_in_forked_child)
