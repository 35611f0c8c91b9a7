"""What is written about the command line, and what it says about itself."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cyclopts import App

from carbon_orchestrator.cli import faults
from carbon_orchestrator.cli.faults import STATUSES, told
from carbon_orchestrator.cli.main import GROUPS, app
from carbon_orchestrator.client.errors import (
    Conflict,
    Forbidden,
    InvalidJob,
    NotFound,
    OrchestratorError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()
EXAMPLES = re.findall(r"`carbon-orchestrator ([^`]+)`", PAGE)


def commands() -> set[str]:
    return {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_understood(example: str) -> None:
    tokens = shlex.split(example.partition("<")[0])
    tokens = ["0-0" if each == "ID" else each for each in tokens if each != "COMMAND"]
    if "--help" not in tokens:
        app.parse_args(faults._piped(tokens), print_error=False, exit_on_error=False)


def test_every_command_has_an_example_and_a_group() -> None:
    shown = {word for example in EXAMPLES for word in example.split()[:1]}
    shown |= set(re.findall(r"· `([a-z-]+)`", PAGE))
    assert commands() - shown == set()
    assert len(commands()) == sum(len(each) for _, each in GROUPS)


def test_one_table_of_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    table = PAGE.partition("## Exit status")[2].partition("##")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
    assert {int(status): meaning for status, meaning in rows} == STATUSES
    assert told(app, ["--help"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    for status, meaning in STATUSES.items():
        assert f"{status} {meaning}" in shown


def test_the_top_level_can_be_scanned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert told(app, ["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    panels = [line.strip("╭─╮ ") for line in lines if line.startswith("╭")]
    assert panels == [*(title for title, _ in GROUPS), "Options"]
    entries = [line for line in lines if line.startswith("│ ") and line[2] not in " -"]
    assert len(entries) == len(commands())
    assert not [line for line in lines if line.startswith("│  ")], "each in one line"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["jobs", "--limt", "3"], "--limit"),
        (["job"], "job --help"),
        (["sumbit"], "submit"),
        (["jobs", "--limit", "many"], "--limit"),
        (["submit", "x", "--urgency", "quick"], "flexible"),
        (["dead-letters", "frob"], "retry"),
        (["completion", "tcsh"], "fish"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(app, arguments) == 2
    out, error = capsys.readouterr()
    assert (out, len(error.splitlines())) == ("", 1)
    assert error.startswith("carbon-orchestrator: ")
    assert word in error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidJob("x"), 2),
        (Conflict("x", status=422, kind="idempotency-key-reused"), 2),
        (Conflict("x", status=409, kind="job-has-ended"), 1),
        (NotFound("x", status=404, kind="no-such-job"), 1),
        (Unauthorized("x", status=401, kind="key-needed"), 1),
        (Forbidden("x", status=403, kind="scope-missing"), 1),
        (Unavailable("x"), 3),
        (TooManyRequests("x", status=429, kind="queue-share", retry_after=3), 3),
        (OrchestratorError("another server's answer", status=404), 3),
    ],
)
def test_a_gateways_refusal_has_a_status(
    error: OrchestratorError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = App()

    @failing.default
    def fail() -> None:
        raise error

    assert told(failing, []) == status
    assert ("try again in 3 s" in capsys.readouterr().err) == isinstance(error, TooManyRequests)


# -- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_sound(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(app, ["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("submit", "dead-letters", "idempotency-key", "flexible"):
        assert word in script
    if shutil.which(shell) is not None:
        checked = subprocess.run(
            [shell, "-n"], input=script, capture_output=True, text=True, timeout=30
        )
        assert (checked.returncode, checked.stderr) == (0, "")


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    shell = f"""
    source {shlex.quote(str(script))}
    COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}
    COMP_LINE="${{COMP_WORDS[*]}}" COMP_POINT=${{#COMP_LINE}}
    $(complete -p carbon-orchestrator | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(app, ["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    assert completed(script, "carbon-orchestrator", "wa") == {"watch"}
    assert "--dry-run" in completed(script, "carbon-orchestrator", "submit", "--d")
    urgencies = completed(script, "carbon-orchestrator", "submit", "x", "--urgency", "")
    assert urgencies == {"urgent", "normal", "flexible"}


def test_the_shell_is_taken_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert told(app, ["completion"]) == 0
    assert capsys.readouterr().out.startswith("#compdef")
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert told(app, ["completion"]) == 2
