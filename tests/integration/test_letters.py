"""Dead letters over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from deployment import Deploy, Deployment
from test_api_keys import Keys, kind
from test_operations import bury
from test_views import exactly

from carbon_orchestrator.contract import house_views, views
from carbon_orchestrator.gateway.deployment import letters as office
from streams.testing import until


@pytest.fixture
async def house(deploy: Deploy) -> Deployment:
    house = deploy()
    await house.gateway()
    return house


async def act(house: Deployment, what: str, **body: Any) -> dict[str, Any]:
    answer = await house.http("POST", f"/dead-letters/{what}", json=body)
    assert answer.status == 200, answer.body
    exactly(answer.body, house_views.LetterOutcomes)
    return dict(answer.body)


async def listed(house: Deployment, query: str = "") -> dict[str, Any]:
    answer = await house.http("GET", f"/dead-letters{query}")
    assert answer.status == 200, answer.body
    exactly(answer.body, house_views.LetterPage)
    return dict(answer.body)


async def test_they_are_seen_by_the_group_and_each(house: Deployment) -> None:
    first = await bury(house, "line 1 is wrong")
    second = await bury(house, "line 22 is wrong")
    other = await bury(house, "broken", "completions")
    seen = await listed(house)
    assert (seen["total"], seen["grouped"], seen["more"]) == (3, 3, False)
    assert [(each["stream"], each["reason"], each["count"]) for each in seen["groups"]] == [
        ("jobs", "line … is wrong", 2),
        ("completions", "broken", 1),
    ]
    assert seen["groups"][0]["example"] == second
    assert seen["groups"][0]["oldest"] <= seen["groups"][0]["newest"]
    assert [each["id"] for each in seen["letters"]] == [first, second, other]
    page = await listed(house, "?limit=1")
    assert ([each["id"] for each in page["letters"]], page["more"]) == ([first], True)
    page = await listed(house, f"?limit=2&after={first}")
    assert ([each["id"] for each in page["letters"]], page["more"]) == ([second, other], False)
    shown = await house.http("GET", f"/dead-letters/{first}")
    exactly(shown.body, house_views.Letter)
    assert shown.body["fields"] == [["type", "job.submitted"], ["data", '{"type": "quick"}']]
    for none in ("1-1", "none", f"{1 << 64}-0"):
        assert (await house.http("GET", f"/dead-letters/{none}")).status == 404, none
    wrong = await house.http("GET", "/dead-letters/retry")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "OPTIONS,POST")


async def test_a_group_is_retried_and_ids_are_dropped(house: Deployment) -> None:
    for number in range(3):
        await bury(house, f"line {number} is wrong")
    kept = await bury(house, "another")
    done = await act(house, "retry", stream="jobs", kind="line … is wrong")
    assert (done["done"], done["more"]) == (3, False)
    assert await house.redis.xlen(house.topology.jobs) == 3
    done = await act(house, "drop", ids=[kept, kept, "1-1"])
    assert done["outcomes"] == [
        {"id": kept, "outcome": "dropped"},
        {"id": "1-1", "outcome": "no such dead letter"},
    ]
    assert done["done"] == 1
    assert await house.redis.xlen(house.topology.dead_letters) == 0
    events = await house.events(house.topology.operations)
    acts = [(each.who, each.action) for each in events if each.event_type == "operator.acted"]
    assert acts == [("loopback", "dead-letter.retry")] * 3 + [("loopback", "dead-letter.drop")]


async def test_a_retried_entry_is_worked_on(house: Deployment) -> None:
    house.router()
    house.worker("fast")
    house.worker("eco")
    letter = await bury(house, "no router knew how")
    assert (await act(house, "retry", ids=[letter]))["done"] == 1
    await house.counted("completed", 1)


async def test_nothing_is_put_back_where_the_gateway_does_not_write(house: Deployment) -> None:
    results = await bury(house, "odd", "completions")
    forged = await bury(house, "forged", "seals")
    done = await act(house, "retry", ids=[results, forged])
    assert done["done"] == 0
    assert "dead-letters retry` alone" in done["outcomes"][0]["outcome"]
    assert "no stream of ours" in done["outcomes"][1]["outcome"]
    assert (await listed(house))["total"] == 2
    assert not await house.redis.exists(house.topology.completions)


async def test_a_large_group_takes_several_requests(
    house: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(office, "MOST_DONE", 2)
    for number in range(4):
        await bury(house, f"line {number}")
    await bury(house, "another")
    choice = {"stream": "jobs", "kind": "line …"}
    for more in (True, False):
        done = await act(house, "drop", **choice)
        assert (done["done"], done["more"]) == (2, more)
    assert (await listed(house))["total"] == 1


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b'{"ids": [], "ids": []}', 400, None),
        (b"{}", 422, "ids"),
        (b'{"ids": []}', 422, "ids"),
        (b'{"ids": ["1-1", "x"]}', 422, "ids.1"),
        (b'{"ids": ["1-1", 1]}', 422, "ids[1]"),
        (b'{"ids": ["1-1"], "stream": "jobs"}', 422, "ids"),
        (b'{"stream": "jobs"}', 422, "ids"),
        (b'{"idz": ["1-1"]}', 422, "idz"),
    ],
)
async def test_a_choice_that_is_none_is_refused(
    house: Deployment, body: bytes, status: int, field: str | None
) -> None:
    letter = await bury(house, "a reason")
    headers = {"Content-Type": "application/json"}
    answer = await house.http("POST", "/dead-letters/drop", data=body, headers=headers)
    exactly(answer.body, views.Problem)
    assert (answer.status, answer.body.get("field")) == (status, field), answer.body
    assert (await listed(house))["letters"][0]["id"] == letter
    assert (await house.http("GET", "/dead-letters?limit=0")).body["field"] == "limit"
    assert (await house.http("GET", "/dead-letters?after=x")).body["field"] == "after"
    plain = await house.http("POST", "/dead-letters/drop", data=b"{}")
    assert plain.status == 415


async def test_who_may_see_and_who_may_act(deploy: Deploy) -> None:
    house = deploy()
    keys = Keys(house)
    read, operate = await keys.make("read"), await keys.make("operate")
    bound = await keys.make("admin", project="forecasts")
    await house.gateway(require_keys=True)
    letter = await bury(house, "a reason")
    for key, status in ((read, 200), (operate, 200), (bound, 403)):
        for path in ("/dead-letters", f"/dead-letters/{letter}", "/overview", "/pools"):
            assert (await keys.http(key, "GET", path)).status == status, path
    for key, told in ((read, "scope-missing"), (bound, "project-bound")):
        body = {"ids": [letter]}
        assert kind(await keys.http(key, "POST", "/dead-letters/drop", json=body)) == told
    done = await keys.http(operate, "POST", "/dead-letters/drop", json={"ids": [letter]})
    assert done.body["done"] == 1
    events = await until(lambda: house.events(house.topology.operations)) or []
    assert [each.who for each in events if each.action == "dead-letter.drop"] == ["ci"]
