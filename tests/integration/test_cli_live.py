"""What the command line shows as it happens, and of the grid."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cli_program import ROOT, Cli, Terminal, running, status_of

from carbon_orchestrator import SyncClient


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with running(tmp_path_factory.mktemp("up")) as cli:
        yield cli


# -- watch ---------------------------------------------------------------------------------------


@contextmanager
def jobs_coming(cli: Cli) -> Iterator[None]:
    """Whoever begins to listen now or later hears of some."""
    enough = threading.Event()

    def submit() -> None:
        with SyncClient(cli.url) as client:
            while not enough.wait(0.3):
                client.submit("hello", urgency="urgent")

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(20)


def watched(last: str, *arguments: str, least: int = 1) -> list[dict[str, Any]]:
    """What `watch --json` prints, so many events at least, up to the first of a type."""
    command = [sys.executable, "-m", "carbon_orchestrator", "watch", "--json", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told: list[dict[str, Any]] = []
            while len(told) < least or told[-1]["type"] != last:
                told.append(json.loads(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait(20)
    return told


def test_events_one_a_line_and_from_a_position_on(cli: Cli) -> None:
    types = "job.submitted,job.completed"
    with jobs_coming(cli):
        # The first may be the end of a job that came before: nothing of that job is after it.
        seen = watched("job.completed", "--type", types, least=2)
    assert {each["type"] for each in seen} <= set(types.split(","))
    assert all(each["position"] and each["stream"] and each["at"] for each in seen)
    job_id = seen[-1]["job"]
    told = watched("job.completed", "--job", job_id, "--after", seen[0]["position"])
    assert {each["job"] for each in told} == {job_id}
    assert told[-1]["id"] == seen[-1]["id"]


def test_events_as_lines_in_a_pipe(cli: Cli) -> None:
    command = [sys.executable, "-m", "carbon_orchestrator", "watch"]
    with (
        jobs_coming(cli),
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        line = ""
        while "job.dispatched" not in line:
            line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  job.dispatched  \S+ attempt 1 on ", line)
    assert process.returncode == 130


@pytest.mark.parametrize(("columns", "rows"), [(120, 40), (60, 18)])
def test_a_screen_that_ends_with_q(cli: Cli, columns: int, rows: int) -> None:
    terminal = Terminal("watch", columns=columns, rows=rows)
    terminal.until("WORKERS")
    job_id = cli.submitted("hello", "--urgency", "urgent")
    terminal.until(job_id[:10])
    terminal.until("job.completed")
    terminal.press("q")
    assert terminal.end() == 0
    text = terminal.seen.decode()
    assert "SIMULATED" in text
    assert "\x1b[?1049l" in text, "the screen as it was before"
    assert "Traceback" not in text


def test_a_screen_that_ends_with_an_interrupt(cli: Cli) -> None:
    terminal = Terminal("watch")
    terminal.until("WORKERS")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert b"\x1b[?1049l" in terminal.seen
    assert b"Traceback" not in terminal.seen


# -- following a job -----------------------------------------------------------------------------


def test_what_it_is_doing_stands_under_its_steps(cli: Cli) -> None:
    terminal = Terminal("submit", "sleeper", "--urgency", "urgent", "--wait", "--deadline", "9d")
    terminal.until("running for")
    terminal.press("\x03")
    assert terminal.end() == 130
    said = terminal.seen.decode()
    assert "goes on; follow it with" in said
    job_id = said.split()[0]
    assert cli("cancel", job_id).returncode == 0


# -- the grid ------------------------------------------------------------------------------------


def test_the_grid_as_rows_as_json_and_as_a_chart(cli: Cli) -> None:
    lines = cli("carbon").stdout.splitlines()
    assert "SIMULATED" in lines[0]
    assert lines[1].split() == ["TIME-(UTC)", "STARTS", "GCO2E/KWH", "LOW", "HIGH", "BAND"]
    assert len(lines) > 20
    grid = cli.json("carbon")
    assert grid["forecast"]
    terminal = Terminal("carbon", columns=90)
    assert terminal.end() == 0
    shown = terminal.seen.decode()
    assert all(word in shown for word in ("░", "█", "now", "low is up to"))
    nowhere = cli("carbon", "--zone", "atlantis")
    assert (nowhere.returncode, len(nowhere.stderr.splitlines())) == (1, 1)


def test_when_a_run_would_emit_the_least(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["carbon", "--duration", "1s", "--deadline", "12h"]) == 0
    assert capsys.readouterr().out.startswith("Start ")
    window = cli.json("carbon", "--duration", "1s", "--deadline", "12h")
    assert window["best"]["intensity"] <= window["now"]["intensity"]
    for wrong in (["--deadline", "2h"], ["--duration", "90d", "--deadline", "1h"]):
        assert status_of(["carbon", *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_would_be_decided_is_not_submitted(cli: Cli) -> None:
    before = len(cli.json("jobs")["jobs"])
    done = cli("submit", "hello", "--dry-run", "--urgency", "urgent")
    assert done.returncode == 0
    assert done.stdout.startswith("would  ")
    assert "nothing was submitted" in done.stderr
    plan = cli.json("submit", "hello", "--dry-run")
    assert plan["would"] in ("dispatch", "defer")
    assert cli("submit", "nonsense", "--dry-run").returncode == 2
    assert len(cli.json("jobs")["jobs"]) == before


def test_jobs_by_what_they_are(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    for urgency in ("urgent", "normal", "flexible"):
        asked = ["submit", "hello", "--urgency", urgency, "--project", "filters"]
        assert status_of(asked) == 0
    ids = capsys.readouterr().out.split()

    def listed(*arguments: str) -> list[str]:
        return [job["id"] for job in cli.json("jobs", "--project", "filters", *arguments)["jobs"]]

    assert listed() == ids[::-1]
    assert listed("--sort", "submitted_at") == ids
    assert listed("--urgency", "urgent,flexible") == [ids[2], ids[0]]
    assert listed("--urgency", "urgent", "--urgency", "flexible") == [ids[2], ids[0]]
    assert listed("--type", "sleeper") == []
    assert listed("--to", "2020-01-01T00:00Z") == []
    capsys.readouterr()
    assert status_of(["jobs", "--project", "filters", "--type", "sleeper"]) == 0
    out, error = capsys.readouterr()
    assert out == ""
    assert "type=sleeper" in error
    assert status_of(["jobs", "--sort", "mood"]) == 2


def test_colours_in_a_pipe_where_they_are_asked_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed() -> str:
        assert status_of(["jobs"]) == 0
        return capsys.readouterr().out

    assert status_of(["submit", "hello", "--urgency", "urgent"]) == 0
    assert "\x1b" not in listed()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in listed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in listed()
