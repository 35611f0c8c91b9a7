"""Sizes of pools on record, decided again."""

from __future__ import annotations

from typing import Any

import msgspec
from audited import audit, divergences, seal, source
from deployment import HIGH, LOW, Deploy, Deployment
from test_scaler import QUICK, InMemory, changes, dispatched, nothing, scaler

from carbon_orchestrator.audit.verify import verify
from carbon_orchestrator.config import ZoneConfig
from carbon_orchestrator.events import Pool
from streams.archive import Archive
from streams.archiver import Archiver, Keep
from streams.connection import connect
from streams.testing import until


async def sized(deploy: Deploy) -> Deployment:
    """A deployment of which a pool in each of two zones grew and went to sleep again."""
    house = deploy(scaler=QUICK, zones={"FR": ZoneConfig(signal=["simulated"])})
    await house.intensity(HIGH, zone="FR")
    await house.intensity(LOW)
    await house.gateway()
    house.router()
    sizes: list[dict[Pool, int]] = [nothing(), nothing()]
    scaler(house, InMemory(sizes[0]))
    scaler(house, InMemory(sizes[1]), zone="FR")
    await house.routing()
    jobs = await dispatched(house, 9)
    await until(lambda: sizes[0]["fast"] == 3)
    jobs += await dispatched(house, 4, zones=["FR"], urgency="urgent")
    await until(lambda: sizes[1]["eco"] == 1)
    house.worker("fast", slots=20)
    house.worker("eco", slots=20, zone="FR")
    house.release()
    for each in jobs:
        await house.reach(each, "completed")
    await until(lambda: [*sizes[0].values(), *sizes[1].values()] == [0, 0, 0, 0])
    await house.settled_router()
    await house.stop()
    return house


async def test_sizes_are_decided_again(deploy: Deploy) -> None:
    house = await sized(deploy)
    events = await changes(house)
    assert {each.zone for each in events} == {None, "FR"}
    before = (await audit(house))["decisions"]
    assert (before.diverging, before.unchecked) == (0, {})
    await house.redis.delete(house.topology.scaling)
    assert (await audit(house))["decisions"].checked == before.checked - len(events)


async def put(house: Deployment, entries: list[Any]) -> None:
    """Have these on the stream, and nothing else."""
    await house.redis.delete(house.topology.scaling)
    for entry_id, fields in entries:
        await house.redis.xadd(house.topology.scaling, fields, id=entry_id)


async def test_what_was_altered_is_found(deploy: Deploy) -> None:
    house = await sized(deploy)
    entries = await house.redis.xrange(house.topology.scaling)
    first_id, first = entries[0]
    valid = (await changes(house))[0].grid.valid_until
    alterations = {
        (b'"replicas":3', b'"replicas":2'): "replicas of a pool's size is not what its inputs lead",
        (b'"waiting":9', b'"waiting":10'): "reason of a pool's size is not what its inputs lead to",
        (
            b":%d" % valid,
            b":%d" % (valid + 1),
        ): "the grid that a size was decided from is not as it",
        (b'"step":4', b'"step":5'): "a size was decided by parameters that no scaler had announced",
        (
            b'"revision":1',
            b'"revision":2',
        ): "a change of fast does not follow the last one expected 3",
        (b'"version":1', b'"version":9'): "9 is no known version of how pools are scaled",
    }
    for (old, new), told in alterations.items():
        altered = {name: value.replace(old, new, 1) for name, value in first.items()}
        assert altered != first, old
        await put(house, [(first_id, altered), *entries[1:]])
        (found,) = divergences(await audit(house))
        assert told in found
    await put(house, entries)
    assert divergences(await audit(house)) == []


async def test_an_archive_without_the_latest_configuration_accuses_nobody(deploy: Deploy) -> None:
    house = await sized(deploy)
    record = source(house)
    assert record.archive is not None
    async with connect(house.url) as client:
        archiver = Archiver(client, Archive(record.archive, record.partition), record.partition)
        await seal(house)
        assert await archiver.keep("operations", Keep(0, 0))
        other = deploy(
            namespace=house.config.namespace,
            scaler=msgspec.structs.replace(QUICK, step=3),
            zones=house.config.zones,
        )
        sizes: dict[Pool, int] = {"fast": 4, "eco": 4}
        part = scaler(other, InMemory(sizes))
        await until(lambda: sizes == nothing())
        await part.stop()
        await seal(house)
        for stream in ("scaling", "intensity"):
            await archiver.keep(stream, Keep(0, 0))
    result = await verify(source(house, url=None), None, lambda part, count: None, apart=False)
    assert divergences(result.tallies) == []
    unchecked = result.tallies["decisions"].unchecked
    assert "of sizes, by configurations that are not archived yet" in unchecked
