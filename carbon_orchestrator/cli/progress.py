"""How far something long has come, for a person who waits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]


@contextmanager
def progress() -> Iterator[Progress | None]:
    """Bars on standard error, by name, each from 0 to 1; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    # What is written to standard output meanwhile is not to go through the bars.
    with Bars(console=console, transient=True, redirect_stdout=False) as bars:
        tasks: dict[str, Callable[[float], None]] = {}

        def tell(name: str, share: float) -> None:
            if name not in tasks:
                task = bars.add_task(name, total=1.0)
                tasks[name] = lambda done: bars.update(task, completed=done)
            tasks[name](share)

        yield tell
