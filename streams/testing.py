"""For tests of what is built on this package: a server, bounded waits, and a check for leaks."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from fnmatch import fnmatchcase
from inspect import isawaitable
from pathlib import Path
from typing import Any, TypeVar, overload

from redis.asyncio import Redis

from streams.embedded import EmbeddedServer
from streams.embedded_cluster import EmbeddedCluster
from streams.stop import Stop

T = TypeVar("T")
E = TypeVar("E", EmbeddedServer, EmbeddedCluster)

#: Names in a partition ("*" matches anything) of keys that need no expiry, beside all streams.
#: An application adds its own.
PERMANENT: list[str] = []

_POLL_SECONDS = 0.005


@contextmanager
def running_server(program: str | None = None, *, fsync: str = "no") -> Iterator[EmbeddedServer]:
    """A fresh server for the time of the block; its files are removed at the end.

    `program` is another server program than the bundled one. Works inside and outside an
    event loop (it blocks for the start, some 50 ms). Raises EmbeddedError.
    """
    with _running(lambda files: EmbeddedServer(files, program=program, fsync=fsync)) as server:
        yield server


@contextmanager
def running_cluster(program: str | None = None, *, fsync: str = "no") -> Iterator[EmbeddedCluster]:
    """As `running_server`, a fresh cluster of three primaries and their replicas; in some 4 s."""
    with _running(lambda files: EmbeddedCluster(files, program=program, fsync=fsync)) as cluster:
        yield cluster


@contextmanager
def _running(make: Callable[[Path], E]) -> Iterator[E]:
    directory = Path(tempfile.mkdtemp(prefix="streams-"))
    embedded = make(directory)
    try:
        _on_another_thread(embedded.start())
        yield embedded
    finally:
        _on_another_thread(embedded.stop())
        shutil.rmtree(directory)


def _on_another_thread(work: Coroutine[Any, Any, None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@asynccontextmanager
async def running(
    run: Callable[[Stop], Coroutine[Any, Any, None]], timeout: float = 10.0
) -> AsyncIterator[Stop]:
    """Runs `run(stop)` beside the block, and stops it at the end, within `timeout` seconds."""
    stop = Stop()
    task = asyncio.create_task(run(stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(timeout):
            await task


@overload
async def until(predicate: Callable[[], Awaitable[T]], timeout: float = 5.0) -> T: ...


@overload
async def until(predicate: Callable[[], T], timeout: float = 5.0) -> T: ...


async def until(predicate: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait for `predicate` (plain or async) to be true of something, and return that.

    Raises AssertionError after `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        answer = predicate()
        found = await answer if isawaitable(answer) else answer
        if found:
            return found
        if loop.time() > deadline:
            raise AssertionError(f"not so within {timeout:g} s; the last answer was {found!r}")
        await asyncio.sleep(_POLL_SECONDS)


async def leaked_keys(redis: Redis, permanent: Iterable[str] = PERMANENT) -> list[str]:
    """The keys that would stay forever without being meant to: neither a stream (these are
    trimmed), nor given an expiry, nor named in `permanent`."""
    patterns = list(permanent)
    leaked = []
    async for key in redis.scan_iter(count=1000):
        name = key.decode().partition("}:")[2] or key.decode()
        if (
            await redis.ttl(key) == -1
            and await redis.type(key) != b"stream"
            and not any(fnmatchcase(name, pattern) for pattern in patterns)
        ):
            leaked.append(key.decode())
    return sorted(leaked)
