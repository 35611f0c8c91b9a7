"""What the tests of consumers share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis
from shop import CODEC, Shipping

from streams.commit import Committer
from streams.consumer import Consumer, Processor
from streams.group import Group
from streams.keys import Partition

NewConsumer = Callable[..., Consumer]


@pytest.fixture
def orders(partition: Partition) -> str:
    """The key of the stream that orders come in by."""
    return partition.key("orders")


@pytest.fixture
def shipping(partition: Partition, permanent: list[str]) -> Shipping:
    permanent.append("totals")
    return Shipping(partition.key("shipped"), partition.key("totals"))


@pytest.fixture
def new_group(new_client: Callable[[], Redis], orders: str) -> Callable[..., Group]:
    """Makes a member of the group "shipping", by default of the orders alone."""

    def new(name: str = "me", *lanes: str) -> Group:
        return Group(new_client(), CODEC, "shipping", name, lanes or [orders])

    return new


@pytest.fixture
def new_consumer(new_group: Callable[..., Group], committer: Committer) -> NewConsumer:
    """Makes a consumer of the orders that is quick to notice things."""

    def new(
        processor: Processor, name: str = "me", lease_ms: int = 300, **options: int
    ) -> Consumer:
        return Consumer(
            new_group(name), committer, processor, lease_ms=lease_ms, block_ms=30, **options
        )

    return new
