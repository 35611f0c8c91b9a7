"""A role whose wall clock can be set while it runs: what this process is told of the time is
off by the seconds (a float) that stand in a file.

    python -m benchmarks.chaos.stepped FILE ROLE ...
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

_SECONDS = struct.Struct("d")


def write_step(file: Path, seconds: float) -> None:
    """Set the clock of the role that was started with this file."""
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(_SECONDS.pack(seconds))


def _read_from(file: Path) -> Callable[[], float]:
    with file.open("rb") as opened:
        view = mmap.mmap(opened.fileno(), _SECONDS.size, prot=mmap.PROT_READ)
    return lambda: float(_SECONDS.unpack_from(view)[0])


def patch(step: Callable[[], float]) -> None:
    """Wherever this process asks for the wall time. Monotonic clocks do not step."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + step()
    time.time_ns = lambda: real_ns() + round(step() * 1e9)

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=step())

    from streams import codec

    vars(codec)["datetime"] = Stepped


def main() -> None:
    patch(_read_from(Path(sys.argv.pop(1))))
    from carbon_orchestrator.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
