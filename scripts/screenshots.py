"""Remakes the dashboard's pictures in docs/images: a deployment over a day and a half of a
simulated grid, whose jobs wait for its dips, in Chromium.

.venv/bin/python scripts/screenshots.py     takes three minutes; needs what tests/browser needs
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SPEED = 900
#: Seconds of the wall for which jobs come in: at this speed, 38 hours.
LASTS = 152
WORK = """
import sys, time
print("reading", sys.stdin.read())
began = time.process_time()
while time.process_time() - began < {cpu}: pass
time.sleep({wait})
print("done")
"""
CONFIG = """
policy = "greenest_window"
[pools.fast]
slots = 3
[pools.eco]
slots = 2
slowdown = 1.6
energy = 0.7
""" + "".join(
    f"""
[types.{name}]
command = ["{{python}}", "-c", {json.dumps(WORK.format(cpu=cpu, wait=wait))}]
expected_duration = "{minutes}m"
"""
    for name, cpu, wait, minutes in [
        ("fine-tune", 0.5, 2.0, 45),
        ("evaluate", 0.25, 0.5, 15),
        ("embed", 0.1, 0.2, 8),
    ]
)
JOBS = [
    {"type": "fine-tune", "urgency": "flexible", "project": "vision", "deadline": "22h"},
    {"type": "fine-tune", "urgency": "normal", "project": "search", "deadline": "18h"},
    {"type": "evaluate", "urgency": "normal", "project": "search", "deadline": "12h"},
    {"type": "evaluate", "urgency": "flexible", "project": "vision", "deadline": "18h"},
    {"type": "embed", "urgency": "flexible", "project": "archive", "deadline": "26h"},
    {"type": "embed", "urgency": "urgent", "project": "search"},
]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def submit(url: str, job: Any) -> str:
    request = urllib.request.Request(
        f"{url}/jobs", json.dumps(job).encode(), {"Content-Type": "application/json"}
    )
    return str(get(request)["id"])  # type: ignore[arg-type]


def keep_submitting(url: str) -> None:
    """Until the deployment is gone."""
    try:
        while True:
            submit(url, random.choice(JOBS))
            time.sleep(random.uniform(0.8, 2.4))
    except OSError:
        pass


def up(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A running deployment and its address."""
    (data / "carbon.toml").write_text(CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("carbon-orchestrator")
    arguments = ["--data", data / "data", "--config", data / "carbon.toml", "--redis-port", "0"]
    arguments += ["--speed", SPEED, "--start", "2026-06-02T04:00Z", "--port", port]
    running = subprocess.Popen([program, "up", *map(str, arguments)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            if get(f"{url}/health")["status"] == "ok":
                return running, url
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    running.terminate()
    raise SystemExit("the deployment does not come up")


def picture(page: Page, name: str) -> None:
    """At most 150 KB, as these are kept in the repository."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    if path.stat().st_size > 150_000:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} KB")


def main() -> None:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        raise SystemExit("no Chromium: install it, or name it by CHROMIUM=PROGRAM")
    IMAGES.mkdir(exist_ok=True)
    random.seed(5)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        running, url = up(Path(directory))
        try:
            threading.Thread(target=keep_submitting, args=[url], daemon=True).start()
            time.sleep(LASTS)
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=program, args=arguments)
            for name, width, height, scheme, address in shots(url):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = context.new_page()
                page.goto(url + address)
                page.wait_for_load_state("load")
                page.locator("h1").wait_for(state="attached")
                page.wait_for_timeout(2500)  # for all that it asks for after that
                picture(page, name)
                context.close()
        finally:
            running.terminate()
            running.wait(30)


def shots(url: str) -> list[tuple[str, int, int, Any, str]]:
    """Name, width, height, scheme and address of each."""
    waiting = get(f"{url}/jobs?state=deferred&limit=1")["jobs"]
    ended = get(f"{url}/jobs?state=completed&limit=1")["jobs"]
    job = (waiting or ended)[0]["id"]
    return [
        ("overview", 1280, 1000, "light", "/"),
        ("overview-dark", 1280, 1000, "dark", "/"),
        ("job", 1280, 1000, "light", f"/#/jobs/{job}"),
        ("report", 1280, 800, "light", "/#/report"),
        ("phone", 360, 800, "dark", "/"),
    ]


if __name__ == "__main__":
    main()
