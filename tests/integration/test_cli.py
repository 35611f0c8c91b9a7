"""The command line as people use it: the real program against one real `up`."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_program import NOWHERE, ROOT, Cli, Terminal, running, status_of, until


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with running(tmp_path_factory.mktemp("up")) as cli:
        yield cli


def test_submit_wait_tells_each_step_and_what_it_cost(cli: Cli) -> None:
    done = cli.program("submit", "hello", "--wait", "--wait-timeout", "30s")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines[0].split()) == 1, "the id stands alone"
    told = [line.split()[2] for line in lines[1:] if line[:4].isdigit()]
    steps = ["submitted", "dispatched", "started", "completed"]
    assert [step for step in told if step != "deferred"] == steps
    words = {line.split()[0] for line in lines}
    assert {"outcome", "energy", "emitted", "baseline", "avoided"} <= words
    assert "SIMULATED" in done.stdout


def test_a_failed_job_gives_status_1_and_its_output_cannot_touch_the_terminal(cli: Cli) -> None:
    done = cli.program("submit", "broken", "--urgency", "urgent", "--wait", "--wait-timeout", "30s")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert r"\x1b[31mboom" in done.stdout
    assert "exit code 3" in done.stdout


def test_what_is_submitted_arrives_as_it_was_given(cli: Cli, tmp_path: Path) -> None:
    payload = '{"big": 123456789012345678901234567890, "text": "ä"}'
    (tmp_path / "payload.json").write_text(payload)
    ways = (("@" + str(tmp_path / "payload.json"), ""), ("-", payload), (payload, ""))
    options = ["--urgency", "urgent", "--project", "vision", "--label", "a=1", "--label", "b=x=y"]
    for given, stdin in ways:
        done = cli("submit", "hello", "--payload", given, *options, "--deadline", "6h", stdin=stdin)
        assert done.returncode == 0, done.stderr
        job_id = done.stdout.strip()
        assert job_id in done.stderr, "how to follow it"
    until(lambda: cli.state(job_id) == "completed")
    job = cli.json("job", job_id)
    assert job["payload"] == json.loads(payload)
    assert (job["project"], job["labels"]) == ("vision", {"a": "1", "b": "x=y"})
    assert job["deadline"] is not None
    assert payload in job["runs"][0]["output"], "byte for byte"
    shown = cli("job", job_id).stdout
    assert all(word in shown for word in ("a=1, b=x=y", "cpu-time-model", "± 50 %", "Timeline"))


def test_a_job_is_submitted_again_as_it_was_but_for_what_is_given(cli: Cli) -> None:
    options = ["--urgency", "urgent", "--project", "vision", "--label", "a=1", "--timeout", "1m"]
    options += ["--max-attempts", "2", "--expected-duration", "5s", "--payload", '{"n": 1}']
    first = cli.submitted("hello", *options, "--deadline", "6h", "--interruptible")
    again = cli.submitted("--like", first, "--project", "search")
    before, after = cli.json("job", first), cli.json("job", again)
    assert again != first
    assert (before["project"], after["project"]) == ("vision", "search")
    assert before["deadline"] is not None
    assert after["deadline"] is None
    same = ["type", "urgency", "labels", "timeout", "max_attempts", "expected_duration"]
    for name in (*same, "payload", "interruptible", "zones"):
        assert after[name] == before[name], name
    failing = cli.submitted("broken", "--like", first, "--payload", "{}", "--max-attempts", "1")
    other = cli.json("job", failing)
    assert (other["type"], other["payload"], other["labels"]) == ("broken", {}, {"a": "1"})
    until(lambda: cli.state(failing) == "failed")
    assert f"carbon-orchestrator submit --like {failing}" in cli("job", failing).stderr
    assert cli("submit", "--like", "none-such-0").returncode == 1


def test_one_idempotency_key_is_one_job(cli: Cli) -> None:
    options = ["--urgency", "urgent", "--idempotency-key", "once"]
    first = cli.submitted("hello", *options)
    assert cli.submitted("hello", *options) == first
    other = cli("submit", "hello", *options, "--payload", '{"other": 1}')
    assert other.returncode == 2
    assert len(other.stderr.splitlines()) == 1


def test_mistakes_are_one_line_and_status_2(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, word in (
        (["submit", "nonsense"], "hello"),
        (["submit", "hello", "--payload", "[1]"], "JSON object"),
        (["submit", "hello", "--payload", "@/no/such/file"], "No such file"),
        (["submit", "hello", "--label", "x"], "NAME=VALUE"),
        (["submit", "hello", "--deadline", "soon"], "deadline"),
        (["submit", "--like", "a-0", "--file", "jobs.ndjson"], "--file"),
        (["jobs", "--state", "lost"], "lost"),
        (["report", "--by", "mood"], "project"),
        (["dead-letters", "drop", "--all"], "--yes"),
        (["dead-letters", "retry"], "--all"),
        (["dead-letters", "show", "x"], "no dead letter's id"),
    ):
        assert status_of(arguments) == 2, arguments
        out, error = capsys.readouterr()
        assert word in error
        assert len(error.splitlines()) == 1
        assert not out


def test_what_cannot_be_reached_is_one_line_and_status_3(cli: Cli) -> None:
    for arguments in (
        ["jobs", "--url", f"http://{NOWHERE}"],
        ["doctor", "--redis", f"redis://:secret@{NOWHERE}/0"],
        ["dead-letters", "list", "--redis", f"redis://{NOWHERE}/0"],
    ):
        done = cli(*arguments)
        assert done.returncode == 3
        assert "carbon-orchestrator up" in done.stderr
        assert "secret" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
    checks = cli.json("doctor", "--redis", f"redis://{NOWHERE}/0", status=3)
    assert [check["status"] for check in checks] == ["fail"]


def test_jobs_lists_by_state_and_says_when_there_are_more(cli: Cli) -> None:
    ids = {cli.submitted("hello", "--urgency", "urgent") for _ in range(2)}
    until(lambda: all(cli.state(each) == "completed" for each in ids))
    listed = cli.json("jobs", "--state", "completed,failed", "--limit", "500")
    assert ids <= {job["id"] for job in listed["jobs"]}
    assert {job["state"] for job in listed["jobs"]} <= {"completed", "failed"}
    page = cli("jobs", "--limit", "1")
    assert len(page.stdout.splitlines()) == 2, "titles and one job"
    assert "--limit" in page.stderr


def test_cancel_ends_a_running_job_once(cli: Cli) -> None:
    job_id = cli.submitted("sleeper", "--urgency", "urgent")
    until(lambda: cli.state(job_id) == "running")
    gave_up = cli("submit", "sleeper", "--wait", "--wait-timeout", "0.1s", "--deadline", "9d")
    assert gave_up.returncode == 1
    assert "follow it with" in gave_up.stderr
    waited = gave_up.stdout.split()[0]
    for each in (job_id, waited):
        assert cli("cancel", each).returncode == 0
    until(lambda: {cli.state(job_id), cli.state(waited)} == {"cancelled"})
    again = cli("cancel", job_id)
    assert again.returncode == 1
    assert "cancelled already" in again.stderr
    assert cli("job", "00000000000000000000000000-0").returncode == 1


def test_several_are_cancelled_at_once(cli: Cli) -> None:
    ids = [cli.submitted("sleeper", "--deadline", "9d") for _ in range(2)]
    unknown = "00000000000000000000000000-0"
    several = cli("cancel", ids[0], unknown, ids[1])
    assert several.returncode == 1
    assert several.stderr.startswith(f"{unknown}: ")
    assert [line.split()[2] for line in several.stdout.splitlines()] == ids
    until(lambda: {cli.state(each) for each in ids} == {"cancelled"})
    assert cli("cancel").returncode == 2


def test_report_adds_up_and_names_what_it_rests_on(cli: Cli) -> None:
    cli("submit", "hello", "--urgency", "urgent", "--project", "sums", "--wait")

    def counted() -> bool:
        rows = cli.json("report", "--by", "project")["rows"]
        return any(row["project"] == "sums" and row["energy_mj"] for row in rows)

    until(counted)
    done = cli("report", "--by", "project,pool")
    assert done.returncode == 0
    assert done.stdout.startswith("PROJECT")
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("sums"))
    assert row[1] in ("FAST", "ECO"), "an urgent job goes to ECO where intensity is high"
    assert row[2:4] == ["1", "0"]
    assert all(word in done.stdout for word in ("SIMULATED", "baseline", "power model"))
    empty = cli("report", "--from", "1999-01-01", "--to", "1999-01-02")
    assert (empty.returncode, empty.stdout) == (0, "")
    found = list(csv.DictReader(cli("report", "--by", "project", "--csv").stdout.splitlines()))
    (sums,) = [each for each in found if each["project"] == "sums"]
    assert (sums["completed"], sums["failed"]) == ("1", "0")
    assert int(sums["energy_mj"]) > 0
    assert cli("report", "--csv", "--json").returncode == 2


def test_report_draws_a_picture(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    cli("submit", "hello", "--urgency", "urgent", "--wait")
    until(lambda: cli.json("report")["rows"])
    done = cli("report", "--plot", str(tmp_path / "report.png"))
    assert (done.returncode, "drawn" in done.stderr) == (0, True)
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    refused = cli("report", "--plot", str(tmp_path / "report.pdf"))
    assert (refused.returncode, ".svg or .png" in refused.stderr) == (2, True)


def test_dead_letters_are_seen_retried_and_dropped(cli: Cli) -> None:
    with cli.redis() as redis:
        key = "carbon:{0}:dead-letters"
        for _ in range(2):
            redis.xadd("carbon:{0}:jobs", {"type": "job.submitted", "data": b"\xff\x1b[31m"})
        until(lambda: int(redis.xlen(key)) == 2)
        grouped = cli("dead-letters", "list").stdout.splitlines()
        assert len(grouped) == 2
        assert grouped[1].split()[:2] == ["2", "jobs"]
        first, second = cli.json("dead-letters", "list")["dead_letters"]
        assert first["fields_base64"][1] == ["ZGF0YQ==", "/xtbMzFt"], "data, byte for byte"
        shown = cli("dead-letters", "show", first["id"])
        assert r"\xff\x1b[31m" in shown.stdout

        assert cli("dead-letters", "retry", first["id"]).returncode == 0
        until(lambda: int(redis.xlen(key)) == 2)  # still undecodable: it comes back
        assert cli.json("dead-letters", "retry", first["id"], status=1)["retried"] == 0
        assert cli("dead-letters", "drop", second["id"]).returncode == 0
        redis.xadd(key, {"reason": "forged", "stream": "carbon:{0}:clock", "original.a": "b"})
        refused = cli.json("dead-letters", "retry", "--all", status=1)
        assert refused["retried"] == 1
        until(lambda: int(redis.xlen(key)) == 2)
        assert cli.json("dead-letters", "drop", "--all", "--yes")["dropped"] == 2
        assert cli.json("dead-letters", "list") == {"dead_letters": [], "more": False}


def test_doctor_finds_nothing_wrong_then_what_is_wrong_then_what_it_may_not_know(cli: Cli) -> None:
    def statuses(status: int, *arguments: str) -> dict[str, str]:
        checks = cli.json("doctor", *arguments, status=status)
        return {check["name"]: check["status"] for check in checks}

    well = statuses(0)
    assert set(well.values()) <= {"ok", "warn"}
    assert well["worker eco"] == well["router"] == well["append-only file"] == "ok"
    plain = cli("doctor").stdout
    assert plain.splitlines()[0].split() == ["STATUS", "CHECK", "RESULT"]
    with cli.redis() as redis:
        redis.config_set("appendonly", "no")
        try:
            assert statuses(1)["append-only file"] == "fail"
        finally:
            redis.config_set("appendonly", "yes")
        redis.execute_command("ACL", "SETUSER", "half", "on", ">pw", "~*", "&*", "+@all", "-config")
        limited = cli.redis_url.replace("redis://", "redis://half:pw@")
        assert statuses(0, "--redis", limited)["append-only file"] == "unknown"
        redis.execute_command("ACL", "SETUSER", "half", "-info", "-time")
        blind = statuses(0, "--redis", limited)
        assert blind["server"] == blind["memory"] == blind["clock skew"] == "unknown"
    nobody = statuses(1, "--config", os.devnull, "--redis", cli.redis_url.replace("/0", "/1"))
    assert nobody["router"] == nobody["worker fast"] == "fail"


def test_a_terminal_gets_colours_unless_it_wants_none(cli: Cli) -> None:
    cli.submitted("hello", "--urgency", "urgent")

    def on_terminal(**env: str) -> str:
        terminal = Terminal("jobs", **env)
        assert terminal.end() == 0
        return terminal.seen.decode()

    coloured, plain = on_terminal(), on_terminal(NO_COLOR="1")
    assert "\x1b[3" in coloured
    assert "\x1b[3" not in plain
    assert "SIMULATED" in plain
    lines = re.sub(r"\x1b\[[0-9;]*m", "", plain).splitlines()
    assert max(map(len, lines)) <= 100


def test_a_reader_that_goes_away_is_no_fault(cli: Cli) -> None:
    command = [sys.executable, "-m", "carbon_orchestrator", "jobs", "--json"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=30)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_loads_no_web_framework() -> None:
    code = "import sys, carbon_orchestrator.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    loaded = set(done.stdout.split())
    assert "carbon_orchestrator.cli.jobs" in loaded
    if "opentelemetry.sdk" in loaded:  # where it is installed, redis-py loads it, and it psutil
        loaded.discard("psutil")
    assert not loaded & {"aiohttp", "http.client", "uvloop", "psutil"}
