"""One answer for all who ask at a time."""

from __future__ import annotations

import asyncio
import gc

import pytest

from carbon_orchestrator.gateway.deployment.fresh import Fresh


class Source:
    """Counts how often it is asked, and answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.go = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        number = self.asked
        await self.go.wait()
        if self.fails:
            raise OSError("away")
        return number


async def test_who_asks_meanwhile_gets_the_same_answer() -> None:
    source = Source()
    fresh = Fresh(60, source.ask)
    asking = [asyncio.create_task(fresh.get()) for _ in range(10)]
    await asyncio.sleep(0)
    source.go.set()
    assert await asyncio.gather(*asking) == [1] * 10
    assert await fresh.get() == 1  # kept


async def test_an_old_answer_is_found_anew() -> None:
    source = Source()
    source.go.set()
    fresh = Fresh(0, source.ask)
    assert await fresh.get() == 1
    assert await fresh.get() == 2


async def test_a_failure_is_shared_and_not_kept() -> None:
    source = Source()
    source.fails = True
    fresh = Fresh(60, source.ask)
    asking = [asyncio.create_task(fresh.get()) for _ in range(3)]
    await asyncio.sleep(0)
    source.go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in found] == [OSError] * 3
    assert source.asked == 1
    source.fails = False
    assert await fresh.get() == 2


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    source = Source()
    fresh = Fresh(60, source.ask)
    first, second = asyncio.create_task(fresh.get()), asyncio.create_task(fresh.get())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.go.set()
    assert await second == 1


async def test_a_failure_that_nobody_waits_for_is_nobodys() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    source = Source()
    source.fails = True
    fresh: Fresh[int] | None = Fresh(60, source.ask)
    assert fresh is not None
    asking = asyncio.create_task(fresh.get())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    source.go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    del fresh, asking
    gc.collect()
    assert complaints == []


async def test_what_is_forgotten_is_found_anew() -> None:
    source = Source()
    source.go.set()
    fresh = Fresh(60, source.ask)
    assert await fresh.get() == 1
    fresh.forget()
    assert await fresh.get() == await fresh.get() == 2
