"""The dashboard in a real Chromium: one orchestrator and one browser for all, a fresh page with
nothing stored for each test, and after each: nothing on the console, nothing against the policy.

CHROMIUM=PROGRAM names the browser; else the system's is taken. Without one these tests skip.
Playwright's asyncio interface on a loop of the session's own: the other one leaves a loop running,
where no further asyncio test could.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from browsing import WIDE, Complaints, Contexts, Gates, chromium
from playwright.async_api import Browser, Page, async_playwright, expect

from carbon_orchestrator.testing import House, Orchestrator

_HERE = Path(__file__).parent
# Nothing takes so long, but on a machine that has much else to do.
expect.set_options(timeout=15_000)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # so that it ends after the shuffling
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """These tests one after another, so that one process has them all, and the only browser."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    yield
    ours = [item for item in items if _HERE in item.path.parents]
    if ours:
        begin = items.index(ours[0])
        items[begin:] = [*ours, *(item for item in items[begin:] if item not in ours)]


@pytest.fixture(scope="session")
def gates() -> Gates:
    return Gates()


@pytest.fixture(scope="session")
def orchestrator(orchestrator_house: House, gates: Gates) -> Iterator[Orchestrator]:
    """The one that all browser tests look at: they find each other's jobs in it."""
    types = {
        "echo": ["cat"],
        "gate": gates.run,
        "telling": gates.tell,
        "broken": ["false"],
    }
    with orchestrator_house.orchestrator(types) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: install chromium, or name one by CHROMIUM=PROGRAM")
    async with async_playwright() as playwright:
        arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        yield await playwright.chromium.launch(executable_path=program, args=arguments)


@pytest.fixture
def context_options() -> dict[str, Any]:
    """Of the browser's context: width, colour scheme and so on. To be overridden."""
    return {}


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def contexts(browser: Browser, orchestrator: Orchestrator) -> Contexts:
    """Those of all tests, by their options: to make one takes longer than most tests."""
    return Contexts(browser, {"viewport": WIDE, "base_url": orchestrator.url})


@pytest_asyncio.fixture(loop_scope="session")
async def page(
    contexts: Contexts, complaints: Complaints, context_options: dict[str, Any]
) -> AsyncIterator[Page]:
    """An empty page; `await page.goto("/")` opens the dashboard."""
    async with contexts.page(context_options) as page:
        complaints.watch(page)
        yield page
    assert complaints.unexpected == []
