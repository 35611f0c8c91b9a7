"""The HTTP API, to read and try out: /docs."""

from __future__ import annotations

from playwright.async_api import Page, expect


async def test_every_operation_is_there_and_can_be_tried_also_on_a_phone(page: Page) -> None:
    await page.goto("/docs")
    submitting = page.locator(".opblock", has_text="Submit a job")
    await expect(submitting.first).to_be_visible()
    assert await page.locator(".opblock").count() >= 20
    asking = page.locator("#operations-default-livez")
    await asking.locator("button.opblock-summary-control").click()
    await asking.get_by_role("button", name="Try it out").click()
    await asking.get_by_role("button", name="Execute").click()
    await expect(asking.locator(".live-responses-table")).to_contain_text('"ok"')
    await page.set_viewport_size({"width": 360, "height": 700})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_what_is_not_installed_is_told(page: Page) -> None:
    await page.route("**/swagger-ui-bundle.js", lambda route: route.fulfill(body=""))
    await page.goto("/docs")
    await expect(page.locator(".missing")).to_contain_text("scripts/assets.sh")
