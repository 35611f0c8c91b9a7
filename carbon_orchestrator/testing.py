"""For tests of what is built on this package: an orchestrator with all its roles, in this process.

With pytest, the fixture `orchestrator` (pytest_plugin.py) gives one; else:

>>> from carbon_orchestrator.testing import House
>>> with House() as house, house.orchestrator({"double": lambda payload, context: None}) as it:
...     job = it.client.submit("double", payload={"n": 2}, urgency="urgent")
...     it.client.wait(job, timeout=30).state
'completed'
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import anyio

from carbon_orchestrator.accounting.component import Accounting
from carbon_orchestrator.client.blocking import SyncClient
from carbon_orchestrator.client.gateway import Client
from carbon_orchestrator.client.loop_thread import LoopThread
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Config, JobType, PoolConfig, ThresholdConfig, complete
from carbon_orchestrator.events import IntensityObserved
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.publisher import Publisher
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.worker.component import WorkerRole
from carbon_orchestrator.worker.guardian import Guardian
from streams.codec import entry_fields
from streams.embedded import EmbeddedServer
from streams.testing import until

#: Intensities whose band is evident, gCO2e/kWh.
LOW, MEDIUM, HIGH = 50.0, 150.0, 300.0
#: How jobs of a type are run: a function of (payload, context), "module:function", an argv, or
#: all that the configuration can say of it.
Handler = Callable[..., Any] | str | Sequence[str] | JobType

_START_SECONDS = 20.0
_STOP_SECONDS = 15.0
_HANDLED: dict[str, Any] = {"grace": 1, "timeout": 60, "expected_duration": 0.01}


class House:
    """A bundled server and the thread that orchestrators run on, for any number of them, each in
    a name space of its own. Starting takes a quarter of a second. Raises EmbeddedError where
    there is no bundled server."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="carbon-orchestrator-"))
        self._thread = LoopThread("carbon-orchestrator roles")
        self._server = EmbeddedServer(self._directory, fsync="no")
        self._guardian = Guardian()
        try:
            self._thread.call(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    async def _start(self) -> None:
        await self._server.start()
        self._guardian.start()
        assert self._server.pid is not None
        self._guardian.watch(self._server.pid)

    def __exit__(self, *_: object) -> None:
        self._thread.close(self._stop())
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _stop(self) -> None:
        pid = self._server.pid
        await self._server.stop()
        if pid is not None:
            self._guardian.forget(pid)
        self._guardian.close()

    @contextmanager
    def orchestrator(
        self,
        types: Mapping[str, Handler] = {},
        config: Mapping[str, Any] = {},
        data: Path | None = None,
    ) -> Iterator[Orchestrator]:
        """All roles, for the time of the block. `types`: what can be submitted besides the
        default types; `config`: further fields of Config; `data`: a directory, for checkpoints.

        The grid's intensity is low (and nothing waits) until a test says otherwise. Raises
        ConfigError.
        """
        namespace = f"test-{uuid.uuid4().hex[:8]}"
        handlers = ModuleType(f"carbon_orchestrator_handlers_{namespace[5:]}")
        # An empty login, so that one in the environment is not used.
        url = self._server.url.replace("://", "://:@")
        configured = _configuration(namespace, types, config, handlers)
        made = Orchestrator(
            url, configured, data or self._directory / namespace, self._thread, self._guardian
        )
        sys.modules[handlers.__name__] = handlers
        try:
            made.start()
            try:
                yield made
            finally:
                made.stop()
        finally:
            del sys.modules[handlers.__name__]


class Orchestrator:
    """A running orchestrator. `url`: of its gateway; `redis_url`, `namespace`: of its streams."""

    def __init__(
        self, url: str, config: Config, data: Path, thread: LoopThread, guardian: Guardian
    ) -> None:
        self.redis_url = url
        self.config = config
        self.namespace = config.namespace
        self.data = data
        self._thread = thread
        self._guardian = guardian
        self._running: Future[None] | None = None
        self._runtime: Runtime | None = None
        self._ready = asyncio.Event()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @cached_property
    def client(self) -> SyncClient:
        """A client of its gateway; for asyncio use `Client(orchestrator.url)`."""
        return SyncClient(self.url, api_key="")

    def publisher(self, source: str = "test") -> Publisher:
        """A publisher to its streams, to be closed by whoever asks for it."""
        return Publisher(self.redis_url, source=source, namespace=self.namespace)

    def set_intensity(self, value: float, zone: str | None = None) -> None:
        """From now on the grid of a zone, the home zone by default, has this intensity in
        gCO2e/kWh: below 100 is low, from 200 on high. Everybody knows when this returns."""
        self._thread.call(self._publish(value, zone or self.config.zone))

    # -- its life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all roles, and wait until they serve. Raises whatever keeps one from it."""
        self._running = self._thread.begin(self._run())
        try:
            self._thread.call(self._started(self._running))
        except BaseException:
            with suppress(Exception):  # what we raise is why
                self.stop()
            raise

    async def _started(self, running: Future[None]) -> None:
        async with asyncio.timeout(_START_SECONDS):
            ready: asyncio.Future[Any] = asyncio.create_task(self._ready.wait())
            over: asyncio.Future[Any] = asyncio.wrap_future(running)
            await asyncio.wait([ready, over], return_when="FIRST_COMPLETED")
            ready.cancel()
            if over.done():
                over.result()
                raise RuntimeError("the orchestrator ended at once")
            for zone in (self.config.zone, *self.config.zones):
                await self._publish(LOW, zone)
            await until(self._healthy, _START_SECONDS)

    async def _run(self) -> None:
        self._runtime = runtime = Runtime(self.redis_url, self.config)
        try:
            self._gateway = Gateway(runtime, port=0, archive=self.data / "archive")
            self._roles: list[Any] = [
                Router(runtime),
                *(
                    WorkerRole(runtime, pool, self.data, self._guardian, zone=zone)
                    for pool, zone in runtime.topology.sites
                ),
            ]
            accounting = Accounting(runtime, self.data / "archive")
            self._redis, self._intensity = runtime.connect(), runtime.topology.intensity
            if await runtime.ready():
                async with anyio.create_task_group() as tasks:
                    parts: list[Any] = [self._gateway, accounting, *self._roles]
                    for each in parts:
                        tasks.start_soon(each.run)
                    tasks.start_soon(runtime.follow_clock)
                    await self._gateway.started.wait()
                    self._port = self._gateway.port
                    self._asking = Client(self.url, api_key="")
                    self._ready.set()
        finally:
            if self._ready.is_set():
                await self._asking.aclose()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await runtime.aclose()

    async def _publish(self, value: float, zone: str) -> None:
        at = wall_ms()
        event = IntensityObserved(
            zone=zone,
            time=at,
            intensity=value,
            source="test",
            simulated=True,
            resolution_ms=1_800_000,
        )
        fields = entry_fields(event, "test")
        named: Any = dict(zip(fields[::2], fields[1::2], strict=True))
        added: Any = await self._redis.xadd(self._intensity, named)
        entry_id = added.decode()
        grids: list[Intensities] = [grid for role in self._roles for grid in _grids(role)]

        async def known() -> bool:
            known_by = [grid.outlook().intensity_id or "" for grid in grids if grid.zone == zone]
            if not all(each.startswith(entry_id) for each in known_by):
                return False
            since = (await self._asking.carbon(zone)).since
            return since is not None and round(since.timestamp() * 1000) == at

        await until(known, _START_SECONDS)

    async def _healthy(self) -> bool:
        return (await self._asking.health()).ok

    def stop(self) -> None:
        """Stop all roles; what still runs is given a moment."""
        if client := self.__dict__.pop("client", None):
            client.close()
        if self._running is not None:
            self._thread.call(self._stopped(self._running))

    async def _stopped(self, running: Future[None]) -> None:
        if self._runtime is not None:
            self._runtime.stop.set()
        async with asyncio.timeout(_STOP_SECONDS):
            await asyncio.wrap_future(running)


def _grids(role: Any) -> list[Intensities]:
    """What a role knows of the grids."""
    return [*getattr(role, "grids", ()), *getattr(role, "grid", ())]


def _configuration(
    namespace: str,
    types: Mapping[str, Handler],
    changes: Mapping[str, Any],
    handlers: ModuleType,
) -> Config:
    """A deployment that reacts fast; functions are put into the module `handlers`, by which
    workers find them."""
    fields: dict[str, Any] = {
        "pools": {"fast": PoolConfig(slots=4), "eco": PoolConfig(slots=4)},
        "threshold": ThresholdConfig(mode="absolute", low=100, high=200, hysteresis=0),
        "margin": 0.05,
        "retry_delay": 0.05,
        "drain": 2,
        **changes,
        "types": {
            **changes.get("types", {}),
            **{name: _job_type(name, handler, handlers) for name, handler in types.items()},
        },
    }
    return complete(Config(namespace=namespace, **fields), "orchestrator for tests")


def _job_type(name: str, handler: Handler, handlers: ModuleType) -> JobType:
    if isinstance(handler, JobType):
        return handler
    if isinstance(handler, str):
        return JobType(python=handler, **_HANDLED)
    if not callable(handler):
        return JobType(command=list(handler), **_HANDLED)
    attribute = f"handler_{len(vars(handlers))}"
    setattr(handlers, attribute, handler)
    return JobType(python=f"{handlers.__name__}:{attribute}", **_HANDLED)
