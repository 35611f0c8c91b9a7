"""Keys as they are pressed."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pressed(tell: Callable[[str], None]) -> Iterator[None]:
    """`tell` each key, from the running loop; nothing where standard input is no terminal. Ctrl-C
    stays what it is."""
    if not sys.stdin.isatty():
        yield
        return
    loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def read() -> None:
        keys = os.read(fd, 64)
        if not keys:  # the terminal is gone
            loop.remove_reader(fd)
        for key in keys.decode("utf-8", "replace"):
            tell(key)

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
