"""What browser tests work with."""

from __future__ import annotations

import os
import shutil
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page
from redis.asyncio import Redis

from carbon_orchestrator import dashboard
from carbon_orchestrator.testing import Orchestrator

WIDE = {"width": 1280, "height": 900}
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

needs_charts = pytest.mark.skipif(
    not (Path(dashboard.__file__).parent / "vendor" / "uPlot.esm.js").is_file(),
    reason="no uPlot: scripts/assets.sh puts it in",
)


def chromium() -> str | None:
    """The program of the browser, if there is one."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


class Gates:
    """Jobs of the type `gate` run until a test opens theirs, named by the payload's `gate`."""

    def __init__(self) -> None:
        self._gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)

    def open(self, name: str) -> None:
        self._gates[name].set()

    def run(self, payload: Any, context: Any) -> None:
        gate = self._gates[payload["gate"]]
        while not gate.wait(0.05) and not context.cancelled():
            pass

    def tell(self, payload: Any, context: Any) -> None:
        """The same, for the type `telling`: with output and progress, a step at each gate."""
        steps = payload["gates"]
        for number, gate in enumerate(steps):
            context.log(f"step {number} of {len(steps)}")
            context.progress(number / len(steps), f"at step {number}")
            self.run({"gate": gate}, context)
        context.log("all done")


async def bury(orchestrator: Orchestrator, kind: str, number: int = 1) -> None:
    """Entries that the router cannot read."""
    redis = Redis.from_url(orchestrator.redis_url)
    stream = f"{orchestrator.namespace}:{{0}}:jobs"
    try:
        assert await redis.exists(stream)
        for _ in range(number):
            await redis.xadd(stream, {"type": f"strange.{kind}", "data": '{"<i>": 1}'})
    finally:
        await redis.aclose()


class Contexts:
    """Browser contexts that tests share, by their options; a page leaves nothing behind."""

    def __init__(self, browser: Browser, options: dict[str, Any]) -> None:
        self._browser = browser
        self._options = options
        self._made: dict[str, BrowserContext] = {}

    @asynccontextmanager
    async def page(self, options: dict[str, Any]) -> AsyncIterator[Page]:
        """A page in a context with these options besides those of all."""
        context = await self._context(options)
        page = await context.new_page()
        try:
            yield page
        finally:
            await context.set_offline(False)
            browser = await context.new_cdp_session(page)
            everything = {"origin": self._options["base_url"], "storageTypes": "all"}
            await browser.send("Storage.clearDataForOrigin", everything)
            await page.close()

    async def _context(self, options: dict[str, Any]) -> BrowserContext:
        name = repr(sorted(options.items()))
        if name not in self._made:
            context = await self._browser.new_context(**{**self._options, **options})
            context.set_default_timeout(15_000)
            await context.add_init_script(
                "addEventListener('securitypolicyviolation', (event) =>"
                " console.error('policy violated:', event.violatedDirective, event.blockedURI))"
            )
            self._made[name] = context
        return self._made[name]


@dataclass
class Complaints:
    """What the browser complained of. `expected`: parts of messages that a test means to cause."""

    said: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    @property
    def unexpected(self) -> list[str]:
        return [each for each in self.said if not any(part in each for part in self.expected)]

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.type}: {message.text} {message.location['url']}")
