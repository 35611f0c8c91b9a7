"""What a run is told: its seed, its length, its faults, and the deployment's configuration."""

from __future__ import annotations

from typing import Literal

import msgspec

from carbon_orchestrator.topology import Topology
from streams.keys import Partition

TOPOLOGY = Topology(Partition("carbon", 0))
LEASE_SECONDS = 3.0

#: Every kind of strike, and the names under which several are chosen at once.
KINDS = (
    *("kill", "pause", "kill-server", "latency", "cut", "half-open", "mid-reply", "trickle"),
    *("oom", "disk", "archive", "clock", "failover"),
)
GROUPS = {
    "all": KINDS,
    "network": ("latency", "cut", "half-open", "mid-reply", "trickle"),
    "full": ("oom", "disk", "archive"),
}
#: What is not done to a cluster: its nodes are found by themselves, not through the proxy.
NOT_ON_CLUSTERS = (*GROUPS["network"], "oom", "disk")
Durability = Literal["server", "replica"]

ROLES = (
    *("signal", "gateway", "router-1", "router-2", "accounting-1", "accounting-2"),
    *("worker-1", "worker-2", "worker-3"),
)
#: The jobs that go straight to the streams come by a link of their own.
PUBLISHER = "publisher"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Times are seconds; `speed` is that of the grid clock."""

    seed: int
    seconds: float = 600.0  # jobs are published and strikes are made for so long
    rate: float = 100.0  # jobs published per second, while the publishers get through
    faults: tuple[str, ...] = KINDS
    between: tuple[float, float] = (1.0, 2.0)  # from one strike to the next
    longest_pause: float = 60.0
    speed: float = 1800.0
    fsync: str = "always"
    durability: Durability = "replica"
    program: str | None = None
    patience: float = 300.0  # from the last job published until all rests
    partitions: int = 1  # of several, on a cluster of three nodes and their replicas

    @property
    def topologies(self) -> list[Topology]:
        """Of each partition."""
        return [Topology(Partition("carbon", number)) for number in range(self.partitions)]

    @property
    def may_lose(self) -> bool:
        """Whether an accepted job may be lost by what this run promises."""
        unreplicated = "failover" in self.faults and self.durability == "server"
        return unreplicated or self.fsync != "always"


def chosen(text: str) -> tuple[str, ...]:
    """The kinds that a comma-separated list names, in order. Raises ValueError."""
    names = [each.strip() for each in text.split(",") if each.strip()]
    for name in names:
        if name not in KINDS and name not in GROUPS:
            raise ValueError(f"no fault {name!r}; one of {', '.join([*KINDS, *GROUPS])}")
    kinds = {kind for name in names for kind in GROUPS.get(name, (name,))}
    return tuple(each for each in KINDS if each in kinds)


CONFIG = f"""
default_types = false
drain = "2s"
lease = "{LEASE_SECONDS:g}s"
retry_delay = "300ms"
[retention]
streams = "20s"
[archive]
seal_every = "2s"
[threshold]
mode = "absolute"
low = 100
high = 200
[urgency.normal]
deadline = "4h"
[urgency.flexible]
deadline = "10h"
[pools.fast]
slots = 50
[pools.eco]
slots = 50
[types.noop]
python = "benchmarks.handlers:noop"
expected_duration = "10ms"
[types.nap]
python = "benchmarks.handlers:nap"
expected_duration = "200ms"
[types.flaky]
python = "benchmarks.handlers:flaky"
expected_duration = "10ms"
max_attempts = 3
[types.true]
command = ["true"]
expected_duration = "100ms"
[types.doze]  # outlives the lease
command = ["sleep", "4"]
expected_duration = "4s"
"""
