"""The pipe by which a command says how far it is: $CARBON_PROGRESS."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from carbon_orchestrator.progress import Lines, Report

_READ = 64 << 10  # bytes at once


class ProgressPipe:
    """One command's. What comes through it and is no report is ignored (progress.py)."""

    __slots__ = ("_lines", "_loop", "_reader", "_report", "_writer")

    def __init__(self, report: Callable[[Report], None]) -> None:
        self._report = report
        self._lines = Lines()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader = self._writer = -1

    def open(self, owner: int | None = None) -> None:
        """Make it, for a command that runs as the user `owner`, or as ourselves. OSError."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        if owner is not None:
            os.fchown(self._writer, owner, -1)  # or it could not open the path

    @property
    def environment(self) -> dict[str, str]:
        """Where the command finds it: a path, as shells such as dash write to no descriptor above
        9. Who closes all descriptors before a program's start does not have it."""
        return {"CARBON_PROGRESS": f"/dev/fd/{self._writer}"}

    @property
    def for_the_child(self) -> tuple[int, ...]:
        """The descriptor to be inherited."""
        return (self._writer,)

    def listen(self) -> None:
        """The command has it: hear what it says."""
        os.close(self._writer)
        self._writer = -1
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._on_data)

    def _on_data(self) -> None:
        try:
            data = os.read(self._reader, _READ)
        except BlockingIOError:
            return
        if not data:  # nobody has it open any more
            self.close()
        elif (report := self._lines.feed(data)) is not None:
            self._report(report)

    def close(self) -> None:
        """Hear no more."""
        if self._loop is not None and self._reader >= 0:
            self._loop.remove_reader(self._reader)
        for each in (self._reader, self._writer):
            if each >= 0:
                os.close(each)
        self._reader = self._writer = -1
