"""The scaler as the user that the ACL file gives it."""

from __future__ import annotations

from deployment import LOW, Deploy
from test_permissions import NAMESPACE, Fenced, emptied, fenced, started  # noqa: F401
from test_scaler import QUICK, InMemory, changes, nothing, scaler

from carbon_orchestrator.scaler.actuator import DryRun
from streams.connection import connect
from streams.testing import until


async def test_the_scaler_works_as_its_own_user_and_is_denied_nothing(
    deploy: Deploy,
    emptied: Fenced,  # noqa: F811
) -> None:
    house = deploy(emptied.url("admin"), NAMESPACE, scaler=QUICK)
    await house.intensity(LOW)
    await house.gateway()
    house.router()
    await house.routing()
    actuator = InMemory(nothing())
    part = started(house, emptied, "scaler", lambda: scaler(house, actuator))
    for _ in range(5):
        await house.post("hold")
    await until(lambda: actuator.sizes["fast"] == 2)
    house.worker("fast", slots=8)
    await house.counted("running", 5)
    told: list[str] = []
    async with connect(emptied.url("reader")) as reader:
        trial = DryRun(reader, house.topology, "", 2000, told.append)
        dry = started(house, emptied, "reader", lambda: scaler(house, trial))
        await until(lambda: told == ["fast: 1 workers now", "eco: 0 workers now"] or len(told) > 2)
        await dry.stop()
    house.release()
    await until(lambda: actuator.sizes["fast"] == 0)
    await part.stop()
    assert await changes(house)
    assert part.runtime.refused is None
    assert dry.runtime.refused is None
    assert await emptied.denials() == []
