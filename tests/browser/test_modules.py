"""The dashboard's pure modules, in the browser that runs them."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page


async def run(page: Page, module: str, expression: str, argument: Any = None) -> Any:
    """An expression over a module `m` and the argument `a`."""
    # Of the same origin, without the dashboard's own requests.
    await page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    await page.goto("/livez")
    script = (
        f"async (a) => {{ const m = await import('/assets/js/{module}'); return {expression} }}"
    )
    return await page.evaluate(script, argument)


async def test_figures_read_well(page: Page) -> None:
    cases: list[tuple[str, list[Any]]] = [
        ("grams", [0, 1, 999, 1_234_000, -2_500_000_000, 7.2e12, None]),
        ("energy", [0, 20, 1_500, 3.6e6, 3.6e9, 9e12, None]),
        (
            "duration",
            [0, 340, 1_240, 9_990, 59_400, 60_000, 7_500_000, 3.6e6, 1.8e8, 8.64e7 * 3, -60_000],
        ),
        ("percent", [0, 0.0123, 0.244, 1, -0.5, None]),
        ("count", [0, 100_000, None]),
        ("figure", [0, 0.000123, 1.005, 99.95, 123456]),
    ]
    told = await run(
        page, "format.js", "a.map(([f, values]) => [f, values.map((v) => m[f](v))])", cases
    )
    assert dict(told) == {
        "grams": ["0 g", "1 µg", "999 µg", "1.23 g", "-2.5 kg", "7.2 t", "–"],
        "energy": ["0 Wh", "20 mJ", "1.5 J", "1 Wh", "1 kWh", "2.5 MWh", "–"],
        "duration": [
            "0 ms",
            "340 ms",
            "1.2 s",
            "10 s",
            "59 s",
            "1 min",
            "2 h 5 min",
            "1 h",
            "2 d 2 h",
            "3 d",
            "−1 min",
        ],
        "percent": ["0 %", "1.2 %", "24 %", "100 %", "-50 %", "–"],
        "count": ["0", "100,000", "–"],
        "figure": ["0", "0.000123", "1", "100", "123,456"],
    }


async def test_event_frames_come_whole_however_they_are_cut(page: Page) -> None:
    stream = (
        'retry: 2000\n\n: heartbeat\n\nid: 1-0/0\nevent: job.started\ndata: {"a":1}\n\n'
        'id: 2-0/0\r\nevent: job.completed\r\ndata: {"b":\r\ndata: 2}\r\n\r\n'
        "event: gap\ndata: {}\n\n"
    )
    script = """[1, 2, 3, 7, 1000].map((size) => {
        const frames = new m.Frames();
        const events = [];
        for (let at = 0; at < a.length; at += size) {
            events.push(...frames.push(a.slice(at, at + size)));
        }
        return events.map((each) => [each.id, each.type, JSON.parse(each.data)]);
    })"""
    for events in await run(page, "live.js", script, stream):
        assert events == [
            ["1-0/0", "job.started", {"a": 1}],
            ["2-0/0", "job.completed", {"b": 2}],
            [None, "gap", {}],
        ]


async def test_the_curve_keeps_holes_and_sets_on_now(page: Page) -> None:
    minute = 60_000
    history = [{"time": at * minute, "intensity": at} for at in (0, 30, 60, 300, 330)]
    forecast = [{"time": 360 * minute, "intensity": 5, "low": 4, "high": 6}]
    told = await run(
        page,
        "curve.js",
        "m.columns(a.history, a.forecast, a.now, [a.now + 600000])",
        {"history": history, "forecast": forecast, "now": 340 * minute},
    )
    assert [each / 60 for each in told["x"]] == [0, 30, 60, 90, 300, 330, 340, 350, 360]
    assert told["past"] == [0, 30, 60, None, 300, 330, 330, None, None]
    assert told["ahead"][6:] == [330, None, 5]
    assert (told["low"][-1], told["high"][-1]) == (4, 6)
    value = "a.at.map((at) => m.valueAt(a.history, a.forecast, a.now, at * 60000))"
    asked = {
        "history": history,
        "forecast": forecast,
        "now": 340 * minute,
        "at": [-1, 0, 45, 340, 350, 400],
    }
    assert await run(page, "curve.js", value, asked) == [None, 0, 30, 330, 330, 5]


async def test_banners_say_what_is_wrong_and_what_it_means(page: Page) -> None:
    well = {"signal": "ok", "simulated": False, "since": "1970-01-01T00:00:00Z"}
    cases = [
        [None, None],
        [None, "the gateway cannot be reached"],
        [{"no_consumers": ["router", "worker eco@FR"], "carbon": well}, None],
        [{"no_consumers": [], "carbon": {**well, "signal": "none", "unusable": "too old"}}, None],
        [
            {
                "no_consumers": [],
                "carbon": {**well, "signal": "degraded", "degraded": "from history"},
            },
            None,
        ],
        [{"no_consumers": [], "carbon": {**well, "simulated": True}}, None],
    ]
    script = (
        "a.map(([health, error]) => m.banners(health, error, 3600000).map((b) => [b.tone, b.text]))"
    )
    nothing, away, gone, none, degraded, simulated = await run(page, "banners.js", script, cases)
    assert nothing == []
    assert away[0][1].startswith("No answer: the gateway cannot be reached.")
    assert [tone for tone, _ in gone] == ["bad", "bad"]
    assert "nothing is decided" in gone[0][1]
    assert "no worker of ECO@FR is alive" in gone[1][1]
    assert "No carbon signal (too old)" in none[0][1]
    assert "degraded: from history" in degraded[0][1]
    assert simulated[0][0] == "info"
    fast = {"no_consumers": [], "carbon": {**well, "simulated": True, "clock": {"speed": 60}}}
    ((_, said),) = (await run(page, "banners.js", script, [[fast, None]]))[0]
    assert "60 times faster: an hour of waiting is over in 1 min." in said
    stale = "m.banners(a, null, 5 * 3600000)[0].text"
    assert "5 h old" in await run(page, "banners.js", stale, cases[2][0] | {"no_consumers": []})


async def test_reasons_do_not_repeat_the_state(page: Page) -> None:
    reasons = ["deferred: 368 g/kWh is high", "dispatched on ECO: it is high", "exit code 1", None]
    said = await run(page, "job_words.js", "a.map(m.plainReason)", reasons)
    assert said == ["368 g/kWh is high", "it is high", "exit code 1", ""]
