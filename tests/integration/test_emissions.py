"""Energy and emissions over HTTP: every figure, with what it rests on, as JSON, CSV, metrics."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from deployment import HIGH, LOW, MEDIUM, Deploy, Deployment
from prometheus_client.parser import text_string_to_metric_families

from carbon_orchestrator.accounting import settling
from carbon_orchestrator.accounting.report import DERIVED
from carbon_orchestrator.accounting.totals import METRICS
from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import PowerModel
from carbon_orchestrator.events import EmissionsRecorded
from streams.testing import until

POWER = PowerModel(embodied_kg=1000, lifetime="10000h")


async def attempts(house: Deployment) -> list[EmissionsRecorded]:
    events = await house.events(house.topology.emissions)
    return [each for each in events if isinstance(each, EmissionsRecorded)]


async def served(deploy: Deploy) -> Deployment:
    """A deployment that has run a job and failed another."""
    house = deploy(power=POWER)
    await house.all()
    await house.intensity(MEDIUM, wall_ms() - 60_000)
    await house.routing()
    for kind in ("burn", "broken"):
        job_id = await house.post(kind, urgency="urgent", project="p", max_attempts=1)
        await house.reach(job_id, "completed" if kind == "burn" else "failed")

    async def counted() -> bool:
        rows = (await house.http("GET", "/emissions?by=")).body["rows"]
        burnt = sum(each.energy_mj for each in await attempts(house))
        return bool(rows) and rows[0]["jobs"] == 2 and rows[0]["energy_mj"] == burnt > 0

    await until(counted)
    return house


async def test_a_report_says_all_it_knows_and_how(deploy: Deploy) -> None:
    house = await served(deploy)
    answer = (await house.http("GET", "/emissions?by=project,zone")).body
    (row,) = answer["rows"]
    assert row.keys() == {"project", "zone", *METRICS, *DERIVED}
    assert answer["metrics"].keys() == {*METRICS, *DERIVED}
    assert "Baseline" in answer["method"]
    assert (row["jobs"], row["completed"], row["failed"]) == (2, 1, 1)
    assert row["methods"] == {next(iter(row["methods"])): row["energy_mj"]}
    assert row["sources"] == {"script, average": row["emissions_ug"]}
    assert 0 < row["uncertainty"] < 1
    ended = await attempts(house)
    assert row["wasted_mj"] == sum(each.energy_mj for each in ended if each.outcome == "failed")
    assert row["embodied_ug"] == sum(each.embodied_ug for each in ended) > 0
    assert row["sci_ug"] == row["emitted_now_ug"] + row["embodied_ug"]
    for each in ended:
        job = (await house.http("GET", f"/jobs/{each.job_id}")).body
        assert job["embodied_ug"] == each.embodied_ug
        assert job["sci_ug"] == each.emissions_ug + each.embodied_ug
        assert (each.outcome, each.submitted_at > 0) == (job["runs"][0]["outcome"], True)


@pytest.mark.parametrize(
    ("query", "accept", "is_csv"),
    [
        ("&format=csv", "*/*", True),
        ("", "text/csv, application/json;q=0.5", True),
        ("", "application/json, text/csv;q=0.5", False),
        ("&format=json", "text/csv", False),
        ("", "text/html,*/*", False),
    ],
)
async def test_csv_is_for_those_who_ask_for_it(
    deploy: Deploy, query: str, accept: str, is_csv: bool
) -> None:
    house = deploy()
    await house.gateway()
    url = f"/emissions?by=day,project{query}"
    answer = await house.http("GET", url, headers={"Accept": accept})
    kind = answer.headers["Content-Type"]
    assert kind.partition(";")[0] == ("text/csv" if is_csv else "application/json")
    assert (await house.http("GET", "/emissions?format=pdf")).status == 422


async def test_csv_has_the_figures_of_the_json(deploy: Deploy) -> None:
    house = await served(deploy)
    (row,) = (await house.http("GET", "/emissions?by=project")).body["rows"]
    raw = (await house.http("GET", "/emissions?by=project&format=csv")).body
    (line,) = csv.DictReader(io.StringIO(raw.decode(), newline=""))
    assert line["project"] == "p"
    for name in METRICS:
        assert line[name] == str(row[name])
    assert line["methods"] == "; ".join(f"{name}: {n}" for name, n in row["methods"].items())


async def test_metrics_count_by_pool_and_zone(deploy: Deploy) -> None:
    house = await served(deploy)
    (row,) = (await house.http("GET", "/emissions?by=")).body["rows"]
    text = (await house.http("GET", "/metrics")).body.decode()
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    assert found["carbon_energy_joules_total"] == [
        ({"pool": "fast", "zone": "local"}, row["energy_mj"] / 1000)
    ]
    ((_, emitted),) = found["carbon_emissions_grams_total"]
    assert emitted == row["emissions_ug"] / 10**6
    ((_, avoided),) = found["carbon_avoided_grams"]
    assert avoided == pytest.approx(row["avoided_now_ug"] / 10**6)
    outcomes = {labels["outcome"]: n for labels, n in found["carbon_jobs_ended_total"]}
    assert outcomes == {"completed": 1, "failed": 1, "cancelled": 0}


async def test_a_revised_intensity_restates_what_was_counted(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both figures stay on record."""
    monkeypatch.setattr(settling, "_PAUSE_SECONDS", 0.05)
    house = await served(deploy)
    (before,) = (await house.http("GET", "/emissions?by=")).body["rows"]
    since = next(each.time for each in await house.events(house.topology.intensity) if each.time)
    for value in (HIGH, LOW):
        await house.intensity(value, since)
        wanted = before["emissions_ug"] * value / MEDIUM

        async def restated(wanted: float = wanted) -> bool:
            (row,) = (await house.http("GET", "/emissions?by=")).body["rows"]
            assert row["emissions_ug"] == before["emissions_ug"]
            return bool(abs(row["emitted_now_ug"] - wanted) <= 4)

        await until(restated, timeout=10)
