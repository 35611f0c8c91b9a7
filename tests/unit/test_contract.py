"""The contract is what the gateway does: made from it, kept, and found different when it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carbon_orchestrator.contract import openapi
from carbon_orchestrator.contract.documents import DOCUMENTS, Name, kept, text
from carbon_orchestrator.contract.views import NewJob
from carbon_orchestrator.gateway.door.keys import SCOPES
from carbon_orchestrator.gateway.intake.strict import FIELDS
from carbon_orchestrator.gateway.routes import ROUTES

DOCUMENT = openapi.document()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_kept_document_is_the_made_one(name: Name) -> None:
    there = kept(name).relative_to(Path.cwd())
    assert kept(name).read_text() == text(name), (
        f"make it anew: carbon-orchestrator contract {name} --write {there}"
    )


def test_a_submission_has_the_fields_that_are_taken() -> None:
    assert set(NewJob.__struct_fields__) == set(FIELDS)


def operations() -> dict[str, dict[str, Any]]:
    return {
        each["operationId"]: each for path in DOCUMENT["paths"].values() for each in path.values()
    }


def test_every_route_is_described_with_what_it_asks_of_callers() -> None:
    assert set(operations()) == {each.operation for each in ROUTES}
    for route in ROUTES:
        shown = DOCUMENT["paths"][route.path][route.method.lower()]
        assert shown["operationId"] == route.operation
        named = {scope for way in shown["security"] for scopes in way.values() for scope in scopes}
        assert named == set(route.scopes) <= set(SCOPES)
        guarded = {"401", "403", "429"}
        assert guarded & set(shown["responses"]) == (guarded if route.scopes else set())


def test_it_is_an_openapi_document_whose_references_lead_somewhere() -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, list):
            return [found for each in value for found in references(each)]
        if not isinstance(value, dict):
            return []
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for each in value.values() for found in references(each)]

    assert DOCUMENT["openapi"].startswith("3.1")
    schemas = DOCUMENT["components"]["schemas"]
    found = references(DOCUMENT)
    assert found
    assert {each.removeprefix("#/components/schemas/") for each in found} <= set(schemas)
    rules = pytest.importorskip("jsonschema_rs", reason="comes with the extra fuzz").meta
    for schema in schemas.values():
        rules.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
