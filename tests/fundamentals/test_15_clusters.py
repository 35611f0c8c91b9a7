"""A Redis Cluster: each partition is on one node at a time, and is followed to where it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as RedisConnectionError
from shop import CODEC, Shipping, items, order

from streams.cluster import nodes
from streams.commit import Committer
from streams.connection import connect
from streams.consumer import Consumer
from streams.embedded import EmbeddedServer
from streams.embedded_cluster import EmbeddedCluster, ask
from streams.errors import Refused, is_transient
from streams.group import Group
from streams.keys import Partition
from streams.testing import running, until


@pytest.fixture
async def client_of(
    session_cluster: EmbeddedCluster,
) -> AsyncIterator[Callable[[int], Redis]]:
    """Makes clients of a partition."""
    made: list[Redis] = []

    def new(partition: int) -> Redis:
        made.append(connect(session_cluster.url, partition=partition))
        return made[-1]

    yield new
    for each in made:
        await each.aclose()


async def _primary(cluster: EmbeddedCluster, partition: int) -> EmbeddedServer:
    return await cluster.primary(key_slot(b"%d" % partition))


def test_a_url_names_any_nodes_of_a_cluster() -> None:
    assert nodes("redis+cluster://user:word@one:7000,two:7001/0?db=0") == [
        "redis://user:word@one:7000/0?db=0",
        "redis://user:word@two:7001/0?db=0",
    ]
    assert nodes("rediss+cluster://one") == ["rediss://one"]
    assert nodes("redis://one:7000") == []


async def test_partitions_are_spread_over_the_nodes(
    session_cluster: EmbeddedCluster, client_of: Callable[[int], Redis]
) -> None:
    ports = set()
    for number in range(4):
        key = Partition("spread", number).key("x")
        assert await client_of(number).set(key, number, ex=60)
        there = await _primary(session_cluster, number)
        assert await ask(there, "GET", key) == b"%d" % number
        ports.add(there.port)
    assert len(ports) == 3


async def test_one_node_that_lives_is_enough_to_find_the_others(
    session_cluster: EmbeddedCluster,
) -> None:
    alive = session_cluster.servers[0].port
    async with connect(f"redis+cluster://127.0.0.1:1,127.0.0.1:{alive}", partition=2) as client:
        assert await client.set("carbon:{2}:found", "1", ex=60)


async def test_without_any_node_it_fails_like_a_server_that_is_away() -> None:
    client = connect("redis+cluster://127.0.0.1:1", partition=0)
    with pytest.raises(RedisConnectionError, match="the cluster cannot be used") as caught:
        await client.get("carbon:{0}:x")
    assert is_transient(caught.value)


async def test_a_reader_that_blocks_at_a_primary_that_steps_down_goes_on_at_the_new_one(
    session_cluster: EmbeddedCluster, client_of: Callable[[int], Redis]
) -> None:
    stream = Partition("blocks", 3).key("orders")
    reader, writer = client_of(3), client_of(3)
    before = await _primary(session_cluster, 3)
    reading = asyncio.create_task(_read_on(reader, stream))
    await until(lambda: _blocked(before))
    (replica,) = [each for each in session_cluster.servers if await _replicates(each, before)]
    await ask(replica, "CLUSTER", "FAILOVER")
    await until(lambda: _leads(replica), 10)

    async def written() -> bool:
        try:
            return bool(await writer.xadd(stream, {"n": "1"}))
        except Exception as error:
            if not is_transient(error):
                raise
            return False

    await until(written, 10)
    assert await asyncio.wait_for(reading, 10)
    assert (await _primary(session_cluster, 3)).port == replica.port
    await writer.unlink(stream)


async def _read_on(reader: Redis, stream: str) -> bool:
    """Read as all our readers do: again after every fault that passes."""
    while True:
        try:
            if await reader.execute_command("XREAD", "BLOCK", 2000, "STREAMS", stream, "0"):
                return True
        except Exception as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(0.01)


async def _blocked(server: EmbeddedServer) -> bool:
    return b"blocked_clients:1" in await ask(server, "INFO", "clients")


async def _leads(server: EmbeddedServer) -> bool:
    return b"role:master" in await ask(server, "INFO", "replication")


async def _replicates(server: EmbeddedServer, primary: EmbeddedServer) -> bool:
    told = await ask(server, "INFO", "replication")
    return f"master_port:{primary.port}".encode() in told


async def test_a_consumer_works_on_when_the_node_of_its_partition_dies(
    own_cluster: EmbeddedCluster,
) -> None:
    partition = Partition("shop", 1)
    orders = partition.key("orders")
    shipping = Shipping(partition.key("shipped"), partition.key("totals"))
    clients = [connect(own_cluster.url, partition=1) for _ in range(4)]
    # An answer means that the replica has it, so that nothing is lost with the primary.
    ordering = Committer(clients[0], partition, patience=30, replicas=1)
    shipped = Committer(clients[1], partition, patience=30, replicas=1)
    consumer = Consumer(
        Group(clients[2], CODEC, "shipping", "me", [orders]),
        shipped,
        shipping,
        lease_ms=300,
        block_ms=30,
    )
    names = [f"item-{number}" for number in range(40)]
    async with running(consumer.run, timeout=30):
        await order(ordering, orders, *names[:20])
        dead = await _primary(own_cluster, 1)
        dead.kill()
        # What is ordered meanwhile waits for the replica to take over, and for one of its own.
        later = asyncio.create_task(order(ordering, orders, *names[20:]))
        await asyncio.sleep(0)
        await until(lambda: _took_over(own_cluster, dead), 20)
        await dead.start()
        await later

        async def all_there() -> bool:
            try:
                return int(await clients[3].hlen(shipping.totals)) >= len(names)
            except RedisConnectionError:
                return False

        await until(all_there, 20)
    counted: Any = await clients[3].hgetall(shipping.totals)
    assert {name.decode(): int(count) for name, count in counted.items()} == dict.fromkeys(names, 1)
    assert sorted(await items(clients[3], shipping.shipped)) == sorted(names)
    for each in clients:
        await each.aclose()


async def _took_over(cluster: EmbeddedCluster, dead: EmbeddedServer) -> bool:
    return (await _primary(cluster, 1)).port != dead.port


async def test_partitions_of_other_nodes_go_on_when_one_is_gone_with_its_replica(
    own_cluster: EmbeddedCluster,
) -> None:
    async with (
        connect(own_cluster.url, partition=0) as here,
        connect(own_cluster.url, partition=3) as gone,
    ):
        primary = await _primary(own_cluster, 3)
        for each in own_cluster.servers:
            if each is primary or await _replicates(each, primary):
                each.kill()
        with pytest.raises((RedisConnectionError, ClusterDownError)):
            await gone.get("carbon:{3}:x")
        assert await here.set("carbon:{0}:x", "1")


async def test_a_cluster_that_refuses_our_login_is_no_outage(own_cluster: EmbeddedCluster) -> None:
    for each in own_cluster.servers:
        await ask(each, "CONFIG", "SET", "requirepass", "secret")
    for url in (own_cluster.url, own_cluster.url.replace("//", "//:wrong@")):
        client = connect(url, partition=1)
        with pytest.raises(Refused):
            await client.get("carbon:{1}:x")
        await client.aclose()
    async with connect(own_cluster.url.replace("//", "//:secret@"), partition=1) as client:
        assert await client.get("carbon:{1}:x") is None
