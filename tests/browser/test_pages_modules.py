"""Pure modules of the pages: a report's sum, and what a job's chart shows."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page
from test_modules import run

from carbon_orchestrator.accounting.report import report
from carbon_orchestrator.accounting.totals import METRICS

HOUR = 3_600_000
NOON = 1_590_969_600_000 + 12 * HOUR


def at(hours: float) -> str:
    """So long after midnight."""
    minutes = round(hours * 60)
    return f"2020-06-01T{minutes // 60:02}:{minutes % 60:02}:00.000Z"


async def test_rows_add_up_to_what_the_gateway_says_of_all(page: Page) -> None:
    totals = {
        "2020-06-01": {
            f"{metric}|{project}|sort|fast|GB".encode(): str(amount * (7 + 3 * i)).encode()
            for i, project in enumerate(("a", "b", "c"))
            for amount, metric in enumerate(METRICS, start=1)
        }
    }
    rows = [row.json() for row in report(totals, ("project",))]
    (whole,) = (row.json() for row in report(totals, ()))
    total = await run(page, "totals.js", "m.totalOf(a)", rows)
    for name, value in whole.items():
        if isinstance(value, float):
            assert total[name] == pytest.approx(value, abs=1e-4), name
        elif name not in ("methods", "sources"):
            assert total[name] == pytest.approx(value, abs=0.5), name
    assert (
        await run(
            page,
            "totals.js",
            "m.totalOf(a).share_reached",
            [dict(rows[0], bounded=0, bound_ug=0, bounded_ug=0, bounded_baseline_ug=0)],
        )
        is None
    )


def job(state: str, *steps: tuple[str, float], **more: Any) -> dict[str, Any]:
    timeline = [{"event": event, "at": at(hours), "pool": "eco"} for event, hours in steps]
    return {"state": state, "timeline": timeline, "submitted_at": timeline[0]["at"], **more}


async def chart(page: Page, shown: dict[str, Any]) -> dict[str, Any]:
    known = {
        "carbon": {
            "since": at(11.5),
            "intensity": 300,
            "forecast": [{"time": at(12 + n), "intensity": 200} for n in range(1, 11)],
        },
        "history": {"points": [{"time": at(9 + 0.8 * n), "intensity": 100 + n} for n in range(4)]},
    }
    argument = [shown, known, NOON]
    model: dict[str, Any] = await run(page, "job_chart.js", "m.chartModel(...a)", argument)
    return model


async def test_a_waiting_jobs_chart_shows_what_lies_ahead(page: Page) -> None:
    waiting = job(
        "deferred",
        ("submitted", 10),
        ("deferred", 10.001),
        planned_start=at(15),
        latest_start=at(16),
        planned_pool="eco",
        deadline=at(17),
    )
    model = await chart(page, waiting)
    assert [(each["label"], each["tone"]) for each in model["lines"]] == [
        ("submitted, deferred", "muted"),
        ("planned start", "accent"),
        ("latest start", "warn"),
        ("deadline", "bad"),
    ]
    (mark,) = model["marks"]
    assert (mark["pool"], mark["planned"], mark["at"]) == ("eco", True, NOON + 3 * HOUR)
    assert model["from"] < NOON - 2 * HOUR
    assert NOON + 5 * HOUR < model["to"] < NOON + 6 * HOUR
    assert model["history"][-1] == {"time": at(11.5), "intensity": 300}
    assert model["beyond"] is None
    far = await chart(page, {**waiting, "deadline": "2020-06-09T00:00:00Z"})
    assert "deadline" not in [each["label"] for each in far["lines"]]
    assert far["beyond"] is not None
    assert far["to"] < NOON + 6 * HOUR


async def test_an_ended_jobs_chart_ends_with_it(page: Page) -> None:
    steps = ("submitted", 8.5), ("dispatched", 9), ("started", 9.5), ("completed", 10)
    model = await chart(page, job("completed", *steps))
    assert [each["label"] for each in model["lines"]] == [name for name, _ in steps]
    (mark,) = model["marks"]
    assert (mark["pool"], mark["planned"], mark["label"]) == ("eco", False, "started")
    assert model["forecast"] == []
    assert NOON - 2 * HOUR < model["to"] < NOON
    # The last value that held, to the edge.
    assert [each["intensity"] for each in model["history"]] == [100, 101, 102, 102]
    assert model["history"][-1]["time"] == at(model["to"] / HOUR - NOON / HOUR + 12)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\u001b[1;31mred\u001b[0m and plain\n", "red and plain\n"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("0 %\r50 %\r100 %\ndone\n", "100 %\ndone\n"),
        ("\r0 %\r50 %", "50 %"),
        ("before\n  10 %\r  20 %\r", "before\n  20 %"),
        ("\u001b]0;a title\u0007text", "text"),
    ],
)
async def test_what_is_written_for_a_terminal_is_plain_text_however_it_is_cut(
    page: Page, written: str, shown: str
) -> None:
    script = """[...a].map((_, i) => {
        const plain = new m.Plain();
        let text = "";
        for (const [piece, last] of [[a.slice(0, i), false], [a.slice(i), true]]) {
            const more = plain.push(piece, last);
            text = text.slice(0, text.length - more.erase) + more.text;
        }
        return text;
    })"""
    if "]0;" in written:  # a title is known in one piece only
        script = "[new m.Plain().push(a, true).text]"
    assert set(await run(page, "terminal.js", script, written)) == {shown}
