"""Between client and server anything may happen to a commit: it takes effect once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from benchmarks.chaos.network import Network
from benchmarks.chaos.proxy import Conduct
from carbon_orchestrator.worker.guardian import Guardian
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.keys import Partition
from streams.testing import until

LINK = "client"
TIMEOUT = 0.3


@pytest.fixture
async def network(session_server: EmbeddedServer) -> AsyncIterator[Network]:
    network, guardian = Network(1, session_server.port), Guardian()
    guardian.watch(await network.start())
    yield network
    await network.close()
    guardian.close()


@pytest.fixture
async def through(network: Network, partition: Partition) -> AsyncIterator[Committer]:
    """A committer behind the proxy, soon out of patience with a silent connection."""
    port = await network.open(LINK)
    url = f"redis://127.0.0.1:{port}/0"
    committer = Committer(connect(url, timeout=TIMEOUT), partition, patience=30)
    yield committer
    await committer.aclose()


def _count(partition: Partition, member: str) -> Transaction:
    """What shows how often it was done."""
    done, total = partition.key("totals:done"), partition.key("totals:sum")
    return Transaction().increment(done, member, 1).increment(total, "all", 1)


async def test_a_commit_whose_reply_is_cut_short_takes_effect_once(
    network: Network, through: Committer, partition: Partition, redis: Any
) -> None:
    await network.behave(LINK, Conduct(cut=0.3, cut_after=30))
    members = [str(number) for number in range(25)]
    for member in members:
        assert await through.apply(_count(partition, member))
    await network.behave(LINK, Conduct())
    assert network.cuts > 0, "nothing was cut: nothing is shown"
    done = await redis.hgetall(partition.key("totals:done"))
    assert {name.decode(): int(value) for name, value in done.items()} == dict.fromkeys(members, 1)
    assert int(await redis.hget(partition.key("totals:sum"), "all")) == len(members)


async def test_copies_that_were_held_back_and_come_late_change_nothing(
    network: Network, through: Committer, partition: Partition, redis: Any
) -> None:
    assert await through.apply(_count(partition, "before"))
    await network.behave(LINK, Conduct(silent="requests"))
    held = asyncio.create_task(through.apply(_count(partition, "held")))
    await asyncio.sleep(TIMEOUT * 2.5)  # the client gives up on at least two connections
    assert not held.done()
    await network.behave(LINK, Conduct())
    assert await held
    assert await through.apply(_count(partition, "after"))

    async def all_came() -> bool:
        clients = await redis.client_list()
        return len(clients) <= 2  # this one and the committer's last: the given up are through

    await until(all_came)
    assert int(await redis.hget(partition.key("totals:sum"), "all")) == 3


async def test_who_resets_connections_at_will_only_delays(
    network: Network, through: Committer, partition: Partition, redis: Any
) -> None:
    sent = [asyncio.create_task(through.apply(_count(partition, str(n)))) for n in range(50)]
    for _ in range(5):
        await network.behave(LINK, Conduct(refuse=True), reset=True)
        await asyncio.sleep(0.02)
        await network.behave(LINK, Conduct(trickle=3, latency_ms=1.0))
    assert all(await asyncio.gather(*sent))
    assert int(await redis.hget(partition.key("totals:sum"), "all")) == 50
