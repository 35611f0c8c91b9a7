"""Workers of further zones, the slots that workers offer, and what housekeeping does to both."""

from __future__ import annotations

import pytest
from deployment import Deploy, Deployment
from test_planning import observed, planning

from carbon_orchestrator.config import ConfigError, ZoneConfig
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.worker.component import WorkerRole
from streams.testing import until


async def test_a_worker_of_a_zone_takes_its_jobs_and_prices_them_by_both_grids(
    deploy: Deploy,
) -> None:
    house = deploy(**planning(zones={"FR": ZoneConfig(signal=["simulated"], pools=("eco",))}))
    await observed(house, 300, 290, 290)
    await observed(house, 40, 40, 40, zone="FR")
    await house.gateway()
    house.router()
    house.accounting()
    house.worker("fast")
    away = house.worker("eco", slots=3, zone="FR")
    await house.routing()
    await until(lambda: house.redis.zcard(house.topology.workers("eco", "FR")))
    offers = await house.redis.zrange(house.topology.workers("eco", "FR"), 0, -1)
    assert offers == [f"{away.role.name}:3".encode()]
    fields = {"deadline": "2h", "expected_duration": "1h", "zones": ["local", "FR"]}
    job_id = await house.post("burn", payload={"ms": 30}, **fields)
    await house.reach(job_id, "completed")
    await house.settled()
    job = await house.job(job_id)
    assert (job["pool"], job["zone"]) == ("eco", "FR")
    (run,) = job["runs"]
    for name, intensity in (("emissions_ug", 40), ("baseline_ug", 300)):
        assert run[name] == pytest.approx(run["energy_mj"] * intensity / 3600, abs=0.6), name
    days = await house.redis.zrange(house.topology.days, 0, -1)
    totals = await house.redis.hgetall(house.topology.totals(days[0].decode()))
    assert {name.decode().rpartition("|")[2] for name in totals if b"energy_mj" in name} == {"FR"}


async def test_a_zone_that_is_not_there_is_refused(deploy: Deploy) -> None:
    house = deploy(zones={"FR": ZoneConfig(signal=["simulated"], pools=("eco",))})
    runtime = Runtime(house.url, house.config)
    for pool, zone in (("fast", "FR"), ("eco", "XX")):
        with pytest.raises(ConfigError, match=f"there is no pool '{pool}@{zone}'"):
            WorkerRole(runtime, pool, house.data, house._guardian, zone=zone)
    await runtime.aclose()


async def test_the_house_is_kept_of_silent_workers_and_books_of_the_past(
    deploy: Deploy,
) -> None:
    house = deploy()
    workers, books = house.topology.workers("eco"), house.topology.booked("eco")
    await house.redis.zadd(workers, {"gone:2": 1})
    await house.redis.hset(books, mapping={"5": 1000, "7": -400, "99999999": -600})
    house.accounting()
    worker = house.worker("eco")
    await until(lambda: _members(house, workers, [f"{worker.role.name}:4"]))

    async def folded() -> bool:
        changes = {int(k): int(v) for k, v in (await house.redis.hgetall(books)).items()}
        return len(changes) == 2 and changes[min(changes)] == 600 and min(changes) > 1_000_000

    await until(folded)


async def _members(house: Deployment, key: str, expected: list[str]) -> bool:
    return [each.decode() for each in await house.redis.zrange(key, 0, -1)] == expected
