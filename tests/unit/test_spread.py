"""Several partitions as one: what is put together, without any server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.config import Config, ConfigError, PoolConfig, complete
from carbon_orchestrator.events import Backlog, InFlight
from carbon_orchestrator.every_letter import EveryLetter
from carbon_orchestrator.gateway.deployment.house import by_name
from carbon_orchestrator.gateway.grid.starts import Bucket, joined
from carbon_orchestrator.gateway.lookup.cursors import Place, between
from carbon_orchestrator.gateway.lookup.job_query import JobQuery, job_query
from carbon_orchestrator.gateway.lookup.listing import Found
from carbon_orchestrator.gateway.spread import at_a_glance, merged
from carbon_orchestrator.letters import Letters
from carbon_orchestrator.partitions import agreed, fields, part, share
from carbon_orchestrator.scaler.demand import Demand
from carbon_orchestrator.scaler.demands import together
from carbon_orchestrator.submission import derived_job_id, home_of, new_job_id, partition_of
from carbon_orchestrator.worker.slots import Slots
from streams.dead_letters import DeadLetter
from streams.event import entry_order
from streams.inspection import GroupState

# -- lists ---------------------------------------------------------------------------------------

places = st.lists(st.tuples(st.integers(0, 5), st.text("abc", min_size=1, max_size=4)))


def _read(own: Sequence[Place], query: JobQuery, patience: int) -> Found:
    """What one partition answers that gives up after so many jobs."""
    descending = query.filters.descending
    ordered = sorted(own, reverse=descending)
    if (after := query.after) is not None:
        ordered = [each for each in ordered if (each < after if descending else each > after)]
    count = min(query.limit, patience)
    shown, rest = ordered[:count], ordered[count:]
    until = between(shown[-1], rest[0], descending=descending) if rest and shown else None
    return Found([(each, {"id": each}) for each in shown], until)


@given(
    places,
    st.integers(1, 4),
    st.integers(1, 5),
    st.lists(st.integers(1, 6), min_size=4, max_size=4),
    st.booleans(),
)
def test_each_job_is_on_one_page_in_order(
    jobs: list[Place], partitions: int, limit: int, patience: list[int], descending: bool
) -> None:
    jobs = list({job_id: (at, job_id) for at, job_id in jobs}.values())
    own = [[each for n, each in enumerate(jobs) if n % partitions == p] for p in range(partitions)]
    sort = "-submitted_at" if descending else "submitted_at"
    listed: list[Place] = []
    cursor: str | None = ""
    for _ in range(len(jobs) + 2):
        words = [("sort", sort), ("limit", str(limit)), *([("cursor", cursor)] if cursor else ())]
        query = job_query(words, None)
        found = [_read(each, query, patience[n]) for n, each in enumerate(own)]
        page, cursor = merged(found, query)
        assert len(page) <= limit
        listed += [each["id"] for each in page]
        if cursor is None:
            break
    assert cursor is None
    assert listed == sorted(jobs, reverse=descending)


def test_starts_of_one_time_and_pool_are_one_bucket() -> None:
    buckets = [Bucket(10, "fast", 2, ["a", "b"]), Bucket(0, "eco", 1, ["c"])]
    buckets += [Bucket(10, "fast", 3, ["d", "e", "f"]), Bucket(10, "eco", 1, ["g"])]
    assert joined(buckets) == [
        Bucket(0, "eco", 1, ["c"]),
        Bucket(10, "eco", 1, ["g"]),
        Bucket(10, "fast", 5, ["a", "b", "d"]),
    ]


# -- at a glance ---------------------------------------------------------------------------------


def _view(jobs: int, since: str | None, oldest: str | None, risk: str) -> dict[str, Any]:
    sums = dict.fromkeys(("emitted_ug", "baseline_ug", "avoided_ug", "energy_mj"), jobs)
    wait = None if oldest is None else {"id": oldest, "submitted_at": oldest}
    return {
        "now": "now",
        "emissions": {**sums, "since": since, "baseline": "b", "simulated": jobs > 1},
        "jobs": {"running": jobs},
        "running": {"fast": jobs, "eco": 0},
        "waiting": jobs,
        "oldest_wait": wait,
        "dead_letters": jobs,
        "deadline_risk": {
            "jobs": 1,
            "examined": 2,
            "complete": jobs == 1,
            "examples": [{"deadline": risk, "id": risk}],
        },
        "rates": {"submitted_per_min": 1.5, "completed_per_min": 0.5},
    }


def test_an_overview_adds_up_and_tells_the_oldest_and_the_most_urgent() -> None:
    found = at_a_glance([_view(1, "2020-01-02", "b", "y"), _view(2, "2020-01-01", None, "x")])
    assert found["emissions"]["emitted_ug"] == 3
    assert found["emissions"]["since"] == "2020-01-01"
    assert found["emissions"]["simulated"]
    assert (found["jobs"], found["waiting"], found["dead_letters"]) == ({"running": 3}, 3, 3)
    assert found["running"] == {"fast": 3, "eco": 0}
    assert found["oldest_wait"]["id"] == "b"
    risk = found["deadline_risk"]
    assert (risk["jobs"], risk["examined"], risk["complete"]) == (2, 4, False)
    assert [each["id"] for each in risk["examples"]] == ["x", "y"]
    assert found["rates"] == {"submitted_per_min": 3.0, "completed_per_min": 1.0}


def test_groups_of_one_name_are_one_and_as_alive_as_the_least() -> None:
    groups = [
        GroupState("a:{0}:jobs", "router", 2, 1, 3, 3),
        GroupState("a:{1}:jobs", "router", 3, 1, 2, 0),
        GroupState("a:{0}:intensity", "router", 1, 0, 1, 1),
        GroupState("a:{1}:intensity", "router", None, 0, 1, 1),
    ]
    assert by_name(groups) == [
        GroupState("jobs", "router", 5, 2, 2, 0),
        GroupState("intensity", "router", None, 0, 1, 1),
    ]


def test_a_worker_that_is_busy_in_two_partitions_is_one() -> None:
    def demand(*busy: str) -> Demand:
        backlog = Backlog(waiting=1, soon=2, pressing=3, pressing_soon=4, pace=5)
        return Demand(backlog, InFlight(jobs=2, workers=len(busy)), frozenset(busy))

    found = together([demand("one", "two"), demand("one")])
    assert found.in_flight == InFlight(jobs=4, workers=2)
    assert found.backlog == Backlog(waiting=2, soon=4, pressing=6, pressing_soon=8, pace=10)


# -- partitions ----------------------------------------------------------------------------------


def test_the_number_of_partitions_is_what_is_on_record() -> None:
    clock = {b"origin_wall": b"1"}
    four = clock | {name.encode(): value.encode() for name, value in fields(4).items()}
    assert (agreed({}, None), agreed({}, 4)) == (1, 4)
    assert (agreed(clock, None), agreed(clock, 1)) == (1, 1)
    assert (agreed(four, None), agreed(four, 4)) == (4, 4)
    with pytest.raises(ConfigError, match="has 1 partition, not 4"):
        agreed(clock, 4)


def test_what_is_limited_for_all_is_shared() -> None:
    pools: dict[Any, PoolConfig] = {"fast": PoolConfig(slots=2, capacity=9)}
    config = complete(Config(pools=pools))
    own = share(config, 4)
    assert own.pools["fast"].capacity == 2
    assert own.pools["fast"].slots == 1
    assert own.limits.max_waiting * 4 == config.limits.max_waiting
    assert msgspec.structs.replace(own, pools=config.pools, limits=config.limits) == config
    assert share(config, 1) is config


@given(st.integers(1, 50), st.integers(1, 8), st.integers(0, 1 << 32))
def test_a_worker_offers_all_its_slots_and_one_at_least(
    slots: int, partitions: int, turn: int
) -> None:
    offered = [part(slots, partitions, number, turn) for number in range(partitions)]
    assert min(offered) >= 1
    assert max(offered) - min(offered) <= 1
    assert sum(offered) == max(slots, partitions)


def test_an_id_ends_in_its_partition_and_an_identity_has_one() -> None:
    assert partition_of(new_job_id(7)) == 7
    assert partition_of("7") is None
    homes = [home_of(4, "key", str(number)) for number in range(400)]
    assert {homes.count(number) > 60 for number in range(4)} == {True}
    assert homes == [home_of(4, "key", str(number)) for number in range(400)]
    # The partition is not told by the rest of the id, nor changes it.
    assert derived_job_id(1, "key", "a")[:-1] == derived_job_id(2, "key", "a")[:-1]


# -- slots ---------------------------------------------------------------------------------------


async def test_who_waits_longest_for_a_slot_has_the_next() -> None:
    slots, served = Slots(1), list[str]()

    async def work(name: str) -> None:
        for _ in range(3):
            assert await slots.some(5) == 1
            served.append(name)
            await asyncio.sleep(0)
            slots.give()

    await asyncio.gather(*(work(name) for name in "abc"))
    assert served == [*"abc" * 3]


async def test_who_has_something_pressing_goes_before_the_others() -> None:
    slots, served = Slots(1), list[str]()
    assert slots.take(1) == 1
    asked = asyncio.Event()

    async def calm() -> bool:
        return False

    async def pressing() -> bool:
        asked.set()
        return True

    async def work(name: str, look: Callable[[], Awaitable[bool]]) -> None:
        assert await slots.some(1, look) == 1
        served.append(name)
        slots.give()

    async with asyncio.TaskGroup() as tasks:
        for name, look in (("first", calm), ("second", calm), ("urgent", pressing)):
            tasks.create_task(work(name, look))
        await asked.wait()
        await asyncio.sleep(0)
        slots.give()
    assert served == ["urgent", "first", "second"]


async def test_who_gives_up_waiting_holds_up_nobody() -> None:
    slots = Slots(1)
    assert slots.take(2) == 1
    gone, next_one = (asyncio.create_task(slots.some(1)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    slots.give()
    assert await asyncio.wait_for(next_one, 1) == 1
    slots.exceed()
    assert slots.free == 0
    slots.give(2)
    assert slots.free == 1


# -- dead letters --------------------------------------------------------------------------------


class Own(Letters):
    """The letters of one partition, in memory."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = sorted(ids, key=entry_order)

    async def first(self, most: int, after: str = "-") -> list[DeadLetter]:
        start = (-1, 0) if after == "-" else entry_order(after)
        left = [each for each in self.ids if entry_order(each) > start]
        return [_letter(each) for each in left[:most]]


def _letter(letter_id: str) -> DeadLetter:
    return DeadLetter(letter_id, "reason", "stream", "1-0", "group", 1, "time", ())


@given(
    st.lists(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))), min_size=2, max_size=4),
    st.integers(1, 4),
)
def test_dead_letters_of_all_partitions_are_paged_in_order(
    ids: list[set[tuple[int, int]]], most: int
) -> None:
    own = [[f"{ms + 1}-{sequence}" for ms, sequence in each] for each in ids]
    letters = EveryLetter({number: Own(each) for number, each in enumerate(own)})

    async def pages() -> list[str]:
        found: list[str] = []
        while page := await letters.first(most, found[-1] if found else "-"):
            found += [each.id for each in page]
        return found

    wanted = [(*entry_order(each), number) for number, some in enumerate(own) for each in some]
    assert asyncio.run(pages()) == [f"{ms}-{sequence}-{n}" for ms, sequence, n in sorted(wanted)]
