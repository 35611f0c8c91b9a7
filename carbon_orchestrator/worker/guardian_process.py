"""The guardian's own process: ends registered process groups when its parent has died.

Run as a script, with the read end of the parent's pipe as stdin. Lines "+PGID SIGNAL" register
a group, "-PGID" forgets one. The end of the pipe means that the parent is gone, however it died:
every group still registered is signalled, those asked for politely are killed 10 s later, and
this process ends. It imports nothing heavy, so that it costs little to keep.
"""

from __future__ import annotations

import os
import signal
import time

POLITE_SECONDS = 10.0
_POLL_SECONDS = 0.05


def main() -> None:
    # Whoever stops the whole service stops us too; we have to outlive the parent.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, int] = {}
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _register(groups, line)
    _end(groups)


def _register(groups: dict[int, int], line: bytes) -> None:
    if line.startswith(b"+"):
        pgid, number = line[1:].split()
        groups[int(pgid)] = int(number)
    else:
        groups.pop(int(line[1:]), None)


def _end(groups: dict[int, int]) -> None:
    polite = [
        pgid
        for pgid, number in groups.items()
        if _signal(pgid, number) and number != signal.SIGKILL
    ]
    deadline = time.monotonic() + POLITE_SECONDS
    while polite and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        polite = [pgid for pgid in polite if _signal(pgid, 0)]
    for pgid in polite:
        _signal(pgid, signal.SIGKILL)


def _signal(pgid: int, number: int) -> bool:
    """Whether the group was there to be signalled."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # some of the group has another user; the rest was signalled
        return True
    return True


if __name__ == "__main__":
    main()
