"""The scaler as it runs in a cluster: the program, its account's token, real Deployments, a real
Lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from real_cluster import LEASE, ROOT, Namespace

from carbon_orchestrator.clock import GridClock
from carbon_orchestrator.config import Config
from carbon_orchestrator.events import PoolScaled
from carbon_orchestrator.kubernetes.cluster import Access, Cluster
from carbon_orchestrator.scaler.actuator import Contended
from carbon_orchestrator.scaler.deciding import recomputed
from carbon_orchestrator.scaler.kubernetes import Deployments
from carbon_orchestrator.scaler.leadership import Leadership
from carbon_orchestrator.testing import Orchestrator
from carbon_orchestrator.topology import CODEC, Topology
from streams.connection import connect
from streams.keys import Partition
from streams.testing import until

pytestmark = pytest.mark.k8s

#: Nine jobs want three workers.
SLOTS, JOBS, SIZE = 4, 9, 3
CONFIG = f"""
[threshold]
mode = "absolute"
low = 100
high = 200

[pools]
fast.slots = {SLOTS}
eco.slots = {SLOTS}

[scaler]
interval = "200ms"
window = "1s"
up_every = 0
down_every = 0
down_step = 10
"""


@pytest.fixture
async def access(applied: Namespace) -> Access:
    return await applied.access(await applied.account("scaler"))


# -- one request at a time -----------------------------------------------------------------------


@pytest.fixture
async def make(access: Access) -> AsyncIterator[Callable[..., Deployments]]:
    """Makes scalers' hands by name; a lease that is not renewed is another's after 2 s."""
    clusters: list[Cluster] = []

    def make(name: str) -> Deployments:
        clusters.append(Cluster(access))
        leadership = Leadership(clusters[-1], LEASE, name, duration=2.0)
        return Deployments(clusters[-1], leadership, {"fast": "worker-fast", "eco": "worker-eco"})

    yield make
    for each in clusters:
        await each.aclose()


async def test_a_deployment_goes_to_nothing_and_comes_back(
    applied: Namespace, make: Callable[..., Deployments]
) -> None:
    pods = make("one")
    assert await pods.size("fast") == 1
    for current, size in ((1, 0), (0, 3), (3, 2)):
        await pods.scale("fast", current, size, frozenset(), "")
        assert await pods.size("fast") == await applied.replicas("worker-fast") == size
    assert await pods.size("eco") == 1


async def test_somebody_else_s_size_is_noticed_and_left(
    applied: Namespace, make: Callable[..., Deployments]
) -> None:
    pods = make("one")
    await applied.kubectl("scale", "deployment", "worker-fast", "--replicas=6")
    with pytest.raises(Contended, match="worker-fast has been set to 6 by somebody else"):
        await pods.scale("fast", 1, 2, frozenset(), "")
    assert await applied.replicas("worker-fast") == 6


async def test_a_lease_goes_to_another_by_silence_or_by_leave(
    applied: Namespace, make: Callable[..., Deployments]
) -> None:
    one, two = make("one"), make("two")
    assert await one.leading()
    assert not await two.leading()
    assert await applied.holder(LEASE) == "one"
    await until(two.leading, 10)
    assert not await one.leading(), "it was silent for too long"
    assert await applied.holder(LEASE) == "two"
    await two.aclose()
    assert await applied.holder(LEASE) == ""
    assert await one.leading()


# -- as a whole ----------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The file for which jobs of the type `hold` wait."""
    return tmp_path / "release"


@pytest.fixture
def orchestrator_types(release: Path) -> Mapping[str, Any]:
    return {"hold": ["sh", "-c", f"until [ -e '{release}' ]; do sleep 0.05; done"]}


@pytest.fixture
def orchestrator_config() -> Mapping[str, Any]:
    return {"scaler": msgspec.toml.decode(CONFIG, type=Config).scaler}


@pytest.fixture
async def start(
    orchestrator: Orchestrator, access: Access, tmp_path: Path
) -> AsyncIterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts scalers for the orchestrator's pools, and kills those that still run."""
    started: list[subprocess.Popen[bytes]] = []
    async with connect(orchestrator.redis_url) as client:
        # No signal sets the clock here.
        await client.hset(topology(orchestrator).clock, mapping=GridClock().fields())
    config = tmp_path / "carbon.toml"
    config.write_text(f'namespace = "{orchestrator.namespace}"\n{CONFIG}')
    command = [sys.executable, "-m", "carbon_orchestrator", "scaler", "--actuator", "kubernetes"]
    command += ["--api-server", access.server, "--namespace", access.namespace]
    command += ["--token-file", str(access.token_file), "--ca-file", str(access.ca_file)]
    command += ["--config", str(config)]
    environment = {**os.environ, "CARBON_REDIS_URL": orchestrator.redis_url}

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / f"scaler-{len(started)}.log").open("wb") as output:
            started.append(
                subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
            )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(10)


def topology(orchestrator: Orchestrator) -> Topology:
    return Topology(Partition(orchestrator.namespace))


async def changes(orchestrator: Orchestrator) -> list[PoolScaled]:
    """What is on record of sizes, each recomputed."""
    stream = topology(orchestrator).scaling
    async with connect(orchestrator.redis_url) as client:
        rows: Any = await client.execute_command("XRANGE", stream, "-", "+")
    events = [
        message.event
        for entry_id, fields in rows
        for message in CODEC.entry(stream, entry_id.decode(), tuple(fields)).messages
        if isinstance(message.event, PoolScaled)
    ]
    for each in events:
        assert recomputed(each).replicas == each.replicas
    return events


class Watched:
    """What the cluster is told, waited for."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    async def leader(self, before: str = "") -> str:
        """Who leads, other than the one before."""

        async def other() -> str:
            holder = await self._namespace.holder(LEASE)
            return "" if holder == before else holder

        return str(await until(other, 30))

    async def size(self, deployment: str, size: int) -> None:
        async def so_many() -> bool:
            return await self._namespace.replicas(deployment) == size

        await until(so_many, 30)


@pytest.fixture
def watched(applied: Namespace) -> Watched:
    return Watched(applied)


@pytest.mark.timeout(120)
async def test_deployments_follow_the_backlog_and_who_leaves_hands_over(
    orchestrator: Orchestrator,
    watched: Watched,
    start: Callable[[], subprocess.Popen[bytes]],
    release: Path,
) -> None:
    first = start()
    leader = await watched.leader()
    start()
    await watched.size("worker-eco", 0)
    jobs = [orchestrator.client.submit("hold", urgency="urgent") for _ in range(JOBS)]
    await watched.size("worker-fast", SIZE)
    first.send_signal(signal.SIGTERM)
    follower = await watched.leader(leader)
    assert first.wait(10) == 0
    release.touch()
    for each in jobs:
        assert orchestrator.client.wait(each, timeout=20).succeeded
    await watched.size("worker-fast", 0)
    events = await changes(orchestrator)
    assert {each.actuator for each in events} == {"kubernetes"}
    assert [events[0].scaler, events[-1].scaler] == [leader, follower]


@pytest.mark.timeout(120)
async def test_a_leader_that_dies_is_followed_by_another(
    orchestrator: Orchestrator, watched: Watched, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    first = start()
    leader = await watched.leader()
    start()
    await watched.size("worker-eco", 0)
    await watched.size("worker-fast", 0)
    first.kill()
    for _ in range(JOBS):
        orchestrator.client.submit("hold", urgency="urgent")
    follower = await watched.leader(leader)
    await watched.size("worker-fast", SIZE)
    assert (await changes(orchestrator))[-1].scaler == follower
