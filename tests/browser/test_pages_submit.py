"""The dialog that submits a job."""

from __future__ import annotations

from browsing import Complaints
from playwright.async_api import Page, expect

from carbon_orchestrator.testing import HIGH, LOW, Orchestrator


async def test_submits_and_leads_to_the_job(page: Page, orchestrator: Orchestrator) -> None:
    await page.goto("/")
    button = page.get_by_role("button", name="Submit a job")
    await button.click()
    dialog = page.get_by_role("dialog", name="Submit a job")
    kind = dialog.get_by_label("Type", exact=True)
    await expect(kind).to_be_focused()
    await expect(dialog).to_contain_text("One of analytics, broken, echo")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(button).to_be_focused()
    await button.click()
    await kind.fill("echo")
    await dialog.get_by_label("Urgency").select_option("urgent")
    await dialog.get_by_label("Project").fill("by-hand")
    await dialog.get_by_label("Payload").fill('{"answer": 42}')
    await dialog.get_by_role("button", name="Submit").click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("heading", level=1)).to_have_text("echo")
    await expect(page.locator(".now .badge")).to_have_text("completed")
    job = orchestrator.client.job(page.url.rpartition("/")[2])
    assert (job.project, job.urgency, job.payload) == ("by-hand", "urgent", {"answer": 42})
    await page.get_by_role("button", name="Submit one like it").click()
    await expect(kind).to_have_value("echo")
    await expect(dialog.get_by_label("Payload")).to_have_value('{\n  "answer": 42\n}')


async def test_says_what_is_wrong_beside_the_field(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("422")
    await page.goto("/")
    await page.get_by_role("button", name="Submit a job").click()
    dialog = page.get_by_role("dialog", name="Submit a job")
    submit = dialog.get_by_role("button", name="Submit")
    kind, payload = dialog.get_by_label("Type", exact=True), dialog.get_by_label("Payload")
    await submit.click()
    await expect(dialog.locator("#new-type-error")).to_have_text("Name a type.")
    await expect(kind).to_be_focused()
    await kind.fill("nothing-like-it")
    await expect(dialog.locator("#new-type-error")).to_be_hidden()
    await payload.fill("[1, 2]")
    await submit.click()
    await expect(dialog.locator("#new-payload-error")).to_contain_text("A JSON object is needed")
    await payload.fill("{")
    await submit.click()
    await expect(dialog.locator("#new-payload-error")).to_contain_text("This is not JSON")
    await payload.fill("{}")
    await submit.click()
    await expect(dialog.locator("#new-type-error")).to_contain_text("no type 'nothing-like-it'")
    await expect(kind).to_have_attribute("aria-invalid", "true")
    await kind.fill("echo")
    await dialog.get_by_label("Deadline").fill("soon")
    await submit.click()
    await expect(dialog.locator("#new-deadline-error")).to_contain_text("soon")


async def test_tells_when_it_would_run_and_submits_nothing(
    page: Page, orchestrator: Orchestrator
) -> None:
    orchestrator.set_intensity(HIGH)
    try:
        before = len(list(orchestrator.client.jobs(type="analytics")))
        await page.goto("/")
        await page.get_by_role("button", name="Submit a job").click()
        dialog = page.get_by_role("dialog", name="Submit a job")
        await dialog.get_by_label("Type", exact=True).fill("analytics")
        await dialog.get_by_label("Urgency").select_option("flexible")
        await dialog.get_by_label("Deadline").fill("6h")
        await dialog.get_by_role("button", name="When would it run?").click()
        told = dialog.locator(".preview")
        await expect(told).to_contain_text("It would wait, and start in")
        await expect(told).to_contain_text("g/kWh is high")
        await expect(told).to_contain_text("Latest start")
        await dialog.get_by_label("Urgency").select_option("urgent")
        await expect(told).to_be_hidden()
        await dialog.get_by_role("button", name="When would it run?").click()
        await expect(told).to_contain_text("It would start now on ECO.")
        assert len(list(orchestrator.client.jobs(type="analytics"))) == before
    finally:
        orchestrator.set_intensity(LOW)
