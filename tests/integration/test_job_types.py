"""What may be submitted, over HTTP."""

from __future__ import annotations

from deployment import Deploy
from test_views import exactly

from carbon_orchestrator.config import JobType
from carbon_orchestrator.contract import house_views


async def test_the_types_are_told_with_what_they_do_but_not_how(deploy: Deploy) -> None:
    house = deploy(types={"sum": JobType(command=["secret-program"], description="adds up")})
    await house.gateway()
    answer = await house.http("GET", "/types")
    exactly(answer.body, house_views.JobTypes)
    types = {each["name"]: each["description"] for each in answer.body["types"]}
    assert types["sum"] == "adds up"
    assert list(types) == sorted(types)
    assert "secret-program" not in str(answer.body)
    for name in types:
        asked = await house.http("POST", "/jobs?dry_run=true", json={"type": name})
        assert asked.status == 200, asked.body
