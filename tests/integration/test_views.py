"""Every answer has exactly the fields that the contract says."""

from __future__ import annotations

from typing import Any

import msgspec
from deployment import HIGH, Deploy, Deployment

from carbon_orchestrator.contract import views
from carbon_orchestrator.lifecycle import State


def exactly(body: Any, view: type[msgspec.Struct]) -> None:
    """The body is one of these, and there is nothing in it that the view does not know."""
    assert msgspec.to_builtins(msgspec.convert(body, view)) == body


async def shown(house: Deployment, job_id: str, state: State) -> None:
    await house.reach(job_id, state)
    exactly(await house.job(job_id), views.Job)


async def test_answers_are_what_the_contract_says(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    exactly((await house.http("GET", "/carbon")).body, views.Carbon)
    exactly((await house.http("GET", "/health")).body, views.Health)
    head = await house.http("POST", "/jobs", json={"type": "quick"})
    exactly(head.body, views.JobHead)
    await shown(house, head.body["id"], "submitted")
    house.router()
    house.accounting()
    house.worker("fast")
    house.worker("eco")
    await shown(house, await house.post("broken", urgency="urgent", max_attempts=2), "failed")
    await shown(house, await house.post("quick", urgency="urgent", labels={"a": "b"}), "completed")
    held = await house.post("hold", urgency="urgent")
    await shown(house, held, "running")
    await house.intensity(HIGH, forecast=[], forecast_source="test")
    await house.routing()
    waiting = await house.post("quick", urgency="flexible", deadline="6h")
    await shown(house, waiting, "deferred")
    cancelled = await house.http("DELETE", f"/jobs/{waiting}")
    exactly(cancelled.body, views.Job)
    await shown(house, waiting, "cancelled")
    house.release()
    await shown(house, held, "completed")
    await house.publish({"type": "quick", "deadline": "2001-01-01T00:00:00Z"})
    (rejected,) = await house.counted("rejected", 1)
    await shown(house, rejected, "rejected")
    await house.settled()
    for path, view in (
        ("/", views.Index),
        ("/livez", views.Status),
        ("/readyz", views.Status),
        ("/health", views.Health),
        ("/carbon", views.Carbon),
        ("/jobs", views.JobPage),
        ("/jobs?limit=1", views.JobPage),
        ("/emissions?by=day,project,type,pool,zone", views.Totals),
        ("/jobs?limit=0", views.Problem),
        ("/jobs/none", views.Problem),
    ):
        exactly((await house.http("GET", path)).body, view)
    served = (await house.http("GET", "/openapi.json")).body
    assert served["openapi"].startswith("3.1")
