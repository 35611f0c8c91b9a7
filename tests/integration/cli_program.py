"""The command line as people use it: the real program, and one real `up` to use it with."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app
from streams.embedded import free_port

ROOT = Path(__file__).parents[2]
TYPES = r"""
[types.hello]
command = ["{python}", "-c", "import sys; print('got', sys.stdin.read())"]
expected_duration = "1s"

[types.broken]
command = ["{python}", "-c", "print(chr(27) + '[31mboom'); raise SystemExit(3)"]
expected_duration = "1s"
max_attempts = 1

[types.sleeper]
command = ["sleep", "60"]
expected_duration = "1s"
"""
NOWHERE = "127.0.0.1:1"


class Cli:
    """A running deployment, and the program to use it with."""

    def __init__(self, url: str, redis_url: str) -> None:
        self.url, self.redis_url = url, redis_url

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """In this process: the many starts of the program would take most of the time."""
        given, out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(3))
        given.write(stdin)
        given.seek(0)
        with pytest.MonkeyPatch.context() as patch:
            for name, stream in (("stdin", given), ("stdout", out), ("stderr", error)):
                patch.setattr(sys, name, stream)
            status = status_of(arguments)
        out.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read(), error.read())

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """In a process of its own, as people start it."""
        command = [sys.executable, "-m", "carbon_orchestrator", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *arguments: str, status: int = 0) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def submitted(self, *arguments: str) -> str:
        done = self("submit", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job_id: str) -> str:
        with urllib.request.urlopen(f"{self.url}/jobs/{job_id}", timeout=10) as response:
            return str(json.load(response)["state"])

    def signalled(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/carbon", timeout=10) as response:
            return str(json.load(response)["signal"]) != "none"

    def redis(self) -> Redis:
        return Redis.from_url(self.redis_url)


def status_of(arguments: Sequence[str]) -> int:
    """Runs the command line in this process."""
    try:
        return told(app, list(arguments))
    except SystemExit as end:
        return int(end.code or 0)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@contextmanager
def running(home: Path) -> Iterator[Cli]:
    """One `up` with TYPES, which the environment points at, until the end."""
    (home / "types.toml").write_text(TYPES)
    port = free_port()
    command = [sys.executable, "-m", "carbon_orchestrator", "up", "--port", str(port)]
    command += ["--redis-port", str(free_port()), "--data", str(home / "data")]
    command += ["--config", str(home / "types.toml"), "--speed", "3600"]
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], 30)
            greeting = process.stdout.readline() if ready else b""
            assert b"is up at" in greeting, (home / "log").read_text()
            redis_url = (home / "data" / "redis-url").read_text()
            url = f"http://127.0.0.1:{port}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CARBON_URL", url)
                patch.setenv("CARBON_DATA_DIR", str(home / "data"))
                patch.setenv("COLUMNS", "100")
                for name in ("CARBON_REDIS_URL", "NO_COLOR"):
                    patch.delenv(name, raising=False)
                cli = Cli(url, redis_url)
                until(cli.signalled)
                yield cli
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


class Terminal:
    """The program on a terminal of its own, as a person sees it."""

    def __init__(self, *arguments: str, columns: int = 100, rows: int = 30, **env: str) -> None:
        size = {"COLUMNS": str(columns), "LINES": str(rows)}
        self.seen = b""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # pragma: no cover
            os.chdir(ROOT)
            command = [sys.executable, "-m", "carbon_orchestrator", *arguments]
            os.execve(sys.executable, command, {**os.environ, "TERM": "xterm", **size, **env})

    def until(self, word: str, seconds: float = 30.0) -> None:
        """Read until this was shown."""
        deadline = time.monotonic() + seconds
        while word.encode() not in self.seen:
            assert time.monotonic() < deadline, self.seen.decode(errors="replace")
            assert self._read(1.0), self.seen.decode(errors="replace")

    def _read(self, seconds: float) -> bool:
        """Whether it goes on."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        with suppress(OSError):  # how Linux tells the end of a terminal
            more = os.read(self._fd, 65536)
            self.seen += more
            return bool(more)
        return False

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def end(self, seconds: float = 30.0) -> int:
        """Read on to its end; its status."""
        deadline = time.monotonic() + seconds
        while self._read(1.0):
            assert time.monotonic() < deadline, self.seen.decode(errors="replace")
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
