"""What a Python handler is given besides its payload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from carbon_orchestrator.events import Pool
from carbon_orchestrator.progress import Report
from carbon_orchestrator.worker.output import OutputTail


class JobContext:
    """What a handler is told about its attempt, and what it may tell. Safe between threads."""

    __slots__ = (
        "_cancelled",
        "_directory",
        "_output",
        "_report",
        "_suspending",
        "attempt",
        "fence",
        "job_id",
        "pool",
        "told",
    )

    def __init__(
        self,
        job_id: str,
        attempt: int,
        pool: Pool,
        fence: str,
        directory: Callable[[str], Path],
        output: OutputTail,
        suspending: Callable[[], bool] = lambda: False,
        report: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.pool = pool
        self.fence = fence  # grows with each attempt: give it to stores that refuse older ones
        self._directory = directory
        self._output = output
        self._suspending = suspending
        self._report = report
        self._cancelled = False
        self.told = False  # whether the handler has asked and was told to stop

    @property
    def checkpoint_dir(self) -> Path:
        """A directory that survives retries and suspension; made at first use. OSError."""
        directory = self._directory(self.job_id)
        directory.mkdir(0o700, parents=True, exist_ok=True)
        return directory

    def cancelled(self) -> bool:
        """Whether the attempt is to stop: cancelled, suspended, out of time, or the worker
        shuts down."""
        self.told |= self._cancelled
        return self._cancelled

    def suspending(self) -> bool:
        """Whether it is to stop in order to go on later, from what it leaves in
        `checkpoint_dir`. A handler that was told so (or by `cancelled`) and returns is resumed;
        one that returns without having asked is taken to be done. An async handler is
        cancelled besides: raise that on, or return only what is the job's result."""
        suspending = self._cancelled and self._suspending()
        self.told |= suspending
        return suspending

    def log(self, text: str) -> None:
        """Add a line to the job's output: it is seen at once, and the last of it is kept."""
        self._output.write(text.encode("utf-8", "replace") + b"\n")

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Say which share of the job is done, from 0 to 1 (None: unknown), and what it is at, in
        a few words. Costs next to nothing: call it as often as you like, the latest counts.
        Raises TypeError, ValueError where `fraction` is no number."""
        self._report(Report.of(fraction, message))

    def stop(self) -> None:
        """Make `cancelled` true."""
        self._cancelled = True
