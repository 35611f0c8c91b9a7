"""`doctor` tells when nobody keeps the record."""

from __future__ import annotations

from typing import Any

from deployment import Deploy, Deployment

from carbon_orchestrator.config import Archive, Retention
from carbon_orchestrator.record_health import StreamAge, judge, record_checks
from streams.connection import connect
from streams.testing import until

HOUR = 3_600_000


async def states(house: Deployment) -> dict[str, Any]:
    async with connect(house.url) as client:
        checks = await record_checks(client, house.topology, house.config)
    return {each.name: each for each in checks}


async def test_a_record_that_is_kept_and_one_that_is_not(deploy: Deploy) -> None:
    house = deploy(retention=Retention(streams=0, max_entries=1), archive=Archive(seal_every=0.02))
    assert {each.status for each in (await states(house)).values()} == {"ok"}
    old = {"type": "job.submitted", "data": '{"type":"quick","urgency":"urgent"}'}
    await house.redis.xadd(house.topology.jobs, old, "1000-0")
    found = await states(house)
    assert (found["sealing"].status, found["archive"].status) == ("warn", "ok")
    assert "jobs has entries that nobody has sealed" in found["sealing"].detail
    house.router()
    await house.settled_router()
    seal_only = deploy(namespace=house.config.namespace, archive=Archive(seal_every=0.02))
    accounting = seal_only.accounting()

    async def sealed() -> bool:
        return (await states(house))["sealing"].status == "ok"

    await until(sealed, 20)
    await accounting.stop()
    found = await states(house)
    assert found["archive"].status == "warn"
    assert "jobs has been due to be archived" in found["archive"].detail
    accounting = house.accounting()

    async def archived() -> bool:
        return (await states(house))["archive"].detail.startswith("up to ")

    await until(archived, 20)
    await accounting.stop()


def test_what_is_worth_a_warning() -> None:
    fresh = StreamAge("jobs", 4_000, HOUR)
    assert [each.status for each in judge([fresh], 5_000, "0-0")] == ["ok", "ok"]
    late = StreamAge("emissions", 66_000, 3 * HOUR)
    sealing, archive = judge([fresh, late], 5_000, "7-0")
    assert (sealing.status, archive.status) == ("warn", "warn")
    assert "emissions" in sealing.detail
    assert "3 h" in archive.detail
