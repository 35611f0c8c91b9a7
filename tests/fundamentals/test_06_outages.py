"""The server goes and comes back; nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from shop import CODEC, Shipping, items, order

from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.consumer import Consumer
from streams.dead_letters import DeadLetters
from streams.embedded import EmbeddedServer
from streams.group import Group
from streams.inspection import group_states
from streams.keys import Partition
from streams.testing import running, until


class Deployment:
    """A server of the test's own, with clients that outlive its restarts."""

    def __init__(self, server: EmbeddedServer, partition: Partition) -> None:
        self.server = server
        self.orders = partition.key("orders")
        self.shipping = Shipping(partition.key("shipped"), partition.key("totals"))
        self.committers: list[Committer] = []
        self.clients: list[Redis] = []
        self.partition = partition
        self.client = self.new_client()
        self.committer = self.new_committer()
        self.consumer = Consumer(
            Group(self.new_client(), CODEC, "shipping", "me", [self.orders]),
            self.new_committer(),
            self.shipping,
            lease_ms=300,
            block_ms=30,
        )

    def new_client(self) -> Redis:
        self.clients.append(connect(self.server.url))
        return self.clients[-1]

    def new_committer(self) -> Committer:
        self.committers.append(Committer(connect(self.server.url), self.partition, patience=20))
        return self.committers[-1]

    async def count(self) -> int:
        """How many items have been counted as shipped."""
        return int(await self.client.hlen(self.shipping.totals))

    async def shipped(self, count: int) -> bool:
        return await self.count() >= count

    async def aclose(self) -> None:
        for committer in self.committers:
            await committer.aclose()
        for client in self.clients:
            await client.aclose()


@pytest.fixture
async def deployment(own_server: EmbeddedServer, partition: Partition) -> AsyncIterator[Deployment]:
    deployment = Deployment(own_server, partition)
    yield deployment
    await deployment.aclose()


async def test_a_server_killed_in_mid_flow_loses_and_doubles_nothing(
    deployment: Deployment,
) -> None:
    names: list[str] = []
    enough = asyncio.Event()

    async def publish() -> None:
        while not enough.is_set():
            names.append(f"item-{len(names)}")
            # Without a guard, so that only the receipt stands against a second one.
            await order(deployment.committer, deployment.orders, names[-1])

    port = deployment.server.port
    async with running(deployment.consumer.run):
        publishing = asyncio.create_task(publish())
        for _ in range(2):
            await until(partial(deployment.shipped, await deployment.count() + 50), timeout=15)
            deployment.server.kill()
            await deployment.server.start()
            assert deployment.server.port == port
            await connected(deployment.client)
        await until(partial(deployment.shipped, await deployment.count() + 50), timeout=15)
        enough.set()
        await asyncio.wait_for(publishing, 5)
        await until(partial(deployment.shipped, len(names)), timeout=15)
    assert await items(deployment.client, deployment.orders) == names
    assert sorted(await items(deployment.client, deployment.shipping.shipped)) == sorted(names)
    totals = await deployment.client.hgetall(deployment.shipping.totals)
    assert totals == {name.encode(): b"1" for name in names}


async def connected(client: Redis) -> None:
    """A plain client notices at its next command that its connection is gone."""
    with suppress(RedisConnectionError):
        await client.ping()
    await client.ping()


async def test_a_consumer_may_be_started_before_the_server(deployment: Deployment) -> None:
    deployment.server.kill()
    async with running(deployment.consumer.run):
        ordering = asyncio.create_task(order(deployment.committer, deployment.orders, "tea"))
        await deployment.server.start()
        await asyncio.wait_for(ordering, 10)
        await until(deployment.count)


async def test_a_full_server_is_waited_for(deployment: Deployment) -> None:
    client = deployment.client
    stop_here = int((await client.info("memory"))["used_memory"])
    await client.config_set("maxmemory", stop_here // 2)
    ordering = asyncio.create_task(order(deployment.committer, deployment.orders, "tea"))
    done, _ = await asyncio.wait([ordering], timeout=0.2)
    assert not done
    await client.config_set("maxmemory", 0)
    await asyncio.wait_for(ordering, 10)
    assert await items(client, deployment.orders) == ["tea"]


async def test_a_full_server_does_no_half_of_a_batch(deployment: Deployment) -> None:
    """It would refuse what adds and grant what removes."""
    client, orders = deployment.client, deployment.orders
    await order(deployment.committer, orders, "tea")
    await deployment.consumer.group.ensure()
    (entry,) = await deployment.consumer.group.take(1)
    await client.config_set("maxmemory", 1)
    both = [
        Transaction().add_entry(orders, ["n", "1"]),
        Transaction().require_ack(orders, "shipping", entry.id),
    ]
    committing = asyncio.create_task(deployment.committer.commit(both))
    done, _ = await asyncio.wait([committing], timeout=0.2)
    assert not done
    await client.config_set("maxmemory", 0)
    assert await asyncio.wait_for(committing, 10) == [True, True]
    assert await client.xlen(orders) == 2


async def test_a_server_that_fills_up_under_a_consumer(deployment: Deployment) -> None:
    client = deployment.client
    async with running(deployment.consumer.run):
        await order(deployment.committer, deployment.orders, "tea")
        await until(deployment.count)
        used = int((await client.info("memory"))["used_memory"])
        for name in ("jam", "bread"):
            ordering = asyncio.create_task(order(deployment.committer, deployment.orders, name))
            await client.config_set("maxmemory", used // 2)
            await asyncio.wait([ordering], timeout=0.05)
            await client.config_set("maxmemory", 0)
            await asyncio.wait_for(ordering, 10)
        await until(lambda: deployment.shipped(3))
    assert sorted(await items(client, deployment.shipping.shipped)) == ["bread", "jam", "tea"]
    assert await DeadLetters(client, deployment.committer).list() == []


async def test_a_stream_deleted_under_a_waiting_consumer_is_made_again(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: Callable[..., Consumer],
) -> None:  # fmt: skip
    await order(committer, orders, "tea")
    async with running(new_consumer(shipping).run):
        await until(lambda: redis.hexists(shipping.totals, "tea"))
        await redis.delete(orders)
        await order(committer, orders, "jam")  # before anyone makes the group again
        await until(lambda: redis.hexists(shipping.totals, "jam"))


async def test_a_flushed_server_is_begun_anew(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: Callable[..., Consumer],
) -> None:  # fmt: skip
    async with running(new_consumer(shipping).run):
        await until(lambda: redis.exists(orders))
        await redis.flushall()
        await redis.script_flush()
        await order(committer, orders, "tea")
        await until(lambda: redis.hexists(shipping.totals, "tea"))


async def test_a_client_that_the_operator_disconnects_comes_back(
    committer: Committer, redis: Redis, orders: str, shipping: Shipping,
    new_consumer: Callable[..., Consumer],
) -> None:  # fmt: skip
    async with running(new_consumer(shipping).run):
        for name in ("tea", "jam"):
            await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await order(committer, orders, name)
            await until(lambda name=name: redis.hexists(shipping.totals, name))  # type: ignore[misc]
    assert await items(redis, shipping.shipped) == ["tea", "jam"]


async def test_receipts_survive_a_restart(own_server: EmbeddedServer, partition: Partition) -> None:
    """The receipt is written with the effects, so the two are lost or kept together."""
    committer = Committer(connect(own_server.url), partition, patience=20)
    stream = partition.key("orders")
    await committer.apply(Transaction().add_entry(stream, ["n", "1"]))
    own_server.kill()
    await own_server.start()
    committer._sequence -= 1  # as if the reply to the last commit had been lost in the crash
    assert await committer.apply(Transaction().add_entry(stream, ["n", "1"]))
    async with connect(own_server.url) as client:
        assert await client.xlen(stream) == 1
        assert await group_states(client, stream) == []
    await committer.aclose()
