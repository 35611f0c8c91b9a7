"""What many ask for one by one is done together, and each gets his own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from carbon_orchestrator.gateway.intake.together import Together


class Doubling:
    """Doubles numbers, when let go; what is below 0 is an error, and so is all beside 13."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.go = asyncio.Event()

    async def __call__(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.rounds.append(numbers)
        await self.go.wait()
        if 13 in numbers:
            raise RuntimeError("13")
        return [number * 2 if number >= 0 else ValueError(str(number)) for number in numbers]


async def test_what_comes_while_some_is_under_way_goes_together() -> None:
    act = Doubling()
    together = Together(act, 3)
    first = asyncio.create_task(together.ask(1))
    while not act.rounds:
        await asyncio.sleep(0)
    later = [asyncio.create_task(together.ask(n)) for n in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    act.go.set()
    assert await first == 2
    assert await asyncio.gather(*later) == [4, 6, 8, 10]
    assert act.rounds == [[1], [2, 3, 4], [5]]


async def test_each_gets_his_own_answer() -> None:
    act = Doubling()
    act.go.set()
    together = Together(act, 10)
    asked = [asyncio.create_task(together.ask(n)) for n in (1, -1, 2, 3)]
    await asyncio.sleep(0)
    asked[2].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[0] == 2
    assert isinstance(answers[1], ValueError)
    assert isinstance(answers[2], asyncio.CancelledError)
    assert answers[3] == 6


async def test_what_fails_fails_for_those_who_asked_then() -> None:
    act = Doubling()
    act.go.set()
    together = Together(act, 10)
    answers = await asyncio.gather(together.ask(13), together.ask(1), return_exceptions=True)
    assert [type(each) for each in answers] == [RuntimeError, RuntimeError]
    assert await together.ask(4) == 8
