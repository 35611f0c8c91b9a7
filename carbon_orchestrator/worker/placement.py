"""Scheduling priority and CPU affinity: what was applied, and what could not be."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence


def place(pid: int, nice: int, cpus: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give process `pid` (0: the calling thread, Linux only) a nice value and CPUs.

    nice 0 and no CPUs mean "as inherited". Returns what was applied and what was not, each as
    phrases for a person. A process that is already gone yields neither.
    """
    applied: list[str] = []
    limitations: list[str] = []
    if nice:
        wanted = f"nice {nice}"
        try:
            if pid == 0 and sys.platform != "linux":
                raise OSError(errno.ENOTSUP, "no per-thread priority")
            os.setpriority(os.PRIO_PROCESS, pid, nice)
            applied.append(wanted)
        except ProcessLookupError:
            pass
        except OSError as error:
            limitations.append(not_applied(wanted, error))
    if cpus:
        wanted = "cpus " + ",".join(map(str, cpus))
        try:
            if not hasattr(os, "sched_setaffinity"):
                raise OSError(errno.ENOTSUP, "no CPU affinity")
            os.sched_setaffinity(pid, cpus)
            granted = os.sched_getaffinity(pid)
            if granted == set(cpus):
                applied.append(wanted)
            else:  # a container's cpuset may allow only some of them
                applied.append("cpus " + ",".join(map(str, sorted(granted))))
                limitations.append(f"{wanted} not applied in full: the system allows fewer")
        except ProcessLookupError:
            pass
        except OSError as error:
            limitations.append(not_applied(wanted, error))
    return tuple(applied), tuple(limitations)


def not_applied(wanted: str, error: OSError) -> str:
    """Such as "nice -5 not applied: EACCES"."""
    return f"{wanted} not applied: {errno.errorcode.get(error.errno or 0, str(error))}"
