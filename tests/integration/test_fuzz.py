"""What strangers send is answered or put aside; `python -m benchmarks.fuzz` at full size."""

from __future__ import annotations

from collections import Counter

import pytest
from deployment import Deploy, Deployment
from depth import depth

from benchmarks.fuzz import api, decoder
from benchmarks.fuzz.entries import Entries
from carbon_orchestrator.config import Limits
from carbon_orchestrator.gateway.routes import ROUTES
from carbon_orchestrator.topology import CODEC


def test_broken_entries_are_events_or_faults() -> None:
    number = depth(5_000, 20_000)
    found = decoder.fuzz(number, 2, print)
    assert found["events"] > number // 4
    assert found["faults"] > number // 4
    assert found["refused"] > number // 20
    assert found["accepted"] > number // 200


def test_the_check_can_fail() -> None:
    with pytest.raises(decoder.Wrong, match="neither"):
        decoder.check_items([], (b"type", b"job.submitted"))


def test_entries_are_the_same_for_the_same_seed() -> None:
    def first(seed: int) -> list[tuple[bytes, ...]]:
        supply = Entries(seed)
        return [supply.entry() for _ in range(50)]

    assert first(1) == first(1) != first(2)


@pytest.mark.skipif(not api.available(), reason="schemathesis comes with the extra fuzz")
async def test_every_answer_is_one_that_the_document_promises() -> None:
    status, said = await api.run(1, examples=6)
    assert status == 0, said
    number = sum(not each.long for each in ROUTES)
    assert f"{number} selected / {len(ROUTES)} total" in said


async def throw(house: Deployment, supply: Entries, stream: str, number: int) -> int:
    """So many broken entries onto a stream; how many of them hold something undecodable."""
    faulty = 0
    for _ in range(number):
        made = supply.entry()
        fields = made[: len(made) // 2 * 2]  # the server takes pairs only
        if fields:
            faulty += bool(CODEC.entry(stream, "1-1", fields).faults)
            await house.redis.execute_command("XADD", stream, "*", *fields)
    return faulty


async def well(house: Deployment) -> None:
    """Jobs still run, and every role."""
    job_id = await house.post("quick", urgency="urgent")
    await house.reach(job_id, "completed")
    assert (await house.http("GET", "/health")).status == 200
    assert not any(part.task.done() for part in house.parts)


async def test_garbage_from_strangers_ends_in_dead_letters_and_holds_nothing_up(
    deploy: Deploy,
) -> None:
    house = deploy()
    await house.all()
    await house.intensity(10)
    supply = Entries(3)
    streams = [house.topology.jobs_urgent, house.topology.jobs]
    faulty = {stream: await throw(house, supply, stream, 400) for stream in streams}
    await house.settled()
    letters = Counter(each[b"stream"].decode() for each in await house.dead_letters())
    for stream, number in faulty.items():
        assert letters[stream] >= number > 100, stream
    await well(house)


async def test_garbage_where_only_roles_write_holds_nothing_up_either(deploy: Deploy) -> None:
    house = deploy(limits=Limits(deliveries=1))
    await house.all()
    await house.intensity(10)
    supply = Entries(4)
    for stream in [each for lanes in house.topology.groups.values() for each in lanes]:
        await throw(house, supply, stream, 20)
    await house.settled()
    await well(house)
