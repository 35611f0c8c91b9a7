"""How soon the dashboard shows what it is for while 100,000 jobs wait: in Chromium, from the
navigation until the figures, the carbon chart, the data path and the latest jobs are on the page.

python -m benchmarks.opening [--jobs 100000] [--times 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
from pathlib import Path
from typing import Any

import uvloop
from playwright.async_api import Browser, BrowserContext, async_playwright

from benchmarks.deployment import Deployment
from benchmarks.memory import HIGH, TOPOLOGY, publish, until
from streams.commit import Committer
from streams.connection import connect
from streams.embedded import free_port

LIMIT_SECONDS = 1.0
#: Between two openings: the gateway keeps nothing of what it told for so long.
_APART_SECONDS = 6.0
_CONFIG = f"{HIGH}[limits]\nmax_waiting = 3000000\n"
#: Notes, frame by frame, when each part of the page first was there and could be seen.
_WATCH = """
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const drawn = (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, i) => i % 4 === 3 && value > 0);
  };
  const parts = {
    "first paint": () => performance.getEntriesByType("paint").length > 0,
    figures: () => {
      const told = all(".card .value").map((each) => /\\d/.test(each.textContent));
      return told.length > 0 && told.every(Boolean);
    },
    curve: () => all(".carbon .chart canvas").some((each) => each.width && drawn(each)),
    "data path": () => all(".data-path .role").length > 0,
    jobs: () => all(".recent tbody tr").length > 0,
  };
  const seen = {};
  window.seen = new Promise((resolve) => {
    const look = () => {
      if (document.body && !("waiting" in document.body.dataset)) {
        for (const [name, there] of Object.entries(parts)) {
          if (!(name in seen) && there()) seen[name] = performance.now();
        }
      }
      if (Object.keys(seen).length === Object.keys(parts).length) resolve(seen);
      else requestAnimationFrame(look);
    };
    look();
  });
})();
"""
_WATERFALL = """
() => performance.getEntriesByType("resource").map((each) =>
  [each.name.replace(location.origin, ""), each.startTime, each.responseEnd])
"""


async def opened(context: BrowserContext, url: str) -> tuple[dict[str, float], list[list[Any]]]:
    """ms from the navigation to each part; path, begin and end, ms, of what was asked for."""
    page = await context.new_page()
    await page.add_init_script(_WATCH)
    await page.goto(url, wait_until="commit")
    seen = await asyncio.wait_for(page.evaluate("window.seen"), 60)
    asked = await page.evaluate(_WATERFALL)
    await page.close()
    return seen, asked


async def openings(browser: Browser, url: str, times: int) -> dict[str, Any]:
    """Each opening with an empty cache of the browser ("cold"), and then with what it left there
    ("warm"); the gateway has forgotten its answers each time."""
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    asked: dict[str, list[list[Any]]] = {}
    for _ in range(times):
        async with await browser.new_context(viewport={"width": 1280, "height": 900}) as context:
            for name in found:
                await asyncio.sleep(_APART_SECONDS)
                seen, asked[name] = await opened(context, url)
                found[name].append(seen)
    return {
        name: {
            "all_ms": _spread([max(each.values()) for each in rows]),
            "parts_ms": {
                part: round(statistics.median(each[part] for each in rows)) for part in rows[0]
            },
            "requests": [[path, round(begin), round(end)] for path, begin, end in asked[name]],
        }
        for name, rows in found.items()
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values)), "most": round(max(values))}


async def measure(jobs: int, times: int, program: str) -> dict[str, Any]:
    port = free_port()
    async with Deployment(config=_CONFIG) as deployment:
        redis: Any = connect(deployment.server.url)
        committer = Committer(connect(deployment.server.url), TOPOLOGY.partition)
        deployment.start("signal", "signal", "--speed", "1")

        async def known() -> bool:
            return int(await redis.xlen(TOPOLOGY.intensity)) > 0

        async def deferred() -> bool:
            return int(await redis.zcard(TOPOLOGY.index("deferred"))) >= jobs

        await until(known, 60, "the grid is known")  # else all would run at once
        deployment.start("gateway", "gateway", "--port", str(port))
        deployment.start("router", "router")
        deployment.start("accounting", "accounting")
        deployment.worker("fast", "fast")
        deployment.worker("eco", "eco")
        await publish(committer, jobs, "flexible")
        await until(deferred, 600, "all jobs are deferred")
        url = f"http://127.0.0.1:{port}/"
        async with async_playwright() as playwright:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = await playwright.chromium.launch(executable_path=program, args=arguments)
            found = await openings(browser, url, times)
            await browser.close()
        await committer.aclose()
        await redis.aclose()
    deployment.remove()
    return {"jobs": jobs, "times": times, **found}


def sound(result: dict[str, Any]) -> bool:
    """Whether it opens in time, as a rule, also with nothing in the cache."""
    return all(
        result[name]["all_ms"]["median"] <= LIMIT_SECONDS * 1000 for name in ("cold", "warm")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        raise SystemExit("no Chromium: install it, or name it by CHROMIUM=PROGRAM")
    result = uvloop.run(measure(arguments.jobs, arguments.times, program))
    print(json.dumps({**result, "cold": _brief(result["cold"]), "warm": _brief(result["warm"])}))
    verdict = "ok" if sound(result) else "NOT OK"
    print(f"limit: {LIMIT_SECONDS:g} s, median of {arguments.times}: {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    raise SystemExit(0 if sound(result) else 1)


def _brief(opened: dict[str, Any]) -> dict[str, Any]:
    return {**opened, "requests": len(opened["requests"])}


if __name__ == "__main__":
    main()
