"""The CPU packages' energy counters, as the kernel's powercap tree shows them.

Format: https://docs.kernel.org/power/powercap/powercap.html. Reading needs root since
CVE-2020-8694.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

POWERCAP = Path("/sys/class/powercap")
PROC_STAT = Path("/proc/stat")

# Whole packages only: their subzones (intel-rapl:0:0) are parts of them.
_ZONE = re.compile(r"intel-rapl:\d+")


class Sample(msgspec.Struct, frozen=True):
    at: float  # seconds, monotonic
    package_uj: int  # µJ of all packages since the meter was made
    busy_ms: float  # busy CPU time of the machine since boot


def advance(before: int, after: int, limit: int) -> int:
    """µJ between two readings of a counter that starts again at 0 after `limit`."""
    return after - before if after >= before else after - before + limit


def busy_ms(proc_stat: str, ticks_per_second: int) -> float:
    """Busy CPU time since boot from /proc/stat (proc_stat(5)): all but idle, iowait, steal.

    Guest time is within user time already. ValueError for other text.
    """
    name, *ticks = proc_stat.partition("\n")[0].split()
    if name != "cpu" or len(ticks) < 7:
        raise ValueError("/proc/stat does not begin with the line of all CPUs")
    user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
    return (user + nice + system + irq + softirq) * 1000 / ticks_per_second


class Rapl:
    """All packages' counters as one that does not wrap, if sampled before each wraps twice.

    OSError, with a reason for a person, when they cannot be read.
    """

    def __init__(self, powercap: Path = POWERCAP, proc_stat: Path = PROC_STAT) -> None:
        self._stat = proc_stat
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._limits: dict[Path, int] = {}
        self._last: dict[Path, int] = {}
        self._total_uj = 0
        names = []
        try:
            for zone in sorted(powercap.iterdir()):
                if not _ZONE.fullmatch(zone.name):
                    continue
                name = (zone / "name").read_text().strip()
                if name.startswith("package"):  # not psys, the whole platform
                    counter = zone / "energy_uj"
                    self._limits[counter] = int((zone / "max_energy_range_uj").read_text())
                    self._last[counter] = int(counter.read_text())
                    names.append(name)
        except FileNotFoundError:
            raise OSError("this machine shows no RAPL counters") from None
        except PermissionError:
            raise OSError("RAPL counters may be read by root only") from None
        except ValueError as error:
            raise OSError(f"RAPL counters are unreadable: {error}") from None
        if not names:
            raise OSError("this machine shows no RAPL counters")
        self.zones = ", ".join(names)

    def sample(self, at: float) -> Sample:
        """Read all counters now; `at` is the monotonic time. OSError when they are gone."""
        try:
            for counter, limit in self._limits.items():
                now = int(counter.read_text())
                self._total_uj += advance(self._last[counter], now, limit)
                self._last[counter] = now
            return Sample(at, self._total_uj, busy_ms(self._stat.read_text(), self._ticks))
        except ValueError as error:
            raise OSError(f"RAPL counters are unreadable: {error}") from None
