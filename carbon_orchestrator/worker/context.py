"""What a Python handler is given besides its payload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from carbon_orchestrator.events import Pool
from carbon_orchestrator.worker.output import OutputTail


class JobContext:
    """What a handler is told about its attempt, and what it may tell. Safe between threads."""

    __slots__ = ("_cancelled", "_directory", "_output", "attempt", "fence", "job_id", "pool")

    def __init__(
        self,
        job_id: str,
        attempt: int,
        pool: Pool,
        fence: str,
        directory: Callable[[str], Path],
        output: OutputTail,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.pool = pool
        self.fence = fence  # grows with each attempt: give it to stores that refuse older ones
        self._directory = directory
        self._output = output
        self._cancelled = False

    @property
    def checkpoint_dir(self) -> Path:
        """A directory that survives retries and suspension; made at first use. OSError."""
        directory = self._directory(self.job_id)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def cancelled(self) -> bool:
        """Whether the attempt is to stop: cancelled, out of time, or the worker shuts down."""
        return self._cancelled

    def log(self, text: str) -> None:
        """Add a line to the job's output, of which the tail is kept."""
        self._output.write(text.encode("utf-8", "replace") + b"\n")

    def stop(self) -> None:
        """Make `cancelled` true."""
        self._cancelled = True
