"""One real server for the whole session, one clean name space for each test.

CARBON_TEST_SERVER=PROGRAM runs the tests against another server than the bundled one,
CARBON_TEST_LOOP=uvloop under another event loop than asyncio's; see depth.py for how deep they go.
"""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import structlog
from depth import depth
from hypothesis import settings
from redis.asyncio import Redis

from carbon_orchestrator import topology
from carbon_orchestrator.worker.guardian import Guardian
from streams.commit import Committer
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.embedded_cluster import EmbeddedCluster
from streams.keys import Partition
from streams.testing import PERMANENT, leaked_keys, running_cluster, running_server

PROGRAM = os.environ.get("CARBON_TEST_SERVER")
PLAIN = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
PERMANENT.extend(topology.PERMANENT)

# A test has a time limit. An example of one has none: its time is up to what else the machine does.
settings.register_profile("suite", max_examples=depth(30, 100), deadline=None)
settings.load_profile("suite")

if os.environ.get("CARBON_TEST_LOOP") == "uvloop":
    import uvloop

    @pytest.hookimpl(optionalhook=True)
    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        return {"uvloop": uvloop.new_event_loop}


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it puts in the background: then no test could be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def session_server() -> Iterator[EmbeddedServer]:
    """The server that most tests share; it ends with the tests, however they end."""
    guardian = Guardian()
    with running_server(PROGRAM) as server:
        assert server.pid is not None
        guardian.watch(server.pid)
        yield server
        guardian.forget(server.pid)
    guardian.close()


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[EmbeddedCluster]:
    """Three primaries and their replicas, for tests that end none of them."""
    guardian = Guardian()
    with running_cluster(PROGRAM) as cluster:
        pids = [each.pid for each in cluster.servers if each.pid is not None]
        for pid in pids:
            guardian.watch(pid)
        yield cluster
        for pid in pids:
            guardian.forget(pid)
    guardian.close()


@pytest.fixture
def own_cluster() -> Iterator[EmbeddedCluster]:
    """A cluster for a test that kills its servers."""
    with running_cluster(PROGRAM) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Commands that run in this process set up its logs. Tracebacks are plain: with colours and
    the values of variables they take most of the time of tests of what goes wrong."""
    *processors, _ = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors, PLAIN])
    yield
    structlog.reset_defaults()


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server for a test that kills, fills or reconfigures it."""
    with running_server(PROGRAM) as server:
        yield server


@pytest.fixture
def permanent() -> list[str]:
    """Names of keys that this test, beyond the declared ones, means to keep without expiry."""
    return []


@pytest.fixture
async def server_url(session_server: EmbeddedServer, permanent: list[str]) -> AsyncIterator[str]:
    """The session's server, emptied. Whoever uses it is checked for leaked keys afterwards."""
    async with connect(session_server.url) as client:
        await client.flushall()
    yield session_server.url
    async with connect(session_server.url) as client:
        assert await leaked_keys(client, [*PERMANENT, *permanent]) == []


@pytest.fixture
def partition() -> Partition:
    """A name space of the test's own."""
    return Partition(f"test-{uuid.uuid4().hex[:8]}")


@pytest.fixture
async def new_client(server_url: str) -> AsyncIterator[Callable[[], Redis]]:
    """Makes clients: every blocking reader needs one of its own. Closed after the test."""
    clients: list[Redis] = []

    def new() -> Redis:
        clients.append(connect(server_url))
        return clients[-1]

    yield new
    for client in clients:
        await client.aclose()


@pytest.fixture
def redis(new_client: Callable[[], Redis]) -> Redis:
    """The test's own client."""
    return new_client()


@pytest.fixture
async def committer(server_url: str, partition: Partition) -> AsyncIterator[Committer]:
    committer = Committer(connect(server_url), partition, patience=10)
    yield committer
    await committer.aclose()
