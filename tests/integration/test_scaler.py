"""The scaler in a deployment: what it sees of the pools, what it puts on record, who of several
works. Sizes are kept in memory here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from deployment import HIGH, LOW, Deploy, Deployment, Part

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import ConfigError, ScaledPool, Scaler, ZoneConfig
from carbon_orchestrator.doctor import examine, gather
from carbon_orchestrator.events import Backlog, InFlight, Pool
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.scaler.actuator import ActuatorError, Contended, DryRun
from carbon_orchestrator.scaler.component import ScalerRole, away_zone
from carbon_orchestrator.scaler.deciding import recomputed
from carbon_orchestrator.scaler.demand import Demand, DemandReader
from carbon_orchestrator.topology import WORKER
from streams.connection import Client, connect
from streams.testing import until

QUICK = Scaler(
    interval="100ms",
    window="300ms",
    up_every=0,
    down_every=0,
    down_step=100,
    ahead="2s",
    dwell=0,
    pools={"fast": ScaledPool(max=4, high=0.25), "eco": ScaledPool(max=4)},
)


class InMemory:
    """Sizes that anybody may change; faults that a test asks for."""

    name = "in-memory"
    dry = False

    def __init__(self, sizes: dict[Pool, int], *, shared: bool = False) -> None:
        self.sizes, self.shared = sizes, shared
        self.leads = True
        self.fault: ActuatorError | None = None
        self.stood_by: list[Pool] = []
        self.closed = False

    async def leading(self) -> bool:
        return self.leads

    async def size(self, pool: Pool) -> int:
        return self.sizes[pool]

    async def scale(
        self, pool: Pool, current: int, size: int, busy: frozenset[str], reason: str
    ) -> None:
        if self.fault is not None:
            raise self.fault
        if self.sizes[pool] != current:
            raise Contended("it was changed")
        self.sizes[pool] = size

    async def stand_by(self, pools: Sequence[Pool]) -> None:
        self.stood_by = list(pools)

    async def aclose(self) -> None:
        self.closed = True


def scaler(house: Deployment, actuator: Any, **more: Any) -> Part:
    return house._part(lambda runtime: ScalerRole(runtime, actuator, **more))


def nothing() -> dict[Pool, int]:
    return {"fast": 0, "eco": 0}


async def changes(house: Deployment) -> list[Any]:
    events = await house.events(house.topology.scaling)
    for event in events:
        scale = recomputed(event)
        assert (scale.replicas, scale.band, scale.reason) == (
            event.replicas,
            event.band,
            event.reason,
        )
    return events


# -- what it sees --------------------------------------------------------------------------------


class Looking:
    """The demand for FAST at this moment."""

    def __init__(self, redis: Client, house: Deployment) -> None:
        self.reader = DemandReader(redis, house.topology, ["fast", "eco"], "", 2000)

    async def __call__(self, ahead: int = 60_000) -> Demand:
        return (await self.reader.read(wall_ms(), ahead))["fast"]


@pytest.fixture
async def house(deploy: Deploy) -> Deployment:
    house = deploy(scaler=QUICK)
    await house.intensity(LOW)
    await house.gateway()
    house.router()
    await house.routing()
    return house


@pytest.fixture
async def look(house: Deployment) -> AsyncIterator[Looking]:
    async with connect(house.url) as client:
        yield Looking(client, house)


async def dispatched(house: Deployment, count: int, **fields: Any) -> list[str]:
    jobs = [await house.post("hold", **fields) for _ in range(count)]
    for each in jobs:
        await house.reach(each, "dispatched")
    return jobs


async def test_what_waits_is_counted_before_any_worker_has_come(
    house: Deployment, look: Looking
) -> None:
    assert await look() == Demand(Backlog(), InFlight(), frozenset())
    await dispatched(house, 3)
    await dispatched(house, 2, urgency="urgent")
    # Those that are not urgent have deadlines, too: one slot is enough for them.
    assert (await look()).backlog == Backlog(waiting=5, pressing=2, pace=1)


async def test_what_runs_is_told_from_what_waits(house: Deployment, look: Looking) -> None:
    worker = house.worker("fast", slots=2)
    jobs = [await house.post("hold") for _ in range(5)]
    await house.counted("running", 2)
    demand = await look()
    assert demand.backlog.waiting == 3
    assert demand.in_flight == InFlight(jobs=2, workers=1)
    assert demand.busy == {worker.role.name}
    house.release()
    for each in jobs:
        await house.reach(each, "completed")
    assert (await look()) == Demand(Backlog(), InFlight(), frozenset())


async def test_what_waits_is_counted_where_the_server_does_not_know_the_lag(
    house: Deployment, look: Looking
) -> None:
    lane = house.topology.dispatch("fast")
    await house.redis.xgroup_create(lane, WORKER, "0", mkstream=True)
    await dispatched(house, 4)
    ids = [entry_id for entry_id, _ in await house.redis.xrange(lane)]
    await house.redis.xreadgroup(WORKER, "somebody", {lane: ">"}, count=1)
    await house.redis.xdel(lane, ids[2])
    (group,) = await house.redis.xinfo_groups(lane)
    assert group["lag"] is None
    # Two of four wait: the first was taken, the third is gone.
    assert (await look()).backlog.waiting == 2
    await house.redis.xack(lane, WORKER, ids[0])


async def test_jobs_whose_latest_start_is_near_are_pressing(
    house: Deployment, look: Looking
) -> None:
    await dispatched(house, 2, deadline="1h")
    await dispatched(house, 1, deadline="20s")
    await dispatched(house, 2, deadline="1h")
    # The third must start, and so must the two that are taken before it.
    assert (await look(60_000)).backlog == Backlog(waiting=5, pressing=3, pace=1)
    assert (await look(1_000)).backlog == Backlog(waiting=5, pace=1)
    assert (await look(2 * 3_600_000)).backlog == Backlog(waiting=5, pressing=5)


async def test_deferred_jobs_count_as_soon_when_their_time_is_near(
    house: Deployment, look: Looking
) -> None:
    await house.intensity(HIGH, forecast=[(wall_ms() + 1_800_000, LOW)])
    await house.routing()
    job = await house.post("hold", deadline="1h")
    late = await house.post("hold", deadline="40s")
    for each in (job, late):
        await house.reach(each, "deferred")
    pools = await look.reader.read(wall_ms(), 60_000)
    assert sum(each.backlog.soon for each in pools.values()) == 1
    assert sum(each.backlog.pressing_soon for each in pools.values()) == 1
    pools = await look.reader.read(wall_ms(), 2 * 3_600_000)
    assert sum(each.backlog.soon for each in pools.values()) == 2


async def test_a_lost_stream_is_counted_anew(house: Deployment, look: Looking) -> None:
    await dispatched(house, 3, deadline="20s")
    assert (await look()).backlog.waiting == 3
    await house.redis.delete(*house.topology.dispatch_lanes("fast"))
    assert (await look()).backlog == Backlog()
    await dispatched(house, 1, deadline="20s")
    assert (await look()).backlog == Backlog(waiting=1, pressing=1)


# -- what it does --------------------------------------------------------------------------------


async def test_a_pool_wakes_follows_its_backlog_and_sleeps_again(house: Deployment) -> None:
    actuator = InMemory(nothing())
    scaler(house, actuator)
    jobs = await dispatched(house, 9)
    await until(lambda: actuator.sizes["fast"] == 3)
    assert actuator.sizes["eco"] == 0
    house.worker("fast", slots=20)
    house.release()
    for each in jobs:
        await house.reach(each, "completed")
    await until(lambda: actuator.sizes["fast"] == 0)
    events = await changes(house)
    assert [each.revision for each in events] == list(range(1, len(events) + 1))
    assert [each.current for each in events[1:]] == [each.replicas for each in events[:-1]]
    assert events[0].reason.startswith("from 0 to ")
    assert all(each.pool == "fast" and each.zone is None for each in events)


async def test_a_pool_that_sleeps_is_missed_only_when_nobody_is_there_to_wake_it(
    house: Deployment,
) -> None:
    async def health(missing: list[str]) -> bool:
        body = (await house.http("GET", "/health")).body
        return body["no_consumers"] == missing and body["status"] == (
            "degraded" if missing else "ok"
        )

    async def found(role: str) -> str:
        facts = await gather(house.redis, house.topology, house.config)
        return next(each.status for each in examine(facts) if each.name == role)

    house.accounting()
    actuator = InMemory({"fast": 1, "eco": 1})
    part = scaler(house, actuator)
    await until(lambda: health([]))
    assert actuator.sizes == nothing()
    assert await found("worker eco") == "ok"
    await part.stop()
    await until(lambda: health(["worker fast", "worker eco"]))
    assert await found("worker eco") == "fail"


async def test_carbon_limits_a_pool_and_deadlines_override_it(house: Deployment) -> None:
    await dispatched(house, 8)
    await house.intensity(HIGH)
    actuator = InMemory(nothing())
    part = scaler(house, actuator)
    await until(lambda: actuator.sizes["fast"] == 1)
    await until(lambda: part.role.grid[0].outlook().band == "high")
    (event,) = await changes(house)
    assert "carbon is high (at 300 g/kWh): 1 of 4 may work" in event.reason
    assert event.grid.intensity == HIGH
    # While carbon is high, urgent jobs run on ECO, of which half may work.
    await dispatched(house, 12, urgency="urgent")
    await until(lambda: actuator.sizes["eco"] == 3)
    assert actuator.sizes["fast"] == 1
    assert "12 of them must start now, whatever the carbon" in (await changes(house))[-1].reason


async def test_of_several_scalers_one_works_and_another_takes_over(house: Deployment) -> None:
    sizes = nothing()
    one, other = InMemory(sizes), InMemory(sizes)
    first = scaler(house, one)
    await dispatched(house, 4)
    await until(lambda: sizes["fast"] == 1)
    second = scaler(house, other)
    await until(lambda: other.stood_by == ["eco"])  # the last one that it was refused
    await dispatched(house, 4)
    await until(lambda: sizes["fast"] == 2)
    assert {each.scaler for each in await changes(house)} == {first.role.name}
    await first.stop()
    assert one.closed
    await dispatched(house, 4)
    await until(lambda: sizes["fast"] == 3)
    events = await changes(house)
    assert [each.scaler for each in events] == [first.role.name] * 2 + [second.role.name]
    assert [each.revision for each in events] == [1, 2, 3]


async def test_one_that_was_replaced_changes_nothing_any_more(house: Deployment) -> None:
    actuator = InMemory(nothing())
    part = scaler(house, actuator)
    await dispatched(house, 4)
    await until(lambda: actuator.sizes["fast"] == 1)
    key = house.topology.scaler("fast")
    # Another took the pool while this one was looked at; the guard is on who holds it.
    held = await part.role._pools["fast"].holding.claim()
    await house.redis.hset(key, mapping={"holder": "another", "until": wall_ms() + 60_000})
    (event,) = await changes(house)
    late = type(event)(**{**_fields(event), "revision": held.revision + 1, "replicas": 9})
    assert not await part.role._pools["fast"].holding.change(late, event.memory)
    await dispatched(house, 8)
    await until(lambda: actuator.stood_by == ["fast"])
    assert actuator.sizes["fast"] == 1
    assert len(await changes(house)) == 1


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


async def test_another_master_is_noticed_and_told(house: Deployment) -> None:
    actuator = InMemory(nothing(), shared=True)
    scaler(house, actuator)
    await dispatched(house, 4)
    await until(lambda: actuator.sizes["fast"] == 1)
    await until(lambda: _applied(house))
    actuator.sizes["fast"] = 0
    await until(lambda: actuator.sizes["fast"] == 1)
    events = await changes(house)
    assert [each.contended for each in events] == [0, 1]


async def _applied(house: Deployment) -> bool:
    revision, applied = await house.redis.hmget(
        house.topology.scaler("fast"), "revision", "applied"
    )
    return bool(revision == applied)


async def test_a_size_that_cannot_be_set_is_tried_again(house: Deployment) -> None:
    actuator = InMemory(nothing())
    actuator.fault = ActuatorError("not now")
    scaler(house, actuator)
    await dispatched(house, 4)
    await until(lambda: changes(house))
    assert actuator.sizes["fast"] == 0
    actuator.fault = None
    await until(lambda: actuator.sizes["fast"] == 1)


async def test_who_does_not_lead_does_nothing(house: Deployment) -> None:
    actuator = InMemory(nothing())
    actuator.leads = False
    scaler(house, actuator)
    await dispatched(house, 4)
    await until(lambda: actuator.stood_by == ["fast", "eco"])
    assert not await house.redis.exists(house.topology.scaler("fast"))
    actuator.leads = True
    await until(lambda: actuator.sizes["fast"] == 1)


async def test_a_dry_run_tells_and_leaves_no_trace(house: Deployment) -> None:
    house.worker("fast", slots=1)
    await until(lambda: house.redis.zcard(house.topology.workers("fast")))
    told: list[str] = []
    before = await house.redis.dbsize()
    trial = DryRun(house.redis, house.topology, "", 2000, told.append)
    scaler(house, trial)
    await until(lambda: told)
    for _ in range(9):
        await house.post("hold")
    await until(lambda: any("from 1 to " in each for each in told))
    assert told[0] == "fast: 1 workers now"
    for key in (house.topology.scaling, house.topology.scaler("fast")):
        assert not await house.redis.exists(key)
    assert before > 0


async def test_the_pools_of_another_zone(deploy: Deploy) -> None:
    house = deploy(scaler=QUICK, zones={"FR": ZoneConfig(signal=["simulated"], pools=("eco",))})
    runtime = Runtime(house.url, house.config)
    try:
        role = ScalerRole(runtime, InMemory(nothing()), zone="FR")
        assert (role.zone, list(role._pools)) == ("FR", ["eco"])
        assert away_zone(runtime, "local") == ""
        with pytest.raises(ConfigError, match="no pool 'fast@FR'"):
            ScalerRole(runtime, InMemory(nothing()), zone="FR", pools=["fast"])
        with pytest.raises(ConfigError, match="no zone 'DE'"):
            away_zone(runtime, "DE")
    finally:
        await runtime.aclose()
