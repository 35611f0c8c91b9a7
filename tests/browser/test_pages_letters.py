"""Dead letters: grouped, read, retried and dropped."""

from __future__ import annotations

from browsing import Complaints, bury
from playwright.async_api import Page, expect

from carbon_orchestrator.testing import Orchestrator


async def test_retries_and_drops_by_the_group(page: Page, orchestrator: Orchestrator) -> None:
    await page.goto("/#/letters")
    await bury(orchestrator, "retried", 2)
    await bury(orchestrator, "dropped", 2)
    retried = page.locator(".group", has_text="strange.retried")
    dropped = page.locator(".group", has_text="strange.dropped")
    await expect(retried.locator("strong")).to_have_text("2")
    await dropped.get_by_role("button", name="Drop all").click()
    dialog = page.get_by_role("dialog", name="Drop 2 dead letters?")
    await expect(dialog).to_contain_text("strange.dropped")
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    await dialog.get_by_role("button", name="Drop all").click()
    await expect(page.locator(".notice", has_text="2 dropped.")).to_be_visible()
    await expect(dropped).to_have_count(0)
    await retried.get_by_role("button", name="Retry all").click()
    dialog = page.get_by_role("dialog", name="Retry 2 dead letters?")
    await dialog.get_by_role("button", name="Retry all").click()
    await expect(page.locator(".notice", has_text="2 retried.")).to_be_visible()
    # Nothing was mended, so they come back.
    await expect(retried.locator("strong")).to_have_text("2")
    await retried.get_by_role("button", name="Drop all").click()
    await page.get_by_role("dialog").get_by_role("button", name="Drop all").click()
    await expect(retried).to_have_count(0)


async def test_opens_one(page: Page, orchestrator: Orchestrator) -> None:
    await page.goto("/#/letters")
    await bury(orchestrator, "opened")
    group = page.locator(".group", has_text="strange.opened")
    await group.get_by_role("link", name="Open the newest").click()
    await expect(page.locator(".headline")).to_contain_text("strange.opened")
    await expect(page.get_by_label("data")).to_contain_text('"<i>": 1')
    await page.get_by_role("button", name="Drop").click()
    dialog = page.get_by_role("dialog", name="Drop this dead letter?")
    await dialog.get_by_role("button", name="Drop").click()
    await expect(page.locator(".notice")).to_have_text("1 dropped.")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
    await expect(group).to_have_count(0)


async def test_one_that_is_gone_and_answers_that_fail(
    page: Page, orchestrator: Orchestrator, complaints: Complaints
) -> None:
    complaints.expected += ["404", "503"]
    await page.goto("/#/letters/1-0")
    await expect(page.locator(".failure")).to_contain_text("no such dead letter")
    await page.route(
        "**/dead-letters?**", lambda route: route.fulfill(status=503, body='{"detail":"away"}')
    )
    await page.goto("/#/letters")
    await expect(page.locator(".failure")).to_have_text("The dead letters cannot be told: away.")
