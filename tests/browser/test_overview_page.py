"""The frame and the overview, as a person meets them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browsing import Complaints, Gates, needs_charts
from lone_gateway import lone_gateway
from playwright.async_api import Page, expect

from carbon_orchestrator.testing import HIGH, LOW, Orchestrator

PAGES = ("#/", "#/jobs", "#/report", "#/letters")


def card(page: Page, name: str) -> Any:
    return page.locator(f'[data-card="{name}"]')


async def test_shows_the_house_at_a_glance(page: Page) -> None:
    await page.goto("/")
    for name in ("emitted", "avoided", "waiting", "risk", "letters"):
        await expect(card(page, name).locator(".value")).to_have_text(re.compile("^[0-9]"))
    await expect(card(page, "avoided")).to_contain_text("on FAST")
    path = page.get_by_role("region", name="Data path")
    await expect(path.locator(".role h3")).to_have_text(
        ["router", "worker FAST", "worker ECO", "accounting"]
    )
    await expect(path.get_by_text("no consumers")).to_have_count(0)
    await expect(page.get_by_role("region", name="Pools").locator("tbody tr")).to_have_count(2)
    await expect(page.locator("#banners")).to_contain_text("Simulated carbon data")


async def test_watches_a_job_run_without_asking(
    page: Page, orchestrator: Orchestrator, gates: Gates
) -> None:
    await page.goto("/")
    await expect(page.locator("#feed")).to_have_text("live")
    await expect(card(page, "running")).to_contain_text("FAST 0")
    job = orchestrator.client.submit("gate", payload={"gate": "overview"}, urgency="urgent")
    await expect(card(page, "running")).to_contain_text("FAST 1")
    gates.open("overview")
    await expect(card(page, "running")).to_contain_text("FAST 0")
    assert orchestrator.client.wait(job, timeout=10).succeeded


@needs_charts
async def test_draws_the_curve_and_tells_it_in_words(
    page: Page, orchestrator: Orchestrator
) -> None:
    orchestrator.set_intensity(HIGH)
    try:
        await page.goto("/")
        summary = page.locator(".carbon .summary")
        await expect(summary).to_contain_text("Now 300 gCO₂e/kWh")
        await expect(summary).to_contain_text("which is high")
        await page.wait_for_function(
            """() => {
                const canvas = document.querySelector(".chart canvas");
                if (!canvas || !canvas.width) return false;
                const drawn = canvas.getContext("2d");
                const all = drawn.getImageData(0, 0, canvas.width, canvas.height);
                return all.data.some((value, i) => i % 4 === 3 && value > 0);
            }"""
        )
        await page.get_by_text("The figures as a table").click()
        await expect(page.locator(".carbon tbody tr").last).to_contain_text("300")
    finally:
        orchestrator.set_intensity(LOW)
    await expect(summary).to_contain_text("which is low")


async def test_without_the_library_there_are_still_the_figures(
    page: Page, complaints: Complaints
) -> None:
    complaints.expected.append("/assets/vendor/")
    await page.route("**/assets/vendor/*", lambda route: route.fulfill(status=404))
    await page.goto("/")
    await expect(page.locator(".carbon .chart")).to_contain_text("cannot be drawn")
    await expect(page.locator(".carbon .summary")).to_contain_text("gCO₂e/kWh")
    await page.get_by_text("The figures as a table").click()
    await expect(page.locator(".carbon tbody tr").first).to_be_visible()


async def test_nobody_at_work_is_loud(page: Page, orchestrator: Orchestrator) -> None:
    async with lone_gateway(orchestrator.redis_url, f"{orchestrator.namespace}-lone") as lone:
        await page.goto(lone.url)
        for words in (
            "no router is alive",
            "no worker of FAST, ECO is alive, so nothing runs there",
            "nothing is counted",
        ):
            await expect(page.locator('.banner[data-tone="bad"]', has_text=words)).to_be_visible()
        await expect(page.locator(".role .consumers")).to_have_text(["✕ no consumers"] * 4)
        await expect(page.locator(".carbon .summary")).to_contain_text("no value")
        await page.goto("about:blank")


async def test_asks_for_a_key_once_and_keeps_it_for_the_tab(
    page: Page, orchestrator: Orchestrator, complaints: Complaints
) -> None:
    complaints.expected += ["401", "403"]
    name = f"{orchestrator.namespace}-keys"
    async with lone_gateway(orchestrator.redis_url, name, require_keys=True) as lone:
        key = await lone.new_key("read")
        await page.goto(lone.url)
        dialog = page.get_by_role("dialog", name="An API key is needed")
        field = dialog.get_by_label("API key")
        await expect(field).to_be_focused()
        await dialog.get_by_role("button", name="Not now").click()
        await expect(page.locator(".figures .failure")).to_contain_text("API key")
        await expect(dialog).to_have_count(0)
        await page.get_by_role("button", name="API key").click()
        await field.fill(key)
        await field.press("Enter")
        await expect(card(page, "waiting").locator(".value")).to_have_text("0")
        await expect(page.locator("#feed")).to_have_text("live")
        await page.reload()
        await expect(card(page, "waiting").locator(".value")).to_have_text("0")
        assert await page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]
        await page.goto("about:blank")


async def test_says_when_the_gateway_is_away(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("ERR_INTERNET_DISCONNECTED")
    await page.goto("/")
    await expect(page.locator("#feed")).to_have_text("live")
    await page.context.set_offline(True)
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(page.locator("#banners")).to_contain_text(
        "No answer: the gateway cannot be reached"
    )
    await page.context.set_offline(False)
    await expect(page.locator("#banners")).not_to_contain_text("No answer")


class TestDark:
    @pytest.fixture
    def context_options(self) -> dict[str, Any]:
        return {"color_scheme": "dark"}

    async def test_follows_the_system_and_the_choice(self, page: Page) -> None:
        await page.goto("/")
        brightness = (
            "parseInt(getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/)[0])"
        )
        assert await page.evaluate(brightness) < 50
        button = page.get_by_role("button", name="Theme")
        await expect(button).to_have_text("Auto")
        await button.click()
        await expect(button).to_have_text("Light")
        assert await page.evaluate(brightness) > 200
        await page.reload()
        await expect(button).to_have_text("Light")
        assert await page.evaluate(brightness) > 200


class TestPhone:
    @pytest.fixture
    def context_options(self) -> dict[str, Any]:
        return {"viewport": {"width": 360, "height": 740}, "has_touch": True}

    @pytest.mark.parametrize("where", PAGES)
    async def test_fits_the_width(self, page: Page, where: str) -> None:
        await page.goto(f"/{where}")
        await expect(page.get_by_role("heading", level=1)).to_be_attached()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_is_reached_by_keyboard(page: Page) -> None:
    # Also before the page is shown, which waits for the banners.
    await page.route("**/health", lambda route: None)
    await page.goto("/")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    await page.get_by_role("link", name="Report", exact=True).focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Report", exact=True)).to_have_attribute(
        "aria-current", "page"
    )
    assert await page.title() == "Report · Carbon orchestrator"
    await page.goto("/#/nowhere")
    await expect(page.get_by_role("main")).to_contain_text("There is no such page")


async def test_moves_nothing_once_it_is_there(page: Page) -> None:
    await page.add_init_script(
        "window.moves = []; new PerformanceObserver((list) => {"
        " for (const each of list.getEntries()) window.moves.push([each.value, each.sources.map("
        " ({node, previousRect, currentRect}) =>"
        " `${node?.className} from ${previousRect.y} to ${currentRect.y}`)]);"
        " }).observe({type: 'layout-shift', buffered: true})"
    )
    await page.goto("/")
    await expect(page.locator(".chart canvas").or_(page.locator(".chart .empty"))).to_be_attached()
    await expect(page.locator("#feed")).to_have_text("live")
    await expect(card(page, "waiting").locator(".value")).to_have_text(re.compile("^[0-9]"))
    moves = await page.evaluate("window.moves")
    assert sum(share for share, _ in moves) < 0.1, moves


async def test_a_key_for_one_project_is_shown_what_it_may_see(
    page: Page, complaints: Complaints
) -> None:
    complaints.expected.append("403")
    said = "this API key is bound to the project vision"
    refusal = {"type": "urn:carbon-orchestrator:problem:project-bound", "detail": said}
    for path in ("**/overview", "**/pools"):
        await page.route(path, lambda route: route.fulfill(status=403, json=refusal))
    await page.goto("/")
    await expect(page.locator(".figures p.muted")).to_contain_text(said)
    await expect(card(page, "emitted")).to_be_hidden()
    await expect(page.locator(".sites")).to_be_hidden()
    await expect(page.locator(".carbon .summary")).to_contain_text("gCO₂e/kWh")
