"""The client for ordinary code, notebooks and threads: the async one, on a loop of its own."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

from carbon_orchestrator.client.gateway import Client
from carbon_orchestrator.client.jobs import Job, JobList
from carbon_orchestrator.client.loop_thread import LoopThread

P = ParamSpec("P")
T = TypeVar("T")

_INHERITED: list[tuple[Client, LoopThread]] = []


def _waiting(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    """The method, waited for."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **named: P.kwargs) -> T:
        client, thread = self._there()
        return thread.call(method(client, *args, **named))

    return call


def _iterating(
    method: Callable[Concatenate[Client, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[SyncClient, P], Iterator[T]]:
    """The method, waited for item by item."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **named: P.kwargs) -> Iterator[T]:
        client, thread = self._there()
        items = method(client, *args, **named)
        return _each(items, thread)

    return call


def _each(items: AsyncGenerator[T, None], thread: LoopThread) -> Iterator[T]:
    async def following() -> list[T]:
        async for item in items:
            return [item]
        return []

    try:
        while found := thread.call(following()):
            yield from found
    finally:
        # Not waited for: a generator may be thrown away on any thread, that one included.
        with suppress(RuntimeError):
            thread.begin(_discard(items))


async def _discard(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


class SyncClient:
    """Asks a gateway, and waits for the answer. It has all methods of Client, without `await`:
    `help(Client)` says more of each.

    Works where a loop runs already (Jupyter) and from several threads at once; in the child of
    a fork it connects anew. Ctrl-C breaks off what is waited for. Parameters as of Client.

    >>> from carbon_orchestrator import SyncClient
    >>> client = SyncClient()
    >>> job = client.submit("analytics", urgency="urgent")
    >>> client.wait(job, timeout=60).state
    'completed'
    >>> [each.id == job.id for each in client.jobs(state="completed", limit=1)]
    [True]
    >>> client.submit("no-such-type")
    Traceback (most recent call last):
    carbon_orchestrator.client.errors.InvalidJob: no type 'no-such-type' is configured; ...
    >>> client.close()
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 15.0,
        patience: float = 30.0,
    ) -> None:
        self._new = functools.partial(
            Client, url, api_key=api_key, timeout=timeout, patience=patience
        )
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._client, self._thread = self._new(), LoopThread("carbon-orchestrator client")
        # However it ends: connections are closed in order.
        self._end = weakref.finalize(self, _close, self._client, self._thread)

    def _there(self) -> tuple[Client, LoopThread]:
        if self._closed:
            raise RuntimeError("this client has been closed")
        if self._thread.pid != os.getpid():
            # The parent's connections are the parent's to close.
            self._end.detach()
            _INHERITED.append((self._client, self._thread))
            self._begin()
        return self._client, self._thread

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._client.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    submit = _waiting(Client.submit)
    submit_many = _waiting(Client.submit_many)
    submit_each = _iterating(Client.submit_each)
    plan = _waiting(Client.plan)
    cancel = _waiting(Client.cancel)
    job = _waiting(Client.job)
    jobs = _iterating(Client.jobs)
    follow = _iterating(Client.follow)
    events = _iterating(Client.events)
    job_events = _iterating(Client.job_events)
    logs = _iterating(Client.logs)
    log_pieces = _iterating(Client.log_pieces)
    carbon = _waiting(Client.carbon)
    carbon_history = _waiting(Client.carbon_history)
    best_window = _waiting(Client.best_window)
    pools = _waiting(Client.pools)
    emissions = _waiting(Client.emissions)
    health = _waiting(Client.health)
    get = _waiting(Client.get)

    @overload
    def wait(  # type: ignore[overload-overlap]  # a str is an iterable of str, too
        self, jobs: Job | str, *, timeout: float | None = None
    ) -> Job: ...

    @overload
    def wait(self, jobs: Iterable[Job | str], *, timeout: float | None = None) -> JobList: ...

    def wait(
        self, jobs: Job | str | Iterable[Job | str], *, timeout: float | None = None
    ) -> Job | JobList:
        """As Client.wait."""
        client, thread = self._there()
        if isinstance(jobs, Job | str):
            return thread.call(client.wait(jobs, timeout=timeout))
        return thread.call(client.wait(jobs, timeout=timeout))

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(client: Client, thread: LoopThread) -> None:
    """From any thread, as the garbage collector may run on any."""
    with suppress(RuntimeError):
        thread.close(client.aclose())
