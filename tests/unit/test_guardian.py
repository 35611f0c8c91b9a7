"""Jobs die with their worker, however it dies. Real processes throughout."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from carbon_orchestrator.worker.guardian import Guardian


def members(pgid: int) -> list[int]:
    """Processes of a group that still live."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getpgid(pid) == pgid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (OSError, psutil.Error):
            continue
    return found


def until(condition: Callable[[], bool], seconds: float = 2.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    guardian.start()
    yield guardian
    guardian.close()


@pytest.fixture
def group() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 100 & echo up; sleep 100"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(2)


PARENT = """
import subprocess, sys
from carbon_orchestrator.worker.guardian import Guardian
guardian = Guardian()
jobs, pids = [], []
for script in sys.argv[1:]:
    job = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    guardian.watch(job.pid)
    job.stdout.readline()
    pids.append(job.pid)
# It inherits every descriptor that is inheritable, and must not keep the pipe open.
bystander = subprocess.Popen(["sleep", "100"], close_fds=False, start_new_session=True,
                             stdout=subprocess.DEVNULL)
print(*pids, bystander.pid, guardian._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_groups_die_within_two_seconds_of_a_killed_parent(number: int) -> None:
    ignoring = "trap '' TERM HUP INT; (sh -c 'echo up; sleep 100' & sleep 100) & sleep 100"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, "sleep 100 & echo up; sleep 100", ignoring],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        first, second, bystander, watcher = map(int, parent.stdout.readline().split())
        try:
            assert len(members(first)) >= 2
            assert len(members(second)) >= 3
            os.kill(parent.pid, number)
            parent.wait(2)
            assert until(lambda: not members(first) and not members(second))
            assert members(bystander), "what was not registered is left alone"
            assert until(lambda: not members(watcher)), "the guardian goes when its work is done"
        finally:
            os.killpg(bystander, signal.SIGKILL)


def test_a_forked_child_does_not_keep_the_pipe_open(group: subprocess.Popen[bytes]) -> None:
    code = """
import os, sys, time
from carbon_orchestrator.worker.guardian import Guardian
guardian = Guardian()
guardian.watch(int(sys.argv[1]))
child = os.fork()
if child == 0:
    time.sleep(100)
print(child, flush=True)
time.sleep(100)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(group.pid)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            assert until(lambda: group.poll() is not None)
            assert until(lambda: not members(group.pid))
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_group_is_left_alone_once_forgotten(group: subprocess.Popen[bytes]) -> None:
    guardian = Guardian()
    guardian.watch(group.pid)
    guardian.forget(group.pid)
    guardian.forget(group.pid)
    guardian.close()
    assert group.poll() is None
    assert len(members(group.pid)) >= 2


def test_closing_ends_what_is_still_registered_and_may_be_repeated(
    group: subprocess.Popen[bytes],
) -> None:
    guardian = Guardian()
    guardian.watch(group.pid)
    guardian.close()
    guardian.close()
    assert until(lambda: not members(group.pid))


def test_a_group_watched_with_sigterm_may_end_by_itself() -> None:
    script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        guardian = Guardian()
        guardian.watch(server.pid, signal.SIGTERM)
        # close() waits for the guardian, which waits for a group that we alone can reap.
        os.close(guardian._pipe)
        guardian._pipe = -1
        assert server.stdout.readline() == b"bye\n"
        assert server.wait(2) == 7
        guardian.close()


def test_a_guardian_that_died_is_restarted_with_all_groups(
    guardian: Guardian, group: subprocess.Popen[bytes]
) -> None:
    guardian.watch(group.pid)
    assert guardian._process is not None
    first = guardian._process.pid
    os.kill(first, signal.SIGKILL)
    assert until(lambda: not members(first))
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as other:
        guardian.watch(other.pid)
        assert guardian._process.pid != first
        guardian.close()
        assert until(lambda: not members(group.pid) and not members(other.pid))


def test_a_guardian_that_does_not_read_is_replaced_instead_of_waited_for(
    guardian: Guardian, group: subprocess.Popen[bytes]
) -> None:
    guardian.watch(group.pid)
    assert guardian._process is not None
    first = guardian._process.pid
    os.kill(first, signal.SIGSTOP)
    assert until(lambda: psutil.Process(first).status() == psutil.STATUS_STOPPED)
    for _ in range(6000):
        guardian.watch(999_999_999)
        if guardian._process.pid != first:
            break
    assert guardian._process.pid != first
    assert group.poll() is None, "the replaced guardian must not act on its list"
    guardian.forget(999_999_999)
    guardian.close()
    assert until(lambda: not members(group.pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_guardian_outlives_polite_signals(
    guardian: Guardian, group: subprocess.Popen[bytes], number: int
) -> None:
    guardian.watch(group.pid)
    assert guardian._process is not None
    watcher = guardian._process
    assert os.getsid(watcher.pid) != os.getsid(0)
    ignored = psutil.Process(watcher.pid)  # it must have come far enough to ignore anything
    assert until(
        lambda: ignored.status() == psutil.STATUS_SLEEPING and _ignores(watcher.pid, number)
    )
    os.kill(watcher.pid, number)
    guardian.watch(group.pid)
    assert watcher.poll() is None
    guardian.close()
    assert until(lambda: not members(group.pid))


def _ignores(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
    return bool(mask >> (number - 1) & 1)


def test_our_own_group_is_no_job(guardian: Guardian) -> None:
    for pgid in (0, 1, os.getpgrp()):
        with pytest.raises(ValueError, match="not a job's"):
            guardian.watch(pgid)
