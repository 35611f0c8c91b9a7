"""Sums are exact in any order, and every event counts once."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carbon_orchestrator.accounting.totals import METRICS, account, burnt, ended, report
from carbon_orchestrator.clock import day
from carbon_orchestrator.events import (
    EmissionsRecorded,
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
SERVER = settings(
    max_examples=25,
    deadline=None,
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
    energy_method=st.just("m"),
    energy_uncertainty=st.just(0.5),
    emissions_ug=amounts,
    baseline_ug=amounts,
    unpriced_mj=amounts,
)
started = st.just(JobStarted(job_id="x", attempt=1, at=START, pool="fast", worker="w"))
events = st.lists(completions | suspensions | failures | emissions | started, max_size=30)


def expected(all_events: list[Any]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for event in all_events:
        if isinstance(event, Finish):
            sums.update(dict(ended(event)))
        elif isinstance(event, EmissionsRecorded):
            sums.update(dict(burnt(event)))
    return +sums


def taught(all_events: list[Any], kind: str) -> Learned:
    """What ECO's runs of a type teach: only whole runs count for the length of one."""
    counts: Counter[int] = Counter()
    energy = run = 0
    for event in all_events:
        if isinstance(event, JobStarted) or (event.type, event.pool) != (kind, "eco"):
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
    """Each event is an entry of a stream, delivered up to three times."""
    topology = Topology(Partition(f"t{uuid.uuid4().hex[:8]}"))
    redis = connect(server_url)
    committer = Committer(connect(server_url), topology.partition)
    stream, entries = topology.completions, []
    try:
        await redis.execute_command("XGROUP", "CREATE", stream, "g", "0", "MKSTREAM")
        for event in all_events:
            entry_id = (await redis.xadd(stream, {"a": "b"})).decode()
            entries += [(entry_id, event)] * chance.randint(1, 3)
        if all_events:
            await redis.execute_command("XREADGROUP", "GROUP", "g", "c", "STREAMS", stream, ">")
        chance.shuffle(entries)
        for number in range(batches):
            changes = []
            for entry_id, event in entries[number::batches]:
                change = Transaction().require_ack(stream, "g", entry_id)
                account(change, topology, event, "here")
                changes.append(change)
            await committer.commit(changes)
        days = {
            name: await redis.hgetall(topology.totals(name))  # type: ignore[misc]
            for name in (day(START + n * DAY) for n in range(4))
        }
        (whole,) = report(days, ()) or [None]
        sums = Counter(whole.sums) if whole is not None else Counter()
        assert +sums == expected(all_events)
        for by in (("day",), ("project",), ("type", "pool"), ("day", "zone", "project")):
            parts: Counter[str] = Counter()
            for row in report(days, by):
                parts.update(row.sums)
            assert +parts == +sums, by
        for kind in ("a", "b"):
            fields = await redis.hgetall(topology.durations(kind, "eco"))  # type: ignore[misc]
            assert Learned.parse(fields) == taught(all_events, kind)
        for row in report(days, ("day",)):
            of_day = [each for each in all_events if day(each.at) == row.group["day"]]
            assert +Counter(row.sums) == expected(of_day)
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
