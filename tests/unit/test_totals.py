"""Sums are exact in any order, and every event counts once."""

from __future__ import annotations

import csv
import io
import random
import uuid
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbon_orchestrator.accounting.report import Row, report, to_csv
from carbon_orchestrator.accounting.totals import (
    EVER,
    METHOD,
    METRICS,
    SOURCE,
    account,
    burnt,
    changed,
    days,
    ended,
)
from carbon_orchestrator.clock import day
from carbon_orchestrator.events import (
    Change,
    EmissionsRecorded,
    EmissionsSettled,
    Finish,
    JobCompleted,
    JobFailed,
    JobStarted,
    JobSuspended,
)
from carbon_orchestrator.run_times import Learned, bucket
from carbon_orchestrator.topology import Topology
from streams.commit import Committer, Transaction
from streams.connection import connect
from streams.keys import Partition

DAY = 86_400_000
START = 1_590_969_600_000  # 2020-06-01
DAYS = [day(START + n * DAY) for n in range(4)]
SERVER = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
amounts = st.integers(0, 10**12)
common: dict[str, Any] = {
    "job_id": st.just("x"),
    "attempt": st.integers(1, 3),
    "at": st.integers(START, START + 3 * DAY),
    "started_at": st.integers(START, START + 3 * DAY),
    "pool": st.sampled_from(["fast", "eco"]),
    "type": st.sampled_from(["a", "b"]),
    "project": st.sampled_from(["p", "q/r.s@t-u"]),
}
finish: dict[str, Any] = {
    **common,
    "run_ms": st.integers(0, 10**9),
    "urgency": st.just("normal"),
    "submitted_at": st.integers(START, START + DAY),
    "deadline": st.none() | st.integers(START, START + 3 * DAY),
}
completions = st.builds(JobCompleted, **finish) | st.builds(
    JobCompleted,
    **finish,
    segments=st.integers(2, 4),
    total_run_ms=st.none() | st.integers(10**9, 10**10),
)
suspensions = st.builds(JobSuspended, **finish, resume_at=st.just(START), reason=st.just("r"))
failures = st.builds(
    JobFailed, **finish, error=st.just("e"), final=st.booleans(), cancelled=st.booleans()
)
emissions = st.builds(
    EmissionsRecorded,
    **common,
    zone=st.none() | st.just("DE"),
    energy_mj=amounts,
    energy_method=st.sampled_from(["m", "m+n", "odd|name"]),
    energy_uncertainty=st.sampled_from([0.05, 0.5]),
    outcome=st.sampled_from(["completed", "suspended", "failed", "lost"]),
    embodied_ug=amounts,
    intensity_source=st.none() | st.sampled_from(["s", "a|b"]),
    intensity_kind=st.sampled_from(["average", "marginal"]),
    estimated=st.booleans(),
    simulated=st.booleans(),
    emissions_ug=amounts,
    baseline_ug=amounts,
    unpriced_mj=amounts,
)
differences = st.integers(-(10**12), 10**12)
changes = st.builds(
    Change,
    day=st.sampled_from(DAYS),
    project=common["project"],
    type=common["type"],
    pool=common["pool"],
    zone=st.just("DE"),
    attempts=st.integers(1, 9),
    emissions_ug=differences,
    baseline_ug=differences,
    unpriced_mj=differences,
    bound_ug=amounts,
    bounded_ug=amounts,
    bounded_baseline_ug=amounts,
    bounded=st.integers(0, 9),
)
settlements = st.builds(
    EmissionsSettled,
    emissions_id=st.just("1-0"),
    intensity_id=st.just("1-0"),
    until=st.just(1),
    previous=st.just(("0-0", "0-0", 0)),
    restated=st.lists(changes, max_size=3),
    bounded=st.lists(changes, max_size=3),
)
started = st.just(JobStarted(job_id="x", attempt=1, at=START, pool="fast", worker="w"))
events = st.lists(
    completions | suspensions | failures | emissions | settlements | started, max_size=30
)


def parts(event: Any) -> list[tuple[str, list[tuple[str, int]]]]:
    """By day, the amounts that an event counts for."""
    if isinstance(event, Finish):
        return [(day(event.at), list(ended(event)))]
    if isinstance(event, EmissionsRecorded):
        return [(day(event.at), list(burnt(event)))]
    if isinstance(event, EmissionsSettled):
        restated = [(row.day, list(changed(row, bounded=False))) for row in event.restated]
        return restated + [(row.day, list(changed(row, bounded=True))) for row in event.bounded]
    return []


def expected(all_events: list[Any], of_day: str = "") -> dict[str, int]:
    sums: Counter[str] = Counter()
    for event in all_events:
        for one_day, found in parts(event):
            if of_day in ("", one_day):
                for name, amount in found:
                    sums[name] += amount
    return nonzero(sums)


def nonzero(sums: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in sums.items() if amount}


def whole(rows: list[Row]) -> dict[str, int]:
    """The sums of all rows, those by method and source among them."""
    sums: Counter[str] = Counter()
    for row in rows:
        for prefix, found in (("", row.sums), (METHOD, row.methods), (SOURCE, row.sources)):
            for name, amount in found.items():
                sums[prefix + name] += amount
    return nonzero(sums)


def taught(all_events: list[Any], kind: str) -> Learned:
    """What ECO's runs of a type teach: only whole runs count for the length of one."""
    counts: Counter[int] = Counter()
    energy = run = 0
    for event in all_events:
        if isinstance(event, JobStarted | EmissionsSettled) or (event.type, event.pool) != (
            kind,
            "eco",
        ):
            continue
        if isinstance(event, EmissionsRecorded):
            energy += event.energy_mj
            continue
        run += event.run_ms
        if isinstance(event, JobCompleted):
            whole = event.run_ms if event.segments == 1 else event.total_run_ms
            counts.update([] if whole is None else [bucket(whole)])
    return Learned(dict(counts), energy, run)


@SERVER
@given(events, st.randoms(use_true_random=False), st.integers(1, 5))
async def test_any_order_batching_and_repetition_gives_the_sum_of_the_parts(
    server_url: str, all_events: list[Any], chance: random.Random, batches: int
) -> None:
    """Entries of a stream hold up to four events each and are delivered up to three times."""
    topology = Topology(Partition(f"t{uuid.uuid4().hex[:8]}"))
    redis = connect(server_url)
    committer = Committer(connect(server_url), topology.partition)
    stream, entries = topology.completions, []
    try:
        await redis.execute_command("XGROUP", "CREATE", stream, "g", "0", "MKSTREAM")
        left = chance.sample(all_events, len(all_events))
        while left:
            size = chance.randint(1, 4)
            batch, left = left[:size], left[size:]
            entry_id = (await redis.xadd(stream, {"a": "b"})).decode()
            entries += [(entry_id, batch)] * chance.randint(1, 3)
        if all_events:
            await redis.execute_command("XREADGROUP", "GROUP", "g", "c", "STREAMS", stream, ">")
        chance.shuffle(entries)
        for number in range(batches):
            done = []
            for entry_id, batch in entries[number::batches]:
                change = Transaction().require_ack(stream, "g", entry_id)
                account(change, topology, batch, "here")
                done.append(change)
            await committer.commit(done)
        hashes = {name: await redis.hgetall(topology.totals(name)) for name in DAYS}  # type: ignore[misc]
        assert whole(report(hashes, ())) == expected(all_events)
        for by in (("day",), ("project",), ("type", "pool"), ("day", "zone", "project")):
            assert whole(report(hashes, by)) == expected(all_events), by
        for kind in ("a", "b"):
            fields = await redis.hgetall(topology.durations(kind, "eco"))  # type: ignore[misc]
            assert Learned.parse(fields) == taught(all_events, kind)
        for row in report(hashes, ("day",)):
            assert whole([row]) == expected(all_events, row.group["day"])
        ever: Counter[str] = Counter()
        for field, value in (await redis.hgetall(topology.ever)).items():  # type: ignore[misc]
            ever[field.decode().split("|")[0]] += int(value)
        assert nonzero(ever) == {
            name: amount for name, amount in expected(all_events).items() if name in EVER
        }
        dated = {name for each in all_events for name in days(each)}
        assert {each.decode() for each in await redis.zrange(topology.days, 0, -1)} == dated
    finally:
        await redis.unlink(stream, *[k async for k in redis.scan_iter(topology.partition.key("*"))])
        await redis.aclose()
        await committer.aclose()


@given(completions | suspensions | failures)
def test_each_end_is_one_attempt_and_at_most_one_outcome(event: Finish) -> None:
    counts = dict(ended(event))
    assert counts.keys() <= METRICS.keys()
    assert counts["attempts"] == 1
    outcomes = [counts.get(name, 0) for name in ("completed", "failed", "cancelled")]
    assert sum(outcomes) + counts.get("suspended", 0) <= 1
    met, missed = counts.get("deadlines_met", 0), counts.get("deadlines_missed", 0)
    assert met + missed <= 1
    if event.deadline is None:
        assert not met + missed
    if isinstance(event, JobCompleted):
        assert outcomes == [1, 0, 0]
        assert (met == 1) == (event.deadline is not None and event.at <= event.deadline)


def test_avoided_is_baseline_less_emitted_and_may_be_negative() -> None:
    (row,) = report(
        {"2020-06-01": {b"baseline_ug|p|a|fast|DE": b"3", b"emissions_ug|p|a|fast|DE": b"5"}},
        ("zone",),
    )
    assert (row.group, row.avoided_ug) == ({"zone": "DE"}, -2)


def test_what_follows_from_the_sums() -> None:
    sums = {
        "emissions_ug": 600,
        "restated_ug": -100,
        "baseline_ug": 1000,
        "baseline_restated_ug": 50,
        "embodied_ug": 20,
        "completed": 2,
        "failed": 1,
        "wait_ms": 7000,
        "energy_mj": 1000,
        "uncertain_mj": 300,
        "bounded_baseline_ug": 900,
        "bounded_ug": 500,
        "bound_ug": 400,
        "method:rapl": 1000,
        "source:s, average": 600,
    }
    fields = {f"{name}|p|a|fast|DE".encode(): b"%d" % each for name, each in sums.items()}
    (row,) = report({"2020-06-01": fields}, ())
    assert row.derived() == {
        "jobs": 3,
        "avoided_ug": 400,
        "emitted_now_ug": 500,
        "baseline_now_ug": 1050,
        "avoided_now_ug": 550,
        "share_reached": 0.8,
        "mean_wait_ms": 3500,
        "sci_ug": 260,
        "uncertainty": 0.3,
        "methods": {"rapl": 1000},
        "sources": {"s, average": 600},
    }


def test_nothing_is_said_of_what_is_not_known() -> None:
    (row,) = report({"2020-06-01": {b"attempts|p|a|fast|DE": b"1"}}, ())
    derived = row.derived()
    for name in ("share_reached", "mean_wait_ms", "sci_ug", "uncertainty"):
        assert derived[name] is None
    (line,) = list(csv.DictReader(io.StringIO(to_csv([row], ()))))
    assert (line["attempts"], line["sci_ug"]) == ("1", "")


@given(st.lists(st.sampled_from(["=1+1", "@x", "-y", "+z", 'a,"b"', "plain"]), min_size=1))
def test_a_spreadsheet_takes_no_name_for_a_formula(names: list[str]) -> None:
    rows = [Row({"project": name}, dict.fromkeys(METRICS, -5)) for name in names]
    read = list(csv.DictReader(io.StringIO(to_csv(rows, ("project",)))))
    assert [each["project"].lstrip("'") for each in read] == names
    for each in read:
        assert each["project"][0] not in "=+-@"
        assert each["energy_mj"] == "-5"  # a number is none
