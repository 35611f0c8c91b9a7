"""The list of jobs: filtered, live, cancelled from, and on a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browsing import Complaints, Gates
from playwright.async_api import Locator, Page, expect

from carbon_orchestrator.testing import HIGH, LOW, Orchestrator


def row(page: Page, job_id: str) -> Locator:
    return page.locator("table.jobs tbody tr", has_text=job_id)


async def test_lists_what_is_asked_for_and_keeps_it_in_the_address(
    page: Page, orchestrator: Orchestrator
) -> None:
    client = orchestrator.client
    done = client.submit("echo", project="listed", urgency="urgent", payload={"n": 1})
    bad = client.submit("broken", project="listed", urgency="urgent", max_attempts=1)
    other = client.submit("echo", project="unlisted", urgency="urgent")
    client.wait([done, bad, other], timeout=20)
    await page.goto("/#/jobs")
    filters = page.get_by_role("search", name="Jobs")
    await filters.get_by_label("Project").fill("listed")
    rows = page.locator("table.jobs tbody tr")
    await expect(rows).to_have_count(2)
    await expect(row(page, done.id)).to_contain_text("CO₂e")
    await expect(row(page, bad.id).locator(".badge")).to_have_text("failed")
    await filters.get_by_label("failed").check()
    await expect(rows).to_have_count(1)
    await expect(row(page, bad.id)).to_be_visible()
    assert page.url.endswith("#/jobs?state=failed&project=listed")
    await page.reload()
    await expect(rows).to_have_count(1)
    await expect(filters.get_by_label("failed")).to_be_checked()
    await filters.get_by_label("Type").fill("echo")
    await expect(page.get_by_text("No job is like that")).to_be_visible()
    await filters.get_by_role("button", name="Clear filters").click()
    await expect(row(page, other.id)).to_be_visible()
    assert page.url.endswith("#/jobs")


async def test_goes_on_where_a_page_ends(page: Page, orchestrator: Orchestrator) -> None:
    client = orchestrator.client
    client.wait([client.submit("echo", project="many", urgency="urgent") for _ in range(55)])
    await page.goto("/#/jobs?project=many&within=1h")
    rows = page.locator("table.jobs tbody tr")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(55)
    await expect(page.get_by_role("button", name="Show more")).to_be_hidden()


async def test_follows_what_happens_and_keeps_the_focus(
    page: Page, orchestrator: Orchestrator, gates: Gates
) -> None:
    job = orchestrator.client.submit(
        "telling", payload={"gates": ["list-1", "list-2"]}, urgency="urgent", project="followed"
    )
    await page.goto("/#/jobs?project=followed")
    mine = row(page, job.id)
    await expect(mine.locator(".badge")).to_have_text("running")
    await mine.get_by_role("link").focus()
    gates.open("list-1")
    await expect(mine.get_by_role("progressbar")).to_have_attribute("value", "0.5")
    await expect(mine.locator(".why")).to_contain_text("at step 1")
    gates.open("list-2")
    await expect(mine.locator(".badge")).to_have_text("completed")
    await expect(mine.get_by_role("button")).to_be_hidden()
    await expect(mine.get_by_role("link")).to_be_focused()


async def test_cancels_a_waiting_job_once_that_is_confirmed(
    page: Page, orchestrator: Orchestrator
) -> None:
    orchestrator.set_intensity(HIGH)
    try:
        job = orchestrator.client.submit("echo", urgency="flexible", deadline="6h", project="c")
        await page.goto("/#/jobs?state=deferred")
        mine = row(page, job.id)
        await expect(mine).to_contain_text("planned on")
        await expect(mine.locator(".why")).to_have_attribute("title", re.compile("g/kWh is high"))
        cancel = mine.get_by_role("button", name="Cancel")
        await cancel.click()
        dialog = page.get_by_role("dialog", name="Cancel this job?")
        await dialog.get_by_role("button", name="Cancel", exact=True).click()
        await expect(dialog).to_have_count(0)
        await expect(cancel).to_be_focused()
        await cancel.click()
        await dialog.get_by_role("button", name="Cancel the job").click()
        await expect(mine).to_have_count(0)
        assert orchestrator.client.wait(job, timeout=10).state == "cancelled"
    finally:
        orchestrator.set_intensity(LOW)


async def test_says_when_the_jobs_cannot_be_listed(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("503")
    answer = '{"type":"urn:carbon-orchestrator:problem:unavailable","detail":"the server is away"}'
    await page.route("**/jobs?**", lambda route: route.fulfill(status=503, body=answer))
    await page.goto("/#/jobs")
    await expect(page.locator(".page-jobs .failure")).to_have_text(
        "The jobs cannot be listed: the server is away."
    )
    await page.goto("/#/")
    await expect(page.locator(".recent .failure")).to_contain_text("the server is away")


class TestPhone:
    @pytest.fixture
    def context_options(self) -> dict[str, Any]:
        phone = {"width": 360, "height": 740}
        return {"viewport": phone, "has_touch": True, "color_scheme": "dark"}

    async def test_shows_cards(self, page: Page, orchestrator: Orchestrator) -> None:
        job = orchestrator.client.submit("echo", urgency="urgent", project="a-phone")
        orchestrator.client.wait(job, timeout=10)
        await page.goto("/#/jobs?project=a-phone")
        mine = row(page, job.id)
        await expect(mine).to_contain_text("a-phone")
        box = await mine.bounding_box()
        assert box is not None
        assert box["width"] <= 360
        assert box["height"] > 80
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await mine.get_by_role("link").click()
        await expect(page.locator(".runs-table")).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
