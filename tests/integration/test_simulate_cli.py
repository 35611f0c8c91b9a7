"""`carbon-orchestrator simulate` as people use it."""

from __future__ import annotations

import csv
import json
import math
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carbon_orchestrator.cli.faults import told
from carbon_orchestrator.cli.main import app

ROOT = Path(__file__).parents[2]
HOURS = 24 * 12


@pytest.fixture
def carbon(tmp_path: Path) -> Path:
    """Twelve days, green at night, and what was forecast of them."""
    path = tmp_path / "carbon.csv"
    lines = ["time,carbon intensity,day ahead"]
    for hour in range(HOURS):
        value = 300 + 150 * math.sin(hour / 24 * 2 * math.pi) + hour * 7 % 13
        day, clock = 1 + hour // 24, hour % 24
        lines.append(f"2021-03-{day:02} {clock:02}:00,{value:.1f},{value + 20:.1f}")
    path.write_text("\n".join(lines))
    return path


def status_of(*arguments: object) -> int:
    try:
        return told(app, ["simulate", *map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)


def simulated(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert status_of(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_of_all_policies(carbon: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--jobs", "generated:200", "--carbon", carbon) == 0
    shown = capsys.readouterr()
    titles, *rows = shown.out.splitlines()
    assert titles.split()[:3] == ["POLICY", "EMITTED", "SAVED"]
    names = ["run_now", "threshold", "greenest_window", "greenest_slots"]
    assert [row.split()[0] for row in rows] == names
    assert shown.err == ""  # no bar in a pipe


def test_figures_files_and_a_picture(
    carbon: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    rows, picture = tmp_path / "out.csv", tmp_path / "out.svg"
    found = simulated(
        capsys,
        *("--jobs", "generated:300", "--carbon", carbon, "--idealised", "--pools", "fast"),
        *("--policy", "run_now", "--policy", "greenest_slots", "--csv", rows, "--plot", picture),
    )
    at_once, planned = found["policies"]
    assert (at_once["saved"], at_once["mean_wait_ms"]) == (0, 0)
    assert planned["saved"] > 0.1
    assert 0.9 < planned["fraction_of_optimum"] <= 1
    assert planned["missed"] == 0
    assert planned["energy_mj"] == pytest.approx(at_once["energy_mj"], rel=1e-6)
    with rows.open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * found["jobs"]
    grams = sum(float(row["emissions_g"]) for row in table if row["policy"] == "greenest_slots")
    assert grams == pytest.approx(planned["emissions_ug"] / 1e6, rel=1e-6)
    assert picture.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    "forecast",
    [
        ("own",),
        ("noise:0.1:3",),
        ("noise:0.1:3", "--raw-forecast"),
        ("column:day ahead", "--raw-forecast"),
        ("column:day ahead",),
    ],
)
def test_other_forecasts_never_beat_a_perfect_one_by_much(
    carbon: Path, capsys: pytest.CaptureFixture[str], forecast: tuple[str, ...]
) -> None:
    asked = ("--jobs", "generated:100", "--carbon", carbon, "--policy", "greenest_window")
    (perfect,) = simulated(capsys, *asked)["policies"]
    (other,) = simulated(capsys, *asked, "--forecast", *forecast)["policies"]
    assert 0 < other["saved"] <= perfect["saved"] + 0.002
    assert other["missed"] == 0


def test_capacity_and_learned_lengths(carbon: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--jobs", "generated:150", "--carbon", carbon, "--policy", "greenest_window")
    (free,) = simulated(capsys, *asked)["policies"]
    (crowded,) = simulated(capsys, *asked, "--capacity", "fast=2,eco=1")["policies"]
    assert crowded["emissions_ug"] > free["emissions_ug"]
    (learned,) = simulated(capsys, *asked, "--lengths", "learned")["policies"]
    assert learned["emissions_ug"] != free["emissions_ug"]


def test_a_file_of_jobs_and_one_without_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, values = tmp_path / "jobs.csv", tmp_path / "values.csv"
    jobs.write_text("submitted,length,deadline,watts\n0,1h,6h,1000\n1h,1h,90h,1000\n")
    values.write_text("\n".join(map(str, [300, 200, 100, 300, 300, 300, 300, 300])))
    asked = ("--jobs", jobs, "--carbon", values, "--carbon-start", "2020-01-01T00:00Z")
    assert status_of(*asked, "--carbon-step", "1h", "--policy", "greenest_window") == 0
    assert "1 jobs left out" in capsys.readouterr().err
    found = simulated(
        capsys, *asked, "--carbon-step", "1h", "--policy", "greenest_window", "--pools", "fast"
    )
    assert found["left_out"] == 1
    assert found["policies"][0]["emissions_ug"] == 100_000_000
    assert found["policies"][0]["saved"] == pytest.approx(2 / 3, abs=1e-6)
    assert status_of(*asked) == 2
    assert "--carbon-start needs --carbon-step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--jobs", "generated:0"), "needs a number of jobs"),
        (("--jobs", "none.csv"), "none.csv: there is no such file; give --jobs FILE"),
        (("--carbon", "none.csv"), "none.csv"),
        (("--forecast", "crystal"), "write perfect, own, noise"),
        (("--forecast", "column:x"), "no column 'x'"),
        (("--capacity", "fast"), "write POOL=JOBS"),
        (("--capacity", "eco=3", "--pools", "fast"), "write POOL=JOBS"),
        (("--pools", "slow"), "write fast, eco or fast,eco"),
        (("--plot", "out.pdf"), "a picture is .svg or .png"),
        (("--carbon-step", "1s"), "a minute or more"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    carbon: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    given = {"--jobs": "generated:10", "--carbon": str(carbon)}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert status_of(*[part for pair in given.items() for part in pair]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_terminal_gets_a_bar(carbon: Path) -> None:
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "carbon_orchestrator", "simulate"]
    asked = ["--jobs", "generated:20", "--carbon", str(carbon), "--forecast", "own"]
    process = subprocess.Popen(
        [*command, *asked],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(terminal)
    seen = b""
    try:
        while select.select([master], [], [], 30)[0] and (more := os.read(master, 65536)):
            seen += more
    except OSError:  # how Linux tells the end of a terminal
        pass
    finally:
        os.close(master)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"greenest_slots" in out
    assert b"forecasts" in seen
    assert b"%" in seen
