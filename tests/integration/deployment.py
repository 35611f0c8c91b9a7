"""A deployment in this process: any roles, each in a task, and what tests ask of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import msgspec
from redis.asyncio import Redis

from carbon_orchestrator.accounting.component import Accounting
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Config, JobType, PoolConfig, ThresholdConfig, complete
from carbon_orchestrator.events import IntensityObserved, Pool
from carbon_orchestrator.gateway.component import Gateway
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.router.component import Router
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.signal.intensities import Intensities
from carbon_orchestrator.signal.publishing import SignalRole
from carbon_orchestrator.topology import CODEC, ROUTER, Topology
from carbon_orchestrator.worker.component import WorkerRole
from carbon_orchestrator.worker.guardian import Guardian
from streams.codec import envelope
from streams.connection import connect
from streams.keys import Partition
from streams.testing import until

#: Absolute bands without hysteresis: a test states the band by the intensity.
LOW, MEDIUM, HIGH = 50.0, 150.0, 300.0


def python_type(name: str, **more: Any) -> JobType:
    fields: dict[str, Any] = {"expected_duration": 0.01, "grace": 0.3, "timeout": 30, **more}
    return JobType(python=f"job_handlers:{name}", **fields)


def command_type(*argv: str, **more: Any) -> JobType:
    fields: dict[str, Any] = {"expected_duration": 0.01, "grace": 0.3, "timeout": 30, **more}
    return JobType(command=list(argv), **fields)


TYPES = {
    **{name: python_type(name) for name in ("quick", "hold", "hold_thread", "burn")},
    "broken": python_type("broken"),
}


def configuration(namespace: str, **changes: Any) -> Config:
    """A deployment that reacts fast; `changes` are fields of Config."""
    fields: dict[str, Any] = {
        "types": TYPES,
        "default_types": False,
        "pools": {"fast": PoolConfig(slots=4), "eco": PoolConfig(slots=4)},
        "threshold": ThresholdConfig(mode="absolute", low=100, high=200, hysteresis=0),
        "lease": 1,
        "margin": 0.05,
        "drain": 5,
        "retry_delay": 0.02,
        **changes,
    }
    return complete(Config(namespace=namespace, **fields))


class Part:
    """One role in a task of its own, with its own stop."""

    def __init__(self, runtime: Runtime, role: Any) -> None:
        self.runtime = runtime
        self.role = role
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            if not await self.runtime.ready():
                return
            following = asyncio.create_task(self.runtime.follow_clock())
            try:
                await self.role.run()
            finally:
                self.runtime.stop.set()
                await following
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self.runtime.aclose()

    async def stop(self, timeout: float = 10.0) -> None:
        self.runtime.stop.set()
        async with asyncio.timeout(timeout):
            await self.task


class Answer(msgspec.Struct):
    status: int
    headers: Any
    body: Any


class Deployment:
    """Roles by name, and what a test asks of them."""

    def __init__(self, url: str, config: Config, data: Path, guardian: Guardian, redis: Redis):
        self.url = url
        self.config = config
        self.data = data
        self.redis: Any = redis
        self.topology = Topology(Partition(config.namespace), config.site_pools)
        self.parts: list[Part] = []
        self.base = ""
        self.gateways: list[Part] = []
        self._guardian = guardian
        self._session: aiohttp.ClientSession | None = None

    # -- roles -----------------------------------------------------------------------------------

    def _part(self, make: Callable[[Runtime], Any]) -> Part:
        runtime = Runtime(self.url, self.config)
        self.parts.append(Part(runtime, make(runtime)))
        return self.parts[-1]

    def router(self) -> Part:
        return self._part(Router)

    def accounting(self) -> Part:
        return self._part(lambda runtime: Accounting(runtime, self.data / "archive"))

    def worker(self, pool: Pool, slots: int | None = None, zone: str | None = None) -> Part:
        return self._part(
            lambda runtime: WorkerRole(
                runtime, pool, self.data, self._guardian, slots=slots, zone=zone
            )
        )

    def signal(self, spec: str = "simulated", speed: float | None = None) -> Part:
        return self._part(lambda runtime: SignalRole(runtime, spec, speed=speed))

    async def gateway(self, **options: Any) -> Part:
        options = {"archive": self.data / "archive", **options}
        part = self._part(lambda runtime: Gateway(runtime, port=0, **options))
        started = asyncio.create_task(part.role.started.wait())
        await asyncio.wait({started, part.task}, timeout=10, return_when="FIRST_COMPLETED")
        assert started.done(), "the gateway does not start"
        self.gateways.append(part)
        self.base = f"http://127.0.0.1:{part.role.port}"
        return part

    async def all(self) -> None:
        """Everything but a signal."""
        await self.gateway()
        self.router()
        self.accounting()
        self.worker("fast")
        self.worker("eco")

    async def stop(self) -> None:
        parts, self.parts = self.parts, []
        await asyncio.gather(*(part.stop() for part in parts))
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- in ----------------------------------------------------------------------------------------

    async def http(self, method: str, path: str, **options: Any) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(15))
        async with self._session.request(method, self.base + path, **options) as response:
            raw = await response.read()
            kind = response.headers.get("Content-Type", "")
            body = json.loads(raw) if "json" in kind else raw
            return Answer(response.status, response.headers, body)

    async def post(self, job_type: str, **fields: Any) -> str:
        """Submit over HTTP; the job's id."""
        answer = await self.http("POST", "/jobs", json={"type": job_type, **fields})
        assert answer.status == 202, answer.body
        assert answer.headers["Location"] == f"/jobs/{answer.body['id']}"
        return str(answer.body["id"])

    async def publish(self, data: Any, stream: str = "", **attributes: str) -> str:
        """Straight to the stream, as any client may; the entry's id."""
        raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
        fields: Any = {"type": "job.submitted", **attributes, "data": raw}
        return str((await self.redis.xadd(stream or self.topology.jobs, fields)).decode())

    async def intensity(
        self, value: float, at: int | None = None, zone: str | None = None, **more: Any
    ) -> None:
        """What the signal would say: this intensity, from now on."""
        event = IntensityObserved(
            zone=self.config.zone if zone is None else zone,
            time=wall_ms() if at is None else at,
            intensity=value,
            source="script",
            resolution_ms=1_800_000,
            **more,
        )
        batch = b"[" + envelope(event, "test") + b"]"
        await self.redis.xadd(self.topology.intensity, {"batch": batch})

    def release(self) -> None:
        """Let every job that holds go on."""
        (self.data / "release").touch()

    # -- out ---------------------------------------------------------------------------------------

    async def field(self, job_id: str, name: str) -> str | None:
        value = await self.redis.hget(self.topology.record(job_id), name)
        return None if value is None else value.decode()

    async def state(self, job_id: str) -> str | None:
        return await self.field(job_id, "state")

    async def reach(self, job_id: str, *states: str, timeout: float = 5.0) -> str:
        """Wait for the job to be in one of the states."""

        async def there() -> str | None:
            state = await self.state(job_id)
            return state if state in states else None

        try:
            return str(await until(there, timeout))
        except AssertionError:
            raise AssertionError(f"{await self.state(job_id)}, not {states}") from None

    async def job(self, job_id: str) -> dict[str, Any]:
        answer = await self.http("GET", f"/jobs/{job_id}")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def ids(self, state: str) -> list[str]:
        rows = await self.redis.zrange(self.topology.index(state), 0, -1)
        return [each.decode() for each in rows]

    async def waking(self) -> list[str]:
        return [each.decode() for each in await self.redis.zrange(self.topology.wake, 0, -1)]

    async def counted(self, state: str, number: int, timeout: float = 5.0) -> list[str]:
        """Wait until exactly so many jobs are in the state; their ids."""

        async def so_many() -> list[str] | None:
            found = await self.ids(state)
            return found if len(found) == number else None

        return await until(so_many, timeout) or []

    async def events(self, stream: str) -> list[Any]:
        """Every event of a stream, in order."""
        rows: Any = await _rows(self.url, stream)
        return [
            message.event
            for entry_id, fields in rows
            for message in CODEC.entry(stream, entry_id.decode(), tuple(fields)).messages
        ]

    async def ends(self, job_id: str) -> Counter[str]:
        """The events about a job's attempts, by type."""
        events = await self.events(self.topology.completions)
        return Counter(each.event_type for each in events if each.job_id == job_id)

    async def dead_letters(self) -> list[dict[bytes, bytes]]:
        rows = await _rows(self.url, self.topology.dead_letters)
        return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in rows]

    async def routing(self) -> None:
        """Wait until every router and worker knows the latest intensity of its zones."""
        latest: dict[str, str] = {}
        for entry_id, fields in await _rows(self.url, self.topology.intensity):
            entry = CODEC.entry(self.topology.intensity, entry_id.decode(), tuple(fields))
            latest |= {message.event.zone: entry.id for message in entry.messages}
        roles = [part.role for part in self.parts]
        grids: list[Intensities] = []
        for role in roles:
            grids += getattr(role, "grids", ())
            grids += getattr(role, "grid", ())

        def heard(grid: Intensities) -> bool:
            known = (grid.outlook().intensity_id or "").partition("/")[0]
            return known == latest.get(grid.zone, "")

        await until(lambda: all(map(heard, grids)))

    async def settled_router(self) -> None:
        """Wait until the routers have nothing left to read."""
        await self._idle(self.topology.groups[ROUTER])

    async def settled(self) -> None:
        """Wait until no stream has anything undelivered or pending."""
        await self._idle([each for lanes in self.topology.groups.values() for each in lanes])

    async def _idle(self, streams: list[str]) -> None:
        async def idle() -> bool:
            for stream in streams:
                if await self.redis.exists(stream):
                    for group in await self.redis.xinfo_groups(stream):
                        if group["pending"] or group["lag"]:
                            return False
            return True

        await until(idle)

    async def sums(self) -> Counter[str]:
        """All totals, summed over everything."""
        sums: Counter[str] = Counter()
        for day in await self.redis.zrange(self.topology.days, 0, -1):
            hashed = await self.redis.hgetall(self.topology.totals(day.decode()))
            for name, value in hashed.items():
                sums[name.decode().partition("|")[0]] += int(value)
        return sums


async def _rows(url: str, stream: str) -> Any:
    async with connect(url) as client:
        return await client.execute_command("XRANGE", stream, "-", "+")


async def check_records(deployment: Deployment) -> None:
    """Every job is listed under its state and no other; its record stays for good only while
    it is unfinished. Removes what it has checked."""
    redis, topology = deployment.redis, deployment.topology
    listed = {job_id: state for state in STATES for job_id in await deployment.ids(state)}
    names = [each.decode() async for each in redis.scan_iter(topology.record("*"), count=1000)]
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hget(name, "state")
            pipeline.ttl(name)
        replies = await pipeline.execute()
    for name, state, ttl in zip(names, replies[::2], replies[1::2], strict=True):
        job_id = name.removeprefix(topology.record(""))
        assert listed.pop(job_id, None) == state.decode(), f"{job_id} is {state}"
        assert (ttl > 0) == (state.decode() in TERMINAL), f"{job_id} is {state}, expires {ttl}"
    unlisted = {job_id for job_id, state in listed.items() if state not in TERMINAL}
    assert not unlisted, "listed without a record"
    waking = set(await deployment.waking())
    assert waking == set(await deployment.ids("deferred"))
    running = set(await deployment.ids("running"))
    interruptible = await redis.zrange(topology.interruptible, 0, -1)
    assert {each.decode() for each in interruptible} <= running
    if names:
        await redis.unlink(*names)


Deploy = Callable[..., Deployment]
