"""What is learned of the grid afterwards is counted once, whatever the order and the steps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carbon_orchestrator.accounting import settling as settling_module
from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.accounting.settlement import Due, Grids, bound
from carbon_orchestrator.accounting.settling import Settling
from carbon_orchestrator.accounting.totals import account
from carbon_orchestrator.clock import day, wall_ms
from carbon_orchestrator.config import Config, JobType, complete
from carbon_orchestrator.events import (
    EmissionsRecorded,
    EmissionsSettled,
    IntensityObserved,
)
from carbon_orchestrator.router.outlook import Bands
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.topology import CODEC
from streams.archive import Archive
from streams.archiver import Archiver, Keep
from streams.codec import envelope
from streams.commit import Transaction
from streams.event import Message
from streams.keys import Partition
from streams.sealing import Sealer

MINUTE, HOUR = 60_000, 3_600_000
CONFIG = complete(Config(types={"t": JobType(command=["true"])}, default_types=False))
BANDS = Bands.of(CONFIG.threshold)


class Ledger:
    """A record of attempts and intensities, written by hand, and what settles it."""

    def __init__(self, url: str, partition: Partition) -> None:
        config = msgspec.structs.replace(CONFIG, namespace=partition.namespace)
        self.runtime = Runtime(url, config)
        self.topology = self.runtime.topology
        self.committer = self.runtime.committer()
        self.redis: Any = self.runtime.connect()
        self.start = wall_ms() // HOUR * HOUR - 24 * HOUR  # all of it is over
        self.grids = Grids(BANDS)  # what workers know
        self.jobs = 0

    def settling(self) -> Settling:
        return Settling(self.runtime)

    async def observe(self, minute: int, value: float, **more: Any) -> None:
        fields: dict[str, Any] = {"zone": "local", "source": "s", "resolution_ms": HOUR, **more}
        event = IntensityObserved(time=self.start + minute * MINUTE, intensity=value, **fields)
        await self._emit(self.topology.intensity, event)

    async def follow(self) -> None:
        """Let the workers know what is on the stream."""
        for _, fields, entry_id in await self._rows(self.topology.intensity):
            for message in CODEC.entry("", entry_id, fields).messages:
                self.grids.apply(message)

    async def ran(self, start: int, end: int, *, known: bool = True, **more: Any) -> None:
        """An attempt over these minutes, submitted at minute 0, of 3.6 MJ: 1 g at 1 g/kWh."""
        if known:
            await self.follow()
        self.jobs += 1
        latest = self.grids.of("local", "average", False)
        event = EmissionsRecorded(
            job_id=f"j{self.jobs}",
            attempt=1,
            at=self.start + end * MINUTE,
            started_at=self.start + start * MINUTE,
            zone="local",
            pool="eco",
            type="t",
            energy_mj=3_600_000_000,
            energy_method="m",
            energy_uncertainty=0.5,
            emissions_ug=0,
            baseline_ug=0,
            submitted_at=self.start,
            baseline_mj=3_600_000_000,
            baseline_from=self.start,
            baseline_ms=(end - start) * MINUTE,
            priced_by=self.grids.applied,
            intensity_kind="average" if len(latest) else None,
        )
        event = msgspec.structs.replace(event, **more)
        emitted, baseline, unpriced = self.grids.figures(event)
        event = msgspec.structs.replace(
            event, emissions_ug=emitted, baseline_ug=baseline, unpriced_mj=unpriced
        )
        await self._emit(self.topology.emissions, event)

    async def _emit(self, stream: str, event: Any) -> None:
        await self.committer.apply(Transaction().emit(stream, envelope(event, "test")))

    async def _rows(self, stream: str) -> list[tuple[str, tuple[bytes, ...], str]]:
        rows = await self.redis.execute_command("XRANGE", stream, "-", "+")
        return [(stream, tuple(fields), entry_id.decode()) for entry_id, fields in rows]

    async def events(self, kind: type[Any]) -> list[Any]:
        return [
            message.event
            for stream, fields, entry_id in await self._rows(self.topology.emissions)
            for message in CODEC.entry(stream, entry_id, fields).messages
            if isinstance(message.event, kind)
        ]

    async def figures(self) -> dict[str, int]:
        """All sums, as accounting would have them by now."""
        everything = [*await self.events(EmissionsRecorded), *await self.events(EmissionsSettled)]
        days = set()
        for event in everything:
            change = Transaction()
            account(change, self.topology, [event], "local")
            await self.committer.apply(change)
            days.add(day(getattr(event, "at", self.start)))
        totals = {
            each.decode(): await self.redis.hgetall(self.topology.totals(each.decode()))
            for each in await self.redis.zrange(self.topology.days, 0, -1)
        }
        rows = report(totals, ())
        return rows[0].sums if rows else {}


@pytest.fixture
async def ledger(server_url: str, partition: Partition) -> AsyncIterator[Ledger]:
    made = Ledger(server_url, partition)
    yield made
    await made.runtime.aclose()


async def test_an_intensity_that_comes_late_is_made_up_for_once(ledger: Ledger) -> None:
    await ledger.observe(0, 100.0)
    await ledger.ran(30, 90)  # by what was known at 60, 100 g/kWh throughout
    settling = ledger.settling()
    await settling.settle()
    assert not [each for each in await ledger.events(EmissionsSettled) if each.restated]
    await ledger.observe(60, 300.0)
    await settling.settle()
    await ledger.settling().settle()  # another one, that starts only now
    (settled,) = [each for each in await ledger.events(EmissionsSettled) if each.restated]
    (change,) = settled.restated
    assert (change.attempts, change.emissions_ug, change.baseline_ug) == (1, 100_000_000, 0)
    sums = await ledger.figures()
    assert (sums["emissions_ug"], sums["restated_ug"], sums["restated"]) == (
        100_000_000,
        100_000_000,
        1,
    )


async def test_what_ran_before_anything_was_known_is_priced_later(ledger: Ledger) -> None:
    settling = ledger.settling()
    await ledger.ran(0, 60)
    await settling.settle()
    await ledger.observe(0, 250.0, kind="marginal")
    await settling.settle()
    sums = await ledger.figures()
    assert sums["emissions_ug"] == 0
    assert sums["restated_ug"] == sums["baseline_restated_ug"] == 250_000_000
    assert sums["unpriced_mj"] + sums["unpriced_restated_mj"] == 0


async def test_another_kind_of_intensity_restates_nothing(ledger: Ledger) -> None:
    await ledger.observe(0, 100.0)
    await ledger.ran(0, 60)
    settling = ledger.settling()
    await settling.settle()
    await ledger.observe(0, 900.0, kind="marginal")
    await ledger.observe(30, 900.0, zone="elsewhere")
    await ledger.observe(30, 900.0, simulated=True)
    await settling.settle()
    assert (await ledger.figures())["restated"] == 0


async def test_a_bound_is_found_when_the_deadline_is_over(ledger: Ledger) -> None:
    for hour, value in enumerate((300.0, 200.0, 100.0)):
        await ledger.observe(60 * hour, value)
    deadline = ledger.start + 240 * MINUTE
    await ledger.ran(60, 120, deadline=deadline)  # 200, where 50 was to come
    await ledger.ran(60, 120, deadline=deadline, urgency="urgent")
    await ledger.ran(60, 180, deadline=deadline, interruptible=True)  # 150: 50 and 100 at best
    settling = ledger.settling()
    await settling.settle()
    assert (await ledger.figures())["bounded"] == 0
    assert await ledger.redis.zcard(ledger.topology.unsettled) == 3
    await ledger.observe(180, 50.0)
    await ledger.observe(300, 10.0)  # too late for them
    await settling.settle()
    await settling.settle()
    sums = await ledger.figures()
    assert sums["bounded"] == 3
    assert sums["bounded_ug"] == (200 + 200 + 150) * 1_000_000
    # The urgent one could only have run at once, at 300: it was lucky to be late.
    assert sums["bound_ug"] == (50 + 200 + 75) * 1_000_000
    assert sums["bounded_baseline_ug"] == (300 + 300 + 250) * 1_000_000
    assert await ledger.redis.zcard(ledger.topology.unsettled) == 0


async def test_what_is_archived_is_restated_too(ledger: Ledger, tmp_path: Path) -> None:
    topology, runtime = ledger.topology, ledger.runtime
    settling = Settling(runtime, tmp_path)
    await ledger.observe(0, 100.0)
    for minute in range(5):
        await ledger.ran(minute, minute + 60)
        await settling.settle()
    sealer = Sealer(ledger.redis, ledger.committer, ["emissions"])
    await sealer.seal()
    archiver = Archiver(ledger.redis, Archive(tmp_path, topology.partition), topology.partition)
    await archiver.keep("emissions", Keep(0, 0))
    assert len(await ledger.events(EmissionsRecorded)) < 5
    await ledger.ran(5, 65)
    await settling.settle()
    await ledger.observe(0, 300.0)
    await settling.settle()
    (settled,) = [each for each in await ledger.events(EmissionsSettled) if each.restated]
    (change,) = settled.restated
    assert (change.attempts, change.emissions_ug) == (6, 6 * 200_000_000)


async def test_what_is_archived_while_it_is_gone_over_is_restated_too(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling_module, "_PAGE", 2)
    topology = ledger.topology
    settling = Settling(ledger.runtime, tmp_path)
    await ledger.observe(0, 100.0)
    for minute in range(6):
        await ledger.ran(minute, minute + 60)
    sealer = Sealer(ledger.redis, ledger.committer, ["emissions"])
    archiver = Archiver(ledger.redis, Archive(tmp_path, topology.partition), topology.partition)
    ids = [entry_id for _, _, entry_id in await ledger._rows(topology.emissions)]
    found = []
    async for page in settling._pages("0-0"):
        found += [entry_id for entry_id, _ in page]
        if len(found) == 2:
            await sealer.seal()
            assert await archiver.keep("emissions", Keep(0, 0)) >= 5
    assert found == ids


async def test_an_attempt_of_times_that_cannot_be_holds_nothing_up(ledger: Ledger) -> None:
    await ledger.observe(0, 100.0)
    await ledger.ran(0, 60)
    (good,) = await ledger.events(EmissionsRecorded)
    for wrong in ({"at": good.started_at - 1}, {"baseline_ms": -1}, {"at": 10**18}):
        event = msgspec.structs.replace(good, priced_by=None, **wrong)
        await ledger._emit(ledger.topology.emissions, event)
    await ledger.observe(0, 300.0)
    await ledger.settling().settle()
    (settled,) = await ledger.events(EmissionsSettled)
    (change,) = settled.restated
    assert (change.attempts, change.emissions_ug) == (1, 200_000_000)


async def test_nothing_new_writes_nothing(ledger: Ledger) -> None:
    await ledger.observe(0, 100.0)
    await ledger.ran(0, 30)
    settling = ledger.settling()
    await settling.settle()
    length = await ledger.redis.xlen(ledger.topology.emissions)
    for _ in range(3):
        await settling.settle()
        await ledger.settling().settle()
    assert await ledger.redis.xlen(ledger.topology.emissions) == length


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_and_any_steps_come_to_what_is_known_in_the_end(
    ledger: Ledger, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of them settle, some at once, while attempts and intensities come in any order."""
    for name, value in (("_MOST_ATTEMPTS", 3), ("_MOST_DUE", 2), ("_MOST_ROWS", 1), ("_PAGE", 2)):
        monkeypatch.setattr(settling_module, name, value)
    chance = random.Random(seed)
    several = [ledger.settling() for _ in range(3)]
    for _ in range(60):
        match chance.randrange(4):
            case 0:
                minute = 30 * chance.randrange(16)
                kind = chance.choice(("average", "average", "marginal"))
                zone = chance.choice(("local", "local", "far"))
                intensity = round(chance.uniform(20, 500), 1)
                await ledger.observe(minute, intensity, kind=kind, zone=zone)
            case 1 | 2:
                start = chance.randrange(300)
                await ledger.ran(
                    start,
                    start + chance.randrange(1, 120),
                    known=chance.random() < 0.6,
                    deadline=chance.choice((None, ledger.start + 420 * MINUTE)),
                    interruptible=chance.random() < 0.3,
                    baseline_zone=chance.choice((None, "far")),
                    project=chance.choice(("p", "q")),
                )
            case _:
                at_once = chance.sample(several, chance.randint(1, 3))
                await asyncio.gather(*(each.settle() for each in at_once))
    # A point in the distance lets all deadlines be over.
    await ledger.observe(1000, 100.0)
    await ledger.observe(1000, 100.0, zone="far")
    for each in several:
        await each.settle()
    await ledger.follow()
    sums: Counter[str] = Counter(await ledger.figures())
    attempts = await ledger.events(EmissionsRecorded)
    now = [ledger.grids.figures(each) for each in attempts]
    assert sums["emissions_ug"] + sums["restated_ug"] == sum(each[0] for each in now)
    assert sums["baseline_ug"] + sums["baseline_restated_ug"] == sum(each[1] for each in now)
    assert sums["unpriced_mj"] + sums["unpriced_restated_mj"] == sum(each[2] for each in now)
    assert await ledger.redis.zcard(ledger.topology.unsettled) == 0
    settled = await ledger.events(EmissionsSettled)
    known = {("0-0", "0-0", 0)}
    for each in settled:
        assert each.previous in known  # no step is missing
        known.add((each.emissions_id, each.intensity_id, each.until))
    possible = [due for each in attempts if (due := Due.of(each)) is not None]
    assert sums["bounded"] <= len(possible)
    assert sums["bound_ug"] <= sums["bounded_ug"]


def test_a_bound_never_exceeds_what_was_emitted() -> None:
    chance = random.Random(7)
    grids = Grids(BANDS)
    for hour in range(12):
        value = chance.uniform(10, 500)
        event = IntensityObserved(
            zone="z", time=hour * HOUR, intensity=value, source="s", resolution_ms=HOUR
        )
        grids.apply(Message(f"{hour + 1}-0", 0, event))
    found = 0
    for _ in range(300):
        start = chance.randrange(HOUR, 9 * HOUR)
        end = start + chance.randrange(HOUR)
        due = Due(
            job_id="j",
            attempt=1,
            project="p",
            type="t",
            pool="fast",
            zone="z",
            kind="average",
            simulated=False,
            at=end,
            started_at=start,
            submitted_at=chance.randrange(HOUR),
            end=max(end, chance.randrange(11 * HOUR)),
            energy_mj=chance.randrange(10**9),
            baseline_mj=0,
            baseline_from=start,
            baseline_ms=0,
            baseline_zone=None,
            urgent=chance.random() < 0.2,
            broken=chance.random() < 0.5,
        )
        one = bound(due, grids)
        assert one is not None
        assert one.bound_ug <= one.emissions_ug
        found += one.bound_ug < one.emissions_ug
    assert found > 100
