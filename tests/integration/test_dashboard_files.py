"""The dashboard's files as a browser gets them: what is served, and under what policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from deployment import Deploy

from carbon_orchestrator import dashboard

ASSETS = Path(dashboard.__file__).parent / "assets"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_browser_gets_the_page_and_a_program_the_index(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    page = await house.http("GET", "/", headers=BROWSER)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    for accept in ("application/json", "*/*", ""):
        index = await house.http("GET", "/", headers={"Accept": accept})
        assert index.body["name"] == "carbon-orchestrator"
        assert "Accept" in index.headers["Vary"]
    assert "Accept" in page.headers["Vary"]


async def test_all_that_the_page_names_is_served_and_asked_again_cheaply(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    named = set(re.findall(r'"(/assets/[^"]+)"', (ASSETS / "index.html").read_text()))
    kept = {f"/assets/{each.parent.name}/{each.name}" for each in ASSETS.glob("*/*")}
    assert named <= kept
    for path in sorted(kept):
        whole = await house.http("GET", path, headers={"Accept-Encoding": "identity"})
        assert whole.status == 200, path
        assert whole.headers["Cache-Control"] == "no-cache"
        assert whole.headers["X-Content-Type-Options"] == "nosniff"
        again = await house.http("GET", path, headers={"If-None-Match": whole.headers["ETag"]})
        assert again.status == 304, path
        packed = await house.http("GET", path, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["ETag"] == whole.headers["ETag"]
        assert "Accept-Encoding" in packed.headers["Vary"]
        if int(whole.headers["Content-Length"]) > 1000:
            assert packed.headers["Content-Encoding"] == "gzip", path
            assert int(packed.headers["Content-Length"]) < int(whole.headers["Content-Length"])
        head = await house.http("HEAD", path, headers={"Accept-Encoding": "identity"})
        assert head.headers["Content-Length"] == whole.headers["Content-Length"], path


def test_all_that_the_overview_runs_is_asked_for_at_once() -> None:
    """No module waits for another one to be read to name it."""
    page = (ASSETS / "index.html").read_text()
    named = set(re.findall(r'"modulepreload" href="/assets/js/([^"]+)"', page)) | {"main.js"}
    needed, look = set[str](), ["main.js", "overview.js", "jobs.js"]
    while look:
        module = look.pop()
        if module not in needed:
            needed.add(module)
            text = (ASSETS / "js" / module).read_text()
            look += re.findall(r'^import [^"]*"\./([^"]+)";', text, re.MULTILINE)
    assert named == needed


@pytest.mark.parametrize(
    "path",
    [
        "/assets/js/none.js",
        "/assets/none/main.js",
        "/assets/js/..%2findex.html",
        "/assets/js/..%2f..%2f__init__.py",
        "/assets/vendor/made-from",
        "/assets/js/%00.js",
        "/assets/js/" + "x" * 300 + ".js",
    ],
)
async def test_nothing_else_is(deploy: Deploy, path: str) -> None:
    house = deploy()
    await house.gateway()
    answer = await house.http("GET", path)
    assert (answer.status, answer.body["type"]) == (
        404,
        "urn:carbon-orchestrator:problem:not-found",
    )


def test_no_markup_or_script_is_inline() -> None:
    page = (ASSETS / "index.html").read_text()
    assert not re.findall(r"<script(?![^>]*\bsrc=)", page)
    assert not re.findall(r"<style|\sstyle=|\son\w+=", page)
    for script in ASSETS.glob("js/*.js"):
        text = script.read_text()
        for never in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert never not in text, f"{never} in {script.name}"
        assert not re.findall(r"https?://(?!www\.w3\.org/)", text), script.name
