"""A job's page: why it waits, how it runs, what it wrote and emitted."""

from __future__ import annotations

import re

from browsing import Complaints, Gates, needs_charts
from playwright.async_api import Locator, Page, Route, expect

from carbon_orchestrator.testing import HIGH, LOW, Orchestrator


def region(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


async def test_watches_it_run_to_its_end(
    page: Page, orchestrator: Orchestrator, gates: Gates
) -> None:
    job = orchestrator.client.submit(
        "telling",
        payload={"gates": ["page-1", "page-2"]},
        urgency="urgent",
        labels={"team": "north"},
    )
    await page.goto(f"/#/jobs/{job.id}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("telling")
    state, output = region(page, "State"), region(page, "Output")
    await expect(state.locator(".headline")).to_contain_text("It runs on FAST")
    await expect(output.locator("pre")).to_have_text("step 0 of 2\n")
    await expect(output).to_contain_text("Followed while it runs.")
    gates.open("page-1")
    await expect(output.locator("pre")).to_have_text("step 0 of 2\nstep 1 of 2\n")
    await expect(state.get_by_role("progressbar")).to_have_attribute("value", "0.5")
    await expect(state).to_contain_text("50 % · at step 1")
    gates.open("page-2")
    await expect(state.locator(".badge")).to_have_text("completed")
    await expect(state.locator(".headline")).to_contain_text("It was completed")
    await expect(state.locator(".reason")).to_contain_text("g/kWh is low")
    await expect(output.locator("pre")).to_have_text("step 0 of 2\nstep 1 of 2\nall done\n")
    steps = region(page, "Timeline").locator(".steps > li")
    await expect(steps.locator("strong")).to_have_text(
        ["Submitted", "Dispatched", "Started", "Completed"]
    )
    await expect(steps.nth(1)).to_contain_text("50 gCO₂e/kWh, low")
    runs = region(page, "Runs and their emissions").locator("tbody tr")
    await expect(runs.first).to_contain_text("1: completed")
    await expect(runs.first).to_contain_text("±")
    given = region(page, "As submitted")
    await expect(given).to_contain_text("team: north")
    await expect(given.get_by_label("Payload")).to_contain_text('"page-1"')
    await page.get_by_text("What is on record about this job").click()
    events = region(page, "Events").locator(".record > li")
    await expect(events.locator("strong")).to_have_text(
        ["job.submitted", "job.dispatched", "job.started", "job.completed", "emissions.recorded"]
    )
    await events.first.locator("summary").click()
    await expect(events.first.locator("pre")).to_contain_text('"team": "north"')


@needs_charts
async def test_says_why_it_waits_in_words_numbers_and_a_picture(
    page: Page, orchestrator: Orchestrator
) -> None:
    orchestrator.set_intensity(HIGH)
    try:
        job = orchestrator.client.submit("echo", urgency="flexible", deadline="6h")
        await page.goto(f"/#/jobs/{job.id}")
        state, timeline = region(page, "State"), region(page, "Timeline")
        await expect(state.locator(".headline")).to_contain_text("It waits, and should start in")
        await expect(state.locator(".reason")).to_contain_text("g/kWh is high")
        await expect(state).to_contain_text("Latest start")
        await expect(timeline.locator(".steps > li").last).to_contain_text("300 gCO₂e/kWh, high")
        for mark in ("submitted", "planned start", "latest start", "deadline", "Now 300"):
            await expect(timeline.locator("figcaption")).to_contain_text(mark)
        await page.wait_for_function(
            """() => {
                const canvas = document.querySelector(".timeline canvas");
                if (!canvas || !canvas.width) return false;
                const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return all.data.some((value, i) => i % 4 === 3 && value > 0);
            }"""
        )
        await expect(region(page, "Output")).to_contain_text("it has not started")
        await page.get_by_role("button", name="Cancel the job").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Cancel the job").click()
        await expect(state.locator(".badge")).to_have_text("cancelled")
        await expect(page.get_by_role("button", name="Cancel the job")).to_be_hidden()
    finally:
        orchestrator.set_intensity(LOW)


async def test_tells_why_it_failed(page: Page, orchestrator: Orchestrator) -> None:
    job = orchestrator.client.submit("broken", urgency="urgent", max_attempts=1)
    orchestrator.client.wait(job, timeout=10)
    await page.goto(f"/#/jobs/{job.id}")
    await expect(region(page, "State").locator(".headline")).to_contain_text("It failed")
    await expect(region(page, "Runs and their emissions")).to_contain_text("exit code 1")
    await expect(region(page, "Output")).to_contain_text("Nothing was written.")


async def test_output_is_text_bounded_and_without_a_terminals_colours(
    page: Page, orchestrator: Orchestrator
) -> None:
    job = orchestrator.client.submit("echo", urgency="urgent", payload={"s": "<b>bold</b>"})
    orchestrator.client.wait(job, timeout=10)
    written = "\u001b[31mred\u001b[0m\r\n" + "".join(f"line {n}\n" for n in range(30_000))

    await page.route("**/logs?**", lambda route: route.fulfill(status=200, body=written))
    await page.goto(f"/#/jobs/{job.id}")
    output = region(page, "Output")
    await expect(output).to_contain_text("earlier output is cut off")
    shown = await output.locator("pre").inner_text()
    assert shown.endswith("line 29999\n")
    assert 100_000 < len(shown) <= 200_000
    assert "\u001b" not in shown
    await expect(page.get_by_label("Payload")).to_contain_text("<b>bold</b>")


async def test_what_cannot_be_told_is_said_in_its_place(
    page: Page, orchestrator: Orchestrator, complaints: Complaints
) -> None:
    complaints.expected.append("503")
    job = orchestrator.client.submit("echo", urgency="urgent")
    orchestrator.client.wait(job, timeout=10)
    known = {"carbon": False}

    async def away(route: Route) -> None:
        # The past is asked for once the grid's clock is known.
        if "/carbon?" in route.request.url and not known["carbon"]:
            known["carbon"] = True
            await route.continue_()
        else:
            await route.fulfill(status=503, body='{"detail":"so it is"}')

    for path in ("logs", "carbon", "carbon/history", "events?limit"):
        await page.route(re.compile(f"/{re.escape(path)}[?=]"), away)
    await page.goto(f"/#/jobs/{job.id}")
    await page.get_by_text("What is on record about this job").click()
    for says in ("The output", "The grid’s past", "The events"):
        await expect(page.get_by_text(f"{says} cannot be told: so it is.")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("The grid’s forecast cannot be told: so it is.")).to_be_visible()
    await expect(region(page, "State").locator(".badge")).to_have_text("completed")


async def test_a_job_that_there_is_not(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("404")
    await page.goto("/#/jobs/none")
    await expect(page.locator(".page-jobs .failure")).to_contain_text("no job has this id")
