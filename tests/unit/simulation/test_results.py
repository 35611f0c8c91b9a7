"""Tables, files and pictures of what was simulated."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from small_grids import FAST_ONLY, HOUR, NOW, config, job, trace

from carbon_orchestrator import pictures
from carbon_orchestrator.pictures import PictureError
from carbon_orchestrator.simulation import forecasts, picture
from carbon_orchestrator.simulation.compare import Comparison, compare, fitting, idealise, span
from carbon_orchestrator.simulation.engine import Setup
from carbon_orchestrator.simulation.results import as_json, write_csv
from carbon_orchestrator.simulation.workload import WorkloadError

GRID = trace([300, 300, 200, 100, 100, 300, 300, 300, 300, 300, 300, 300])
JOBS = [job(0, 2, within=8), job(0, 1, within=2, number=1), job(0, 1, urgency="urgent", number=2)]


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare(
        JOBS,
        GRID,
        forecasts.perfect(GRID, 12),
        Setup(config=config("run_now"), pools=FAST_ONLY),
        ["run_now", "greenest_window"],
    )


def test_sums(compared: Comparison) -> None:
    at_once, planned = compared.outcomes
    assert (at_once.policy, planned.policy) == ("run_now", "greenest_window")
    assert at_once.emissions_ug == at_once.run_now_ug == 1_200_000_000
    assert planned.emissions_ug == planned.optimum_ug == 800_000_000
    assert (at_once.saved, planned.saved) == (0, pytest.approx(1 / 3))
    assert (at_once.of_optimum, planned.of_optimum) == (0, 1)
    assert planned.mean_wait_ms == HOUR
    assert planned.p95_wait_ms == pytest.approx(2.7 * HOUR)
    assert (planned.missed, planned.segments, planned.eco_share) == (0, 3, 0)
    assert planned.energy_mj == 4 * HOUR * 1000


def test_nothing_to_save() -> None:
    flat = trace([100] * 12)
    found = compare(
        JOBS[2:],
        flat,
        forecasts.perfect(flat, 12),
        Setup(config=config("run_now"), pools=FAST_ONLY),
        ["greenest_slots"],
    )
    assert found.outcomes[0].of_optimum is None


def test_as_json(compared: Comparison) -> None:
    rows = as_json(compared.outcomes)
    assert [row["fraction_of_optimum"] for row in rows] == [0, 1]
    assert rows[1]["saved"] == 0.333333


def test_a_row_a_job(compared: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_csv(path, compared.runs, compared.optima)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["policy"] for row in rows] == ["run_now"] * 3 + ["greenest_window"] * 3
    assert rows[3]["started"] == "2020-01-01T15:00:00.000Z"
    assert float(rows[3]["emissions_g"]) == float(rows[3]["optimum_g"]) == 200
    assert rows[3]["reason"].startswith("dispatched on FAST: 100 g/kWh expected")


def test_jobs_beyond_the_trace_are_left_out() -> None:
    settings = config("run_now")
    jobs = [job(0, 1, within=12), job(1, 1, within=12, number=1), job(-1, 1, number=2)]
    assert fitting(jobs, GRID, settings) == jobs[:1]
    with pytest.raises(WorkloadError, match="must overlap"):
        fitting(jobs[1:], GRID, settings)
    assert span(jobs[:1], GRID, settings) == (0, 12, 13)


def test_idealised() -> None:
    ideal = idealise(config("run_now", min_saving=0.5, resume=9, slowdown=2, energy=0.5, margin=3))
    assert ideal.margin == 0
    assert (ideal.greenest.min_saving, ideal.greenest.resume_cost) == (0, 0)
    assert {(pool.slowdown, pool.energy) for pool in ideal.pools.values()} == {(1.0, 1.0)}


def test_power_of_a_run() -> None:
    found = compare(
        [job(0.5, 2, within=2)],
        GRID,
        forecasts.perfect(GRID, 12),
        Setup(config=config("run_now"), pools=FAST_ONLY),
        ["run_now"],
    )
    kw = picture.power(found.runs["run_now"].fates, NOW, NOW + 4 * HOUR, HOUR)
    assert kw.tolist() == [0.5, 1, 0.5, 0]
    late = picture.power(found.runs["run_now"].fates, NOW + HOUR, NOW + 4 * HOUR, HOUR)
    assert late.tolist() == [1, 0.5, 0]


def draw(path: Path, compared: Comparison) -> bytes:
    fates = {policy: run.fates for policy, run in compared.runs.items()}
    picture.draw(path, GRID, fates, compared.outcomes, "a title")
    return path.read_bytes()


def test_a_picture(compared: Comparison, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = draw(tmp_path / "out.svg", compared)
    assert text.startswith(b"<?xml")
    for word in (b"a title", b"greenest_window", b"optimum 33.3 %", b"33.3 %"):
        assert word in text
    assert text == draw(tmp_path / "again.svg", compared)
    assert draw(tmp_path / "out.png", compared).startswith(b"\x89PNG")


def test_a_picture_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"a picture is \.svg or \.png"):
        pictures.check(tmp_path / "out.pdf")


def test_a_picture_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PictureError, match=r"install carbon-orchestrator\[plot\]"):
        pictures.check(tmp_path / "out.svg")


def test_the_busiest_week() -> None:
    long = trace(np.full(24 * 30, 100.0).tolist())
    fates = (
        compare(
            [job(n, 1, within=2, number=n) for n in (0, 300, 310, 320, 600)],
            long,
            forecasts.perfect(long, 12),
            Setup(config=config("run_now"), pools=FAST_ONLY),
            ["run_now"],
        )
        .runs["run_now"]
        .fates
    )
    start, end = picture.busiest(fates, long)
    assert start <= NOW + 300 * HOUR
    assert end >= NOW + 320 * HOUR
    assert end - start == 7 * 24 * HOUR
