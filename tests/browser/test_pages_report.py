"""The emissions report: by group and period, with its sums, as files."""

from __future__ import annotations

import csv
import io
import json

from browsing import Complaints
from playwright.async_api import Page, expect

from carbon_orchestrator.testing import Orchestrator


async def test_reports_by_group_and_saves_it(page: Page, orchestrator: Orchestrator) -> None:
    client = orchestrator.client
    jobs = [client.submit("echo", urgency="urgent", project=f"report-{n}") for n in (1, 2)]
    client.wait(jobs, timeout=10)
    await page.goto("/#/report")
    await page.get_by_label("By", exact=True).select_option("project")
    table = page.locator(".report-table")
    for n in (1, 2):
        mine = table.locator("tbody tr", has_text=f"report-{n}")
        await expect(mine.locator("td[data-name=Jobs]")).to_have_text("1")
    sums = page.locator(".sums")
    await expect(sums).to_contain_text("At once on FAST (baseline)")
    await expect(sums).to_contain_text("Of what was possible")
    await expect(page.locator(".method")).to_contain_text("Baseline: the same job run at once")
    assert page.url.endswith("#/report?by=project")
    await page.get_by_label("Period").select_option("7")
    assert page.url.endswith("#/report?by=project&days=7")
    await expect(table).to_contain_text("report-1")
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Save as CSV").click()
    saved = await saving.value
    assert saved.suggested_filename == "emissions-by-project.csv"
    rows = {
        row["project"]: row for row in csv.DictReader(io.StringIO((await saved.path()).read_text()))
    }
    assert rows["report-1"]["jobs"] == "1"
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Save as JSON").click()
    told = json.loads((await (await saving.value).path()).read_text())
    assert {"report-1", "report-2"} <= {row["project"] for row in told["rows"]}
    total = sum(row["jobs"] for row in told["rows"])
    await expect(table.locator("tfoot td[data-name=Jobs]")).to_have_text(f"{total:,}")


async def test_an_empty_time_and_an_answer_that_fails(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("503")
    await page.goto("/#/report?from=2001-01-01&to=2001-01-02")
    await expect(page.get_by_label("First day")).to_have_value("2001-01-01")
    await expect(page.get_by_text("Nothing was counted in this time")).to_be_visible()
    await page.route(
        "**/emissions?**", lambda route: route.fulfill(status=503, body='{"detail":"away"}')
    )
    await page.get_by_label("By", exact=True).select_option("zone")
    await expect(page.locator(".page-report .failure")).to_have_text(
        "The totals cannot be told: away."
    )
    await page.get_by_role("button", name="Save as CSV").click()
    await expect(page.locator(".notice")).to_have_text("The report was not saved: away.")
