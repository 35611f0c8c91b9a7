"""What people see of a report."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from carbon_orchestrator.accounting import report_picture
from carbon_orchestrator.accounting.report import Row
from carbon_orchestrator.accounting.totals import METRICS
from carbon_orchestrator.cli.report_text import read, remarks, table, total
from carbon_orchestrator.pictures import PictureError

SUMS = {
    "attempts": 12,
    "completed": 8,
    "failed": 1,
    "energy_mj": 3_600_000_000,
    "emissions_ug": 500_000_000,
    "baseline_ug": 700_000_000,
    "restated_ug": -100_000_000,
    "restated": 3,
    "bounded": 9,
    "bounded_baseline_ug": 600,
    "bounded_ug": 300,
    "bound_ug": 200,
    "deadlines_missed": 1,
    "wait_ms": 8 * 60_000,
    "uncertain_mj": 360_000_000,
    "wasted_ug": 1_000_000,
    "unpriced_mj": 1000,
}


def row(**group: str) -> Row:
    return Row(group, {**dict.fromkeys(METRICS, 0), **SUMS}, {"rapl-cpu-share+nvml": 5}, {"s": 1})


def told(rows: list[Row], by: list[str]) -> Any:
    return {"by": by, "rows": [each.json() for each in rows]}


def test_what_the_gateway_told_is_read_back() -> None:
    rows = [row(day="2026-03-01", pool="eco"), row(day="2026-03-02", pool="fast")]
    assert read(told(rows, ["day", "pool"])) == rows


def test_figures_are_those_known_by_now() -> None:
    columns, lines = table(["pool"], [row(pool="eco"), row(pool="fast")])
    shown = dict(zip([each.title for each in columns], lines[0], strict=True))
    assert shown["pool"] == "ECO"
    assert (shown["emitted"], shown["baseline"], shown["avoided"]) == ("400 g", "700 g", "300 g")
    assert (shown["%"], shown["of possible"], shown["waited"]) == ("+43 %", "75 %", "1m00s")
    assert [line[0] for line in lines] == ["ECO", "FAST", "total"]
    assert dict(zip([each.title for each in columns], lines[2], strict=True))["emitted"] == "800 g"


def test_a_narrow_terminal_shows_what_matters_most() -> None:
    rows = [row(project="a-project-of-some-length", zone="north")] * 2
    before = 99
    for width in range(140, 20, -1):
        columns, lines = table(["project", "zone"], rows, width)
        titles = [each.title for each in columns]
        assert titles[:3] == ["project", "zone", "jobs"]
        assert {"emitted", "avoided", "%"} <= set(titles)
        assert len(columns) <= before
        before = len(columns)
        widths = [
            max(len(each.title), *(len(line[at]) for line in lines))
            for at, each in enumerate(columns)
        ]
        if len(columns) > 6:  # what is always shown may need more
            assert sum(widths) + 2 * (len(widths) - 1) <= width


def test_every_figure_says_what_it_rests_on() -> None:
    rows = [row(day="2026-03-01"), row(day="2026-03-02")]
    rows[1].sources["neso, average, estimated"] = 6
    said = dict(remarks(total(rows)))
    assert "75 % neso (average, estimated); 25 % s" in said["emitted"]
    assert said["restated"].startswith("-200 g")
    assert "RAPL, shared by CPU time + NVML; ±10 %" in said["energy"]
    assert "18 of 24 attempts" in said["possible"]
    assert said["unpriced"].startswith("2 J")
    assert {"baseline", "wasted", "SCI", "waited", "days"} <= said.keys()
    nothing = Row({}, dict.fromkeys(METRICS, 0))
    assert dict(remarks(nothing)).keys() == {"emitted", "baseline", "energy", "days"}


@pytest.mark.parametrize("days", [1, 30, 200])
def test_a_picture_of_the_days(tmp_path: Path, days: int) -> None:
    pytest.importorskip("matplotlib")
    months = itertools.product(range(1, 13), range(1, 29))
    rows = [row(day=f"2026-{m:02}-{d:02}") for m, d in itertools.islice(months, days)]
    path = tmp_path / "report.svg"
    report_picture.draw(path, rows, "a title")
    drawn = path.read_text()
    assert "a title" in drawn
    assert ("a week" if days == 200 else "a day") in drawn
    report_picture.draw(tmp_path / "again.svg", rows, "a title")
    assert (tmp_path / "again.svg").read_text() == drawn
    with pytest.raises(PictureError, match=r"\.svg or \.png"):
        report_picture.draw(tmp_path / "report.pdf", rows, "a title")
