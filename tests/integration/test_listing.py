"""Lists of jobs: every filter and order, pages that lose and repeat nothing, bounded work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from deployment import Answer, Deploy, Deployment
from hypothesis import given
from hypothesis import strategies as st

from carbon_orchestrator.clock import rfc3339, wall_ms
from carbon_orchestrator.contract import views
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey
from carbon_orchestrator.gateway.lookup import listing
from carbon_orchestrator.gateway.lookup.cursors import Place, between
from carbon_orchestrator.lifecycle import STATES, TERMINAL
from carbon_orchestrator.submission import new_job_id
from streams.commit import Committer
from streams.connection import connect

BASE = 1_780_000_000_000


async def put(house: Deployment, state: str, at: int, count: int = 1, **spec: Any) -> list[str]:
    """Jobs on record, made without deciding anything."""
    topology, made = house.topology, []
    record = {name: spec.pop(name) for name in ("pool", "plan", "ended_at") if name in spec}
    wake = spec.pop("wake", at) if state == "deferred" else None
    async with house.redis.pipeline(transaction=False) as pipeline:
        for _ in range(count):
            job_id = new_job_id(topology.partition.number)
            whole = {"job_id": job_id, "type": "quick", "submitted_at": at, **spec}
            fields = {"state": state, "spec": msgspec.json.encode(whole), **record}
            pipeline.hset(topology.record(job_id), mapping=fields)
            if state in TERMINAL:
                pipeline.expire(topology.record(job_id), 600)
            pipeline.zadd(topology.index(state), {job_id: at})
            if wake is not None:
                pipeline.zadd(topology.wake, {job_id: wake})
            made.append(job_id)
        await pipeline.execute()
    return made


async def pages(
    house: Deployment, query: str, after: str | None = None, **options: Any
) -> list[list[dict[str, Any]]]:
    """All pages of a list, or those after a cursor."""
    found: list[list[dict[str, Any]]] = []
    while True:
        cursor = f"&cursor={after}" if after is not None else ""
        answer = await house.http("GET", f"/jobs?{query}{cursor}", **options)
        assert answer.status == 200, answer.body
        assert msgspec.to_builtins(msgspec.convert(answer.body, views.JobPage)) == answer.body
        found.append(answer.body["jobs"])
        if answer.body["next"] is None:
            return found
        after = answer.body["next"]
        assert len(found) < 2000, "the pages have no end"


async def listed(house: Deployment, query: str, **options: Any) -> list[str]:
    """The ids of a whole list."""
    return [job["id"] for page in await pages(house, query, **options) for job in page]


def refusal(answer: Answer) -> tuple[str, str]:
    assert answer.status == 422, answer.body
    return answer.body["field"], answer.body["detail"]


async def test_filters_find_what_they_say_and_nothing_else(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    says = {"payload": {"type": "rare", "urgency": "urgent", "project": "p/1"}}
    liars = await put(house, "completed", BASE + 1, 3, ended_at=BASE + 2, **says)
    rare = await put(house, "completed", BASE + 3, type="rare", pool="eco", ended_at=BASE + 9)
    ours = await put(house, "failed", BASE + 4, 2, project="p/1", pool="fast", ended_at=BASE + 9)
    urgent = await put(house, "cancelled", BASE + 5, urgency="urgent", ended_at=BASE + 9)
    for query, expected in (
        ("type=rare", rare),
        ("type=rare,quick", [*urgent, *ours, *rare, *liars]),
        ("type=none", []),
        ("project=p/1", ours),
        ("project=default&urgency=normal", [*rare, *liars]),
        ("urgency=urgent", urgent),
        ("urgency=normal", [*ours, *rare, *liars]),
        ("pool=eco", rare),
        ("pool=eco,fast", [*ours, *rare]),
        ("pool=eco&pool=fast&state=failed", ours),
        ("state=failed,cancelled", [*urgent, *ours]),
        ("type=rare&urgency=urgent", []),
        (f"submitted_from={rfc3339(BASE + 4)}", [*urgent, *ours]),
        (f"submitted_to={rfc3339(BASE + 4)}", [*rare, *liars]),
        (f"submitted_from={rfc3339(BASE + 3)}&submitted_to={rfc3339(BASE + 4)}", rare),
    ):
        for limit in (1, 2, 50):
            found = await listed(house, f"{query}&limit={limit}")
            assert sorted(found) == sorted(expected), (query, limit)
        assert (await listed(house, f"{query}&sort=submitted_at&limit=2")) == found[::-1], query


async def test_the_order_is_total_both_ways_and_by_plan(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    made: list[tuple[int, str]] = []
    for at, state in ((5, "failed"), (3, "completed"), (5, "cancelled"), (4, "rejected")):
        made += [(at, each) for each in await put(house, state, BASE + at, 4, ended_at=BASE + 9)]
    expected = [job_id for _, job_id in sorted(made)]
    for limit in (1, 3, 500):
        assert await listed(house, f"sort=submitted_at&limit={limit}") == expected
        assert await listed(house, f"limit={limit}") == expected[::-1]
    planned = [
        (wake, each)
        for wake in (BASE + 70, BASE + 60, BASE + 80)
        for each in await put(
            house,
            "deferred",
            BASE + 20,
            2,
            wake=wake,
            plan=msgspec.json.encode({"at": BASE, "start": wake, "reason": "r"}),
        )
    ]
    (jobs,) = await pages(house, "sort=planned_start")
    assert [job["id"] for job in jobs] == [job_id for _, job_id in sorted(planned)]
    assert [job["planned_start"] for job in jobs] == sorted(job["planned_start"] for job in jobs)
    by_ones = await listed(house, "sort=planned_start&state=deferred&limit=1")
    assert by_ones == [job_id for _, job_id in sorted(planned)]


async def test_pages_stay_whole_though_jobs_come_and_change(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    made = [each for at in range(30) for each in await put(house, "deferred", BASE + at)]
    first = (await house.http("GET", "/jobs?limit=10")).body
    await put(house, "deferred", BASE + 100, 5)
    for job_id, at in ((made[25], 25), (made[7], 7)):  # one that was shown, and one that was not
        await house.redis.hset(house.topology.record(job_id), "state", "dispatched")
        await house.redis.zrem(house.topology.index("deferred"), job_id)
        await house.redis.zrem(house.topology.wake, job_id)
        await house.redis.zadd(house.topology.index("dispatched"), {job_id: BASE + at})
    rest = await listed(house, "limit=10", after=first["next"])
    assert [*(each["id"] for each in first["jobs"]), *rest] == made[::-1]


async def test_a_search_is_bounded_and_goes_on(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = deploy()
    await house.gateway()
    await put(house, "deferred", BASE, 700)  # all of one ms
    (rare,) = await put(house, "deferred", BASE - 1, type="rare")
    await put(house, "deferred", BASE - 2, 300)
    monkeypatch.setattr(listing, "_PATIENCE", 0)
    monkeypatch.setattr(listing, "_SLICE_MS", 0)
    found = await pages(house, "type=rare&limit=5")
    assert [job["id"] for page in found for job in page] == [rare]
    assert len(found) > 50, "one request looked at more than a slice"
    assert max(map(len, found)) == 1
    assert len(await listed(house, "type=quick&limit=100")) == 1000


async def test_a_cursor_is_of_one_list_and_tells_nothing_of_others(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for at in range(3):
        await put(house, "deferred", BASE + at, 2)
    cursor = (await house.http("GET", "/jobs?limit=2")).body["next"]
    assert (await house.http("GET", f"/jobs?limit=4&cursor={cursor}")).status == 200
    for query in ("state=deferred", "sort=submitted_at", "type=quick"):
        field, detail = refusal(await house.http("GET", f"/jobs?{query}&cursor={cursor}"))
        assert (field, "other filters" in detail) == ("cursor", True)
    same = "state=deferred,failed&limit=1", "limit=3&state=failed&state=deferred"
    cursor = (await house.http("GET", f"/jobs?{same[0]}")).body["next"]
    assert (await house.http("GET", f"/jobs?{same[1]}&cursor={cursor}")).status == 200
    for wrong in ("", "!", "bm9uZQ", "A" * 300, "%00", "é"):
        field, _ = refusal(await house.http("GET", f"/jobs?cursor={wrong}"))
        assert field == "cursor"


async def test_what_is_wrong_with_a_query_is_said_with_its_field(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for query, field, says in (
        ("state=lost", "state", "submitted, deferred"),
        ("pool=slow", "pool", "fast, eco"),
        ("urgency=asap", "urgency", "urgent, normal, flexible"),
        ("sort=id", "sort", "-submitted_at"),
        ("sort=planned_start&state=failed", "sort", "state=deferred"),
        ("sort=planned_start&submitted_to=2026-01-01", "submitted_to", "sorted by submitted_at"),
        ("submitted_from=yesterday", "submitted_from", "no"),
        ("limit=0", "limit", "500"),
        ("limit=-1", "limit", "500"),
        ("limit=1&limit=2", "limit", "once"),
        ("stat=failed", "stat", "did you mean state?"),
        ("zzz=1", "zzz", "there are state"),
        ("type=" + ",".join(map(str, range(101))), "type", "at most 100"),
    ):
        found, detail = refusal(await house.http("GET", f"/jobs?{query}"))
        assert (found, says in detail) == (field, True), (query, detail)


async def test_started_and_finished_are_told_of_the_latest_attempt(deploy: Deploy) -> None:
    house = deploy()
    await house.all()
    done = await house.post("quick", urgency="urgent")
    await house.reach(done, "completed")
    held = await house.post("hold", urgency="urgent")
    await house.reach(held, "running")
    by_id = {job["id"]: job for page in await pages(house, "") for job in page}
    whole = await house.job(done)
    times = {step["event"]: step["at"] for step in whole["timeline"]}
    for job in (by_id[done], whole):
        assert job["started_at"] == times["started"]
        assert job["finished_at"] == times["completed"]
    assert by_id[held]["started_at"] is not None
    assert by_id[held]["finished_at"] is None
    house.release()


async def test_a_line_says_what_the_job_says_in_every_state(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    plan = {"at": BASE, "start": BASE + 60_000, "pool": "eco", "reason": "greener later"}
    ended = {"reason": "broke", "ended_at": BASE + 9}
    tried = {"pool": "fast", "energy_mj": 7, "emissions_ug": 8}
    made: list[str] = []
    for state in STATES:
        for attempt in (0, 2):
            [job_id] = await put(house, state, BASE)
            fields: dict[str, Any] = dict(ended) if state in TERMINAL else {}
            if state == "deferred":
                fields["plan"] = msgspec.json.encode(plan)
            if attempt:
                fields |= {**tried, "attempt": attempt}
                fields["2.started"] = msgspec.json.encode({"at": BASE + 5, "worker": "w"})
            if fields:
                await house.redis.hset(house.topology.record(job_id), mapping=fields)
            made.append(job_id)
    [lines] = await pages(house, "limit=500")
    assert sorted(line["id"] for line in lines) == sorted(made)
    for line in lines:
        whole = await house.job(line["id"])
        line.pop("progress", None)
        assert line == {name: whole[name] for name in line}
        if line["attempts"]:
            assert (line["pool"], line["energy_mj"], line["emissions_ug"]) == ("fast", 7, 8)
            assert line["started_at"] == rfc3339(BASE + 5)
        if line["state"] in TERMINAL:
            assert (line["reason"], line["finished_at"]) == ("broke", rfc3339(BASE + 9))


async def test_what_is_gone_takes_no_room_on_a_page(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    jobs = await put(house, "completed", BASE, 6, ended_at=BASE + 9)
    await house.redis.delete(*(house.topology.record(each) for each in jobs[::2]))
    answer = await house.http("GET", "/jobs?limit=3")
    assert sorted(job["id"] for job in answer.body["jobs"]) == sorted(jobs[1::2])


async def test_a_cancelled_job_stays_where_it_was_submitted(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    jobs = [await house.post("quick") for _ in range(3)]
    score = await house.redis.zscore(house.topology.index("submitted"), jobs[1])
    assert (await house.http("DELETE", f"/jobs/{jobs[0]}")).status == 202
    house.router()
    await house.reach(jobs[0], "cancelled")
    await house.reach(jobs[1], "dispatched")
    assert (await house.http("DELETE", f"/jobs/{jobs[1]}")).status == 202
    await house.reach(jobs[1], "cancelled")
    assert await house.redis.zscore(house.topology.index("cancelled"), jobs[1]) == score
    assert await listed(house, "limit=2") == jobs[::-1]


_places = st.tuples(st.integers(0, 3), st.text("0a-z", min_size=1, max_size=4))


@given(st.lists(_places, min_size=2, unique=True, max_size=9), st.booleans())
def test_between_two_places_lies_one_that_hides_them(
    unordered: list[Place], descending: bool
) -> None:
    ordered = sorted(unordered, reverse=descending)
    for at in range(1, len(ordered)):
        cursor = between(ordered[at - 1], ordered[at], descending=descending)
        behind = [each for each in ordered if (each < cursor if descending else each > cursor)]
        assert behind == ordered[at:]


async def test_a_bound_key_may_name_its_project_and_no_other(deploy: Deploy) -> None:
    house = deploy()
    (own,) = await put(house, "failed", BASE, project="m")
    await put(house, "failed", BASE, 3, project="t")
    key = ApiKey(name="ci", scopes=("read",), sha256="", created=wall_ms(), project="m")
    async with connect(house.url) as client:
        committer = Committer(client, house.topology.partition)
        text = await create_key(committer, house.topology, "ada@lab", key)
    await house.gateway(require_keys=True)
    headers = {"Authorization": f"Bearer {text}"}
    for query in ("", "project=m", "state=failed&sort=submitted_at"):
        assert await listed(house, query, headers=headers) == [own]
    other = await house.http("GET", "/jobs?project=t", headers=headers)
    assert refusal(other) == ("project", "this API key is bound to the project m")
