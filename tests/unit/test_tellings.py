"""What running jobs write is told in rounds, whatever the server does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from carbon_orchestrator import progress
from carbon_orchestrator.config import Config, Limits
from carbon_orchestrator.progress import Report
from carbon_orchestrator.topology import Topology
from carbon_orchestrator.worker.telling import Tellings
from streams.byte_log import pieces, reading
from streams.connection import connect
from streams.embedded import EmbeddedServer
from streams.keys import Partition
from streams.testing import until

CONFIG = Config(limits=Limits(output=2000, output_tail=100))


class Wire:
    """A connection that counts, and can be down."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.down = False
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.down:
            raise ConnectionError("down")

    async def execute_command(self, *command: Any) -> Any:
        self._call()
        return await self._redis.execute_command(*command)

    def pipeline(self, **options: Any) -> Any:
        pipeline: Any = self._redis.pipeline(**options)
        execute = pipeline.execute

        async def counted() -> Any:
            self._call()
            return await execute()

        pipeline.execute = counted
        return pipeline


class House:
    def __init__(self, redis: Redis, partition: Partition) -> None:
        self.redis = redis
        self.topology = Topology(partition)
        self.wire = Wire(redis)
        self.tellings = Tellings(self.wire, self.topology, CONFIG, lambda: 1000)  # type: ignore[arg-type]

    async def output(self, job_id: str) -> bytes:
        command = reading(self.topology.output(job_id), 0, 1000)
        rows = await self.redis.execute_command(*command)
        return b"".join(each.data for each in pieces(rows))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.tellings.run())
        try:
            yield
        finally:
            self.tellings.stop()
            async with asyncio.timeout(10):
                await task


@pytest.fixture
def house(redis: Redis, partition: Partition) -> House:
    return House(redis, partition)


async def test_who_says_nothing_costs_nothing(house: House) -> None:
    async with house.running():
        for number in range(50):
            telling = house.tellings.begin(f"job-{number}", 1)
            await house.tellings.finish(telling)
            house.tellings.end(telling, lost=False, final=True)
    assert house.wire.calls == 0


async def test_many_jobs_are_told_together(house: House) -> None:
    told = [house.tellings.begin(f"job-{number}", 1) for number in range(100)]
    for telling in told:
        telling.output.write(b"hello")
        for percent in range(100):
            telling.report(Report(percent / 100))
    async with house.running():
        await asyncio.gather(*map(house.tellings.finish, told))
        for telling in told:
            house.tellings.end(telling, lost=False, final=True)
    assert house.wire.calls <= 4
    assert [await house.output(f"job-{number}") for number in range(100)] == [b"hello"] * 100


async def test_the_end_waits_for_the_last_output(house: House) -> None:
    async with house.running():
        telling = house.tellings.begin("job", 1)
        telling.output.write(b"last words")
        await house.tellings.finish(telling)
        assert await house.output("job") == b"last words"
        house.tellings.end(telling, lost=False, final=True)
    ttl = await house.redis.ttl(house.topology.output("job"))
    assert 0 < ttl <= 600, "the record has it, too"


@pytest.mark.parametrize(
    ("attempt", "output"),
    [(2, b"short"), (1, b"x" * 101), (1, b"\xff"), (1, b"\xf0\x9f\x98")],
)
async def test_output_that_the_record_does_not_have_whole_stays_as_long_as_it(
    house: House, attempt: int, output: bytes
) -> None:
    async with house.running():
        telling = house.tellings.begin("job", attempt)
        telling.output.write(output)
        await house.tellings.finish(telling)
        house.tellings.end(telling, lost=False, final=True)
    ttl = await house.redis.ttl(house.topology.output("job"))
    assert 6 * 86400 < ttl <= 7 * 86400


async def test_progress_is_told_and_taken_back(house: House) -> None:
    key = house.topology.progress("job", 3)

    async def seen() -> progress.Progress | None:
        raw = await house.redis.get(key)
        return progress.decode(raw) if raw else None

    async with house.running():
        telling = house.tellings.begin("job", 3)
        telling.report(Report(0.5, "half"))
        found = await until(seen)
        assert found is not None
        assert (found.fraction, found.message, found.at) == (0.5, "half", 1000)
        assert await house.redis.ttl(key) > 0
        house.tellings.end(telling, lost=False, final=False)
    assert await seen() is None


async def test_an_attempt_takes_back_its_own_progress_only(house: House) -> None:
    """As where a worker drains, and another goes on with the job at once."""
    async with house.running():
        first, second = house.tellings.begin("job", 1), house.tellings.begin("job", 2)
        keys = [house.topology.progress("job", attempt) for attempt in (1, 2)]

        async def there() -> list[bytes | None]:
            return [await house.redis.get(key) for key in keys]

        async def both() -> bool:
            return None not in await there()

        for each in (first, second):
            each.report(Report(0.5))
        await until(both)
        house.tellings.end(first, lost=False, final=False)

        async def gone() -> bool:
            return (await there())[0] is None

        await until(gone)
        assert (await there())[1] is not None


async def test_after_very_many_nothing_is_left_when_the_worker_stops(house: House) -> None:
    async with house.running():
        told = [house.tellings.begin(f"job-{number}", 1) for number in range(2500)]
        for telling in told:
            telling.report(Report(0.5))

        async def seen() -> bool:
            return all(each.told is not None for each in told)

        await until(seen)
        for telling in told:
            house.tellings.end(telling, lost=False, final=True)
    keys = [house.topology.progress(f"job-{number}", 1) for number in range(2500)]
    assert await house.redis.exists(*keys) == 0


async def test_what_the_server_has_does_not_stay_in_memory(house: House) -> None:
    async with house.running():
        telling = house.tellings.begin("job", 1)
        for number in range(150):
            telling.output.write(b"%9d\n" % number)
        await house.tellings.finish(telling)
        assert len(telling.output._tail) == 100
        assert telling.output.text().endswith("149\n")
        telling.output.write(b"more\n")
        await house.tellings.finish(telling)
    assert (await house.output("job")).endswith(b"149\nmore\n")
    assert len(await house.output("job")) == 1505


async def test_while_the_server_is_away_the_last_output_waits_in_memory(house: House) -> None:
    house.wire.down = True
    async with house.running():
        running, over = house.tellings.begin("running", 1), house.tellings.begin("over", 1)
        over.output.write(b"the end")
        began = asyncio.get_running_loop().time()
        await house.tellings.finish(over)
        assert asyncio.get_running_loop().time() - began < 2.5
        house.tellings.end(over, lost=False, final=True)
        for number in range(1000):
            running.output.write(b"%9d\n" % number)
        assert len(running.output._tail) <= 4000
        house.wire.down = False

        async def told() -> bool:
            return (await house.output("running")).endswith(b"999\n")

        await until(told)
        assert await house.output("over") == b"the end"
    # Of the rest, nothing: that is bounded.
    rows = await house.redis.execute_command(*reading(house.topology.output("running"), 0, 9))
    found = pieces(rows)
    assert (found[0].offset, found[-1].end) == (8000, 10_000)


async def test_who_has_been_followed_by_another_says_no_more(house: House) -> None:
    async with house.running():
        stale, live = house.tellings.begin("job", 1), house.tellings.begin("job", 2)
        stale.output.write(b"first ")
        await house.tellings.finish(stale)
        live.output.write(b"second")
        await house.tellings.finish(live)
        stale.output.write(b"late")
        await house.tellings.finish(stale)
        assert stale.superseded
        live.report(Report(0.5))

        async def told() -> bool:
            return bool(await house.redis.exists(house.topology.progress("job", 2)))

        await until(told)
        house.tellings.end(stale, lost=True, final=False)
    assert await house.output("job") == b"first second"
    assert await house.redis.exists(house.topology.progress("job", 2))


async def test_a_restart_of_the_server_is_outlived(
    own_server: EmbeddedServer, partition: Partition
) -> None:
    async with connect(own_server.url) as wire, connect(own_server.url) as own:
        house = House(own, partition)
        house.tellings = Tellings(wire, house.topology, CONFIG, lambda: 0)
        async with house.running():
            telling = house.tellings.begin("job", 1)
            telling.output.write(b"before ")
            await house.tellings.finish(telling)
            own_server.kill()
            telling.output.write(b"while ")
            await own_server.start()
            telling.output.write(b"after")

            async def told() -> bool:
                try:
                    return (await house.output("job")).endswith(b"after")
                except Exception:
                    return False

            await until(told, 15)
            assert await house.output("job") == b"before while after"
