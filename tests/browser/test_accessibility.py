"""The pages by keyboard alone, by name, enlarged, and without motion."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browsing import Complaints, bury
from lone_gateway import lone_gateway
from playwright.async_api import Locator, Page, expect

from carbon_orchestrator import Job
from carbon_orchestrator.testing import HIGH, LOW, Orchestrator

PAGES = ("#/", "#/jobs", "#/report", "#/letters")
#: Roles of what is operated, and so needs a name.
OPERATED = {"button", "checkbox", "combobox", "link", "textbox", "DisclosureTriangle", "DateTime"}
_DRAWN = """() => [document.activeElement, document.activeElement.closest("label")]
  .some((node) => {
    const style = node && getComputedStyle(node);
    return style && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  })"""
#: 320 px are 1280 px at 400 %; 640 px are those at 200 %.
WIDTHS = (320, 640)


@pytest_asyncio.fixture(loop_scope="session")
async def waiting(orchestrator: Orchestrator) -> AsyncIterator[Job]:
    """A job that waits for a greener grid."""
    orchestrator.set_intensity(HIGH)
    try:
        yield orchestrator.client.submit("echo", urgency="flexible", deadline="6h", project="keys")
    finally:
        orchestrator.set_intensity(LOW)


async def tab_to(page: Page, wanted: Locator, key: str = "Tab", most: int = 80) -> None:
    """Go there as a person does who has no mouse; the focus can be seen there."""
    await expect(wanted).to_be_visible()
    for _ in range(most):
        if await wanted.evaluate("(node) => node === document.activeElement"):
            break
        await page.keyboard.press(key)
    await expect(wanted).to_be_focused()
    assert await shown(page), "the focus cannot be seen"


async def shown(page: Page) -> bool:
    """Whether the focus is drawn, on the element or on the label around it."""
    return bool(await page.evaluate(_DRAWN))


async def round_trip(page: Page, opener: Locator, title: str) -> int:
    """Open the dialog by Enter, walk around in it once in both directions and leave by Escape: the
    focus never leaves it meanwhile, and is then where it was. How many stops there are."""
    await tab_to(page, opener)
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=title)
    await expect(dialog).to_be_visible()
    stops = set[str]()
    number = await dialog.locator("button:visible, input:visible, select, textarea").count()
    for key in ("Tab", "Shift+Tab"):
        for _ in range(number + 2):
            place = await page.evaluate(
                """() => {
                    const dialog = document.querySelector("dialog[open]");
                    const now = document.activeElement;
                    if (now === document.body) return "";  // the browser's own controls
                    return dialog.contains(now) ? now.id || now.textContent : null;
                }"""
            )
            assert place is not None, f"{key} left the dialog"
            if place:
                assert await shown(page), f"{place}: the focus cannot be seen"
                stops.add(place)
            await page.keyboard.press(key)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(opener).to_be_focused()
    return len(stops)


async def test_submits_a_job(page: Page, orchestrator: Orchestrator) -> None:
    await page.goto("/")
    opener = page.get_by_role("button", name="Submit a job")
    assert await round_trip(page, opener, "Submit a job") == 10
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Submit a job")
    await expect(dialog.get_by_label("Type", exact=True)).to_be_focused()
    await page.keyboard.type("echo")
    await tab_to(page, dialog.get_by_label("Urgency"))
    await page.keyboard.type("urgent")
    await tab_to(page, dialog.get_by_label("Project"))
    await page.keyboard.type("keyed")
    await tab_to(page, dialog.get_by_role("button", name="Submit"))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("echo")
    await expect(page.get_by_role("main")).to_be_focused()
    job = orchestrator.client.job(page.url.rpartition("/")[2])
    assert (job.urgency, job.project) == ("urgent", "keyed")
    again = page.get_by_role("button", name="Submit one like it")
    await round_trip(page, again, "Submit a job")


async def test_gives_a_key(page: Page, orchestrator: Orchestrator, complaints: Complaints) -> None:
    complaints.expected += ["401", "403"]
    name = f"{orchestrator.namespace}-keyed"
    async with lone_gateway(orchestrator.redis_url, name, require_keys=True) as lone:
        key = await lone.new_key("read")
        await page.goto(lone.url)
        dialog = page.get_by_role("dialog", name="An API key is needed")
        await expect(dialog.get_by_label("API key")).to_be_focused()
        await page.keyboard.type(key)
        await page.keyboard.press("Enter")
        await expect(dialog).to_have_count(0)
        await expect(page.locator("#feed")).to_have_text("live")
        opener = page.get_by_role("button", name="API key")
        assert await round_trip(page, opener, "An API key is needed") == 3
        await page.goto("about:blank")


async def test_cancels_a_job_in_the_list(page: Page, waiting: Job) -> None:
    await page.goto("/#/jobs?project=keys")
    row = page.locator("table.jobs tbody tr", has_text=waiting.id)
    cancel = row.get_by_role("button", name="Cancel")
    assert await round_trip(page, cancel, "Cancel this job?") == 2
    await page.keyboard.press("Enter")
    await tab_to(page, page.get_by_role("button", name="Cancel the job"))
    await page.keyboard.press("Enter")
    await expect(row.locator(".badge")).to_have_text("cancelled")
    await expect(cancel).to_be_hidden()
    await expect(row.get_by_role("link")).to_be_focused()


async def test_cancels_a_job_on_its_page(page: Page, waiting: Job) -> None:
    await page.goto(f"/#/jobs/{waiting.id}")
    cancel = page.get_by_role("button", name="Cancel the job")
    await round_trip(page, cancel, "Cancel this job?")
    await page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    await tab_to(page, dialog.get_by_role("button", name="Cancel the job"))
    await page.keyboard.press("Enter")
    await expect(page.locator(".now .badge")).to_have_text("cancelled")
    await expect(page.get_by_role("button", name="Submit one like it")).to_be_focused()


async def test_retries_and_drops_dead_letters(page: Page, orchestrator: Orchestrator) -> None:
    await page.goto("/#/letters")
    await bury(orchestrator, "keyed", 2)
    group = page.locator(".group", has_text="strange.keyed")
    await expect(group.locator("strong")).to_have_text("2")
    assert (
        await round_trip(
            page, group.get_by_role("button", name="Retry all"), "Retry 2 dead letters?"
        )
        == 2
    )
    drop = group.get_by_role("button", name="Drop all")
    await round_trip(page, drop, "Drop 2 dead letters?")
    await tab_to(page, group.get_by_role("link", name="Open the newest"), "Shift+Tab")
    await page.keyboard.press("Enter")
    for verb in ("Retry", "Drop"):
        await round_trip(
            page, page.get_by_role("button", name=verb, exact=True), f"{verb} this dead letter?"
        )
    await tab_to(page, page.get_by_role("link", name="← Dead letters"), "Shift+Tab")
    await page.keyboard.press("Enter")
    await tab_to(page, drop)
    await page.keyboard.press("Enter")
    await tab_to(page, page.get_by_role("dialog").get_by_role("button", name="Drop all"))
    await page.keyboard.press("Enter")
    await expect(group).to_have_count(0)
    assert await page.evaluate("document.querySelector('main').contains(document.activeElement)")


async def test_filters_jobs(page: Page, orchestrator: Orchestrator) -> None:
    client = orchestrator.client
    done = client.submit("echo", project="filtered", urgency="urgent")
    bad = client.submit("broken", project="filtered", urgency="urgent", max_attempts=1)
    client.wait([done, bad], timeout=20)
    await page.goto("/#/jobs")
    filters = page.get_by_role("search", name="Jobs")
    await tab_to(page, filters.get_by_label("failed"))
    await page.keyboard.press("Space")
    await tab_to(page, filters.get_by_label("Project"))
    await page.keyboard.type("filtered")
    rows = page.locator("table.jobs tbody tr")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text(bad.id)
    await tab_to(page, filters.get_by_label("Order"))
    await page.keyboard.type("Oldest")
    await tab_to(page, filters.get_by_role("button", name="Clear filters"))
    await page.keyboard.press("Enter")
    await expect(filters.get_by_label("Type")).to_be_focused()
    assert page.url.endswith("#/jobs")


async def unnamed(page: Page) -> list[str]:
    """What is operated, and has no name that could be read out."""
    browser = await page.context.new_cdp_session(page)
    tree = await browser.send("Accessibility.getFullAXTree")
    await browser.detach()
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip())
        for node in tree["nodes"]
        if not node["ignored"] and node["role"]["value"] in OPERATED
    ]
    assert seen
    return [role for role, name in seen if not name]


async def test_whatever_is_operated_has_a_name(page: Page, waiting: Job) -> None:
    for where in (*PAGES, f"#/jobs/{waiting.id}"):
        await page.goto(f"/{where}")
        await expect(page.get_by_role("heading", level=1)).to_be_attached()
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        assert await unnamed(page) == [], where
    await page.get_by_role("button", name="Submit a job").click()
    await expect(page.get_by_role("dialog", name="Submit a job")).to_be_visible()
    assert await unnamed(page) == []


@pytest.mark.parametrize("context_options", [{"reduced_motion": "reduce"}])
async def test_nothing_moves_where_that_is_not_wanted(page: Page) -> None:
    await page.goto("/")
    button = page.get_by_role("button", name="Submit a job")
    await button.hover()
    await button.click()
    moving = "document.getAnimations().length"
    assert await page.evaluate(moving) == 0
    duration = "(node) => parseFloat(getComputedStyle(node).transitionDuration)"
    assert await button.evaluate(duration) == 0
    await page.emulate_media(reduced_motion="no-preference")
    assert await button.evaluate(duration) > 0


@pytest.mark.parametrize("width", WIDTHS)
async def test_enlarged_it_needs_no_scrolling_to_the_side(
    page: Page, orchestrator: Orchestrator, width: int
) -> None:
    job = orchestrator.client.submit("echo", urgency="urgent", payload={"a": "long " * 40})
    orchestrator.client.wait(job, timeout=10)
    await page.set_viewport_size({"width": width, "height": 512})
    for where in (*PAGES, f"#/jobs/{job.id}"):
        await page.goto(f"/{where}")
        await expect(page.get_by_role("heading", level=1)).to_be_attached()
        await expect(page.locator("main .panel").first).to_be_visible()
        assert await wide(page) <= width, where
    await page.get_by_role("button", name="Submit a job").click()
    dialog = page.get_by_role("dialog", name="Submit a job")
    await expect(dialog).to_be_visible()
    assert await dialog.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    assert await wide(page) <= width
    submit = dialog.get_by_role("button", name="Submit")
    await submit.scroll_into_view_if_needed()
    await expect(submit).to_be_in_viewport()


async def wide(page: Page) -> int:
    return int(await page.evaluate("document.documentElement.scrollWidth"))
