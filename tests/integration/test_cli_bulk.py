"""Many jobs from a file or a pipe, as people submit them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_program import NOWHERE, ROOT, Cli, Terminal, running, status_of


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with running(tmp_path_factory.mktemp("up")) as cli:
        yield cli


def jobs_of(cli: Cli, project: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.json("jobs", "--project", project, "--limit", "1000")["jobs"]
    return found


def ndjson(path: Path, *jobs: Any) -> str:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in jobs]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_wrong_lines_are_told_by_number_and_the_others_taken(cli: Cli, tmp_path: Path) -> None:
    right = {"type": "hello", "project": "lines"}
    file = ndjson(
        tmp_path / "jobs.ndjson",
        right,
        {"type": "nonsense"},
        "",
        "{no json",
        {**right, "deadline": "soon"},
        {**right, "payload": {"n": 5}},
    )
    done = cli("submit", "--file", file)
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 2, "ids, alone"
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told[:3]] == ["line 2", "line 4", "line 5"]
    assert "hello" in told[0], "what would have been right"
    assert "deadline" in told[2]
    assert told[3] == "2 submitted, 3 refused"
    jobs = jobs_of(cli, "lines")
    assert sorted(each["id"] for each in jobs) == sorted(done.stdout.split())


def test_what_was_refused_is_mended_and_nothing_made_twice(cli: Cli, tmp_path: Path) -> None:
    right = {"type": "hello", "project": "mended"}
    wrong = {**right, "urgency": "flexibel"}
    file = ndjson(tmp_path / "jobs.ndjson", right, wrong, {**right, "payload": {"n": 3}})
    first = cli("submit", "--file", file)
    assert "an urgency is urgent, normal or flexible, not 'flexibel'" in first.stderr
    key = first.stderr.rpartition("--idempotency-key ")[2].split(":")[0]
    ndjson(tmp_path / "jobs.ndjson", right, right, {**right, "payload": {"n": 3}})
    second = cli("submit", "--file", file, "--idempotency-key", key)
    assert (second.returncode, second.stderr) == (0, "1 submitted, 2 there already\n")
    assert len(jobs_of(cli, "mended")) == 3
    ndjson(tmp_path / "jobs.ndjson", right, {**right, "payload": {"n": 3}})
    moved = cli("submit", "--file", file, "--idempotency-key", key)
    assert moved.returncode == 2
    assert "line 2" in moved.stderr
    assert "by their place in the file" in moved.stderr


def test_the_same_file_again_makes_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    job = {"type": "hello", "project": "again"}
    file = ndjson(tmp_path / "jobs.ndjson", *[job] * 3)
    first = cli("submit", "--file", file, "--idempotency-key", "night")
    ndjson(tmp_path / "jobs.ndjson", *[job] * 5)
    second = cli("submit", "--file", file, "--idempotency-key", "night")
    assert second.stdout.split()[:3] == first.stdout.split()
    assert second.stderr.splitlines() == ["2 submitted, 3 there already"]
    assert len(jobs_of(cli, "again")) == 5


def test_arrays_pipes_and_json(cli: Cli, tmp_path: Path) -> None:
    job = {"type": "hello", "project": "ways", "payload": {"big": 12345678901234567890123}}
    (tmp_path / "jobs.json").write_text(json.dumps([job, {"type": 7}], indent=2))
    told = cli("submit", "--file", str(tmp_path / "jobs.json"), "--json")
    one, other = map(json.loads, told.stdout.splitlines())
    assert (told.returncode, one["line"], one["repeated"]) == (2, 1, False)
    assert (other["line"], other["field"]) == (2, "type")
    piped = cli("submit", "-", stdin=json.dumps(job))
    assert (piped.returncode, piped.stderr) == (0, "1 submitted\n")
    array = cli("submit", "--file", "-", stdin=f"  \n[{json.dumps(job)}]")
    ids = [one["id"], *piped.stdout.split(), *array.stdout.split()]
    assert sorted(ids) == sorted(each["id"] for each in jobs_of(cli, "ways"))
    for job_id in ids:
        assert cli.json("job", job_id)["payload"] == job["payload"]


def test_thousands_keep_their_order(cli: Cli, tmp_path: Path) -> None:
    jobs = [
        {"type": "hello", "labels": {"n": str(n % 7)}, "idempotency_key": f"order-{n % 7}"}
        for n in range(2500)
    ]
    done = cli("submit", "--file", ndjson(tmp_path / "jobs.ndjson", *jobs))
    assert (done.returncode, done.stderr) == (0, "7 submitted, 2493 there already\n")
    ids = done.stdout.split()
    assert ids == [ids[n % 7] for n in range(2500)]
    assert [cli.json("job", each)["labels"] for each in ids[:7]] == [
        {"n": str(n)} for n in range(7)
    ]


def test_they_are_waited_for(cli: Cli, tmp_path: Path) -> None:
    urgent = {"type": "hello", "urgency": "urgent"}
    file = ndjson(tmp_path / "jobs.ndjson", urgent, urgent)
    done = cli("submit", "--file", file, "--wait", "--wait-timeout", "30s")
    assert (done.returncode, done.stderr) == (0, "2 completed\n")
    file = ndjson(tmp_path / "jobs.ndjson", urgent, {"type": "broken", "urgency": "urgent"})
    done = cli("submit", "--file", file, "--wait", "--wait-timeout", "30s", "--json")
    assert done.returncode == 1
    ended = [json.loads(line) for line in done.stdout.splitlines()][2:]
    assert sorted(each["state"] for each in ended) == ["completed", "failed"]


def test_a_bar_on_a_terminal(cli: Cli, tmp_path: Path) -> None:
    file = ndjson(tmp_path / "jobs.ndjson", *[{"type": "hello", "urgency": "urgent"}] * 20)
    terminal = Terminal("submit", "--file", file)
    assert terminal.end() == 0
    assert b"20 submitted" in terminal.seen


def test_a_pipe_that_goes_on_is_submitted_as_it_comes(cli: Cli) -> None:
    command = [sys.executable, "-m", "carbon_orchestrator", "submit", "-"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write('{"type": "hello", "urgency": "urgent"}\n')
            process.stdin.flush()
            assert process.stdout.readline().strip(), "an id, before there is more"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "2 submitted" in error
    assert "--idempotency-key cli-" in error, "how to go on"


def test_what_is_wrong_with_all_of_it_is_one_line(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = ndjson(tmp_path / "jobs.ndjson", {"type": "hello"})
    (tmp_path / "bad.json").write_text("[{}")
    for arguments, status, word in (
        (["submit"], 2, "TYPE"),
        (["submit", "hello", "--file", good], 2, "one of these"),
        (["submit", "--file", good, "--urgency", "urgent"], 2, "--urgency"),
        (["submit", "--file", good, "--label", "a=b"], 2, "--label"),
        (["submit", "--file", good, "--dry-run"], 2, "--dry-run"),
        (["submit", "--file", str(tmp_path / "none")], 2, "No such file"),
        (["submit", "--file", str(tmp_path / "bad.json")], 2, "not JSON"),
        (["submit", "--file", good, "--url", f"http://{NOWHERE}"], 3, "--idempotency-key"),
        (["submit", "hello", "--frobnicate"], 2, "Unknown option"),
    ):
        assert status_of(arguments) == status, arguments
        out, error = capsys.readouterr()
        assert word in error
        assert len(error.splitlines()) == 1
        assert not out
    monkeypatch.setenv("CARBON_API_KEY_FILE", os.devnull)
    assert status_of(["submit", "--file", good]) == 2
