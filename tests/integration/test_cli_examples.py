"""The examples of docs/cli.md, run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_program import ROOT, Cli, running, status_of

EXAMPLES = re.findall(r"`carbon-orchestrator ([^`]+)`", (ROOT / "docs" / "cli.md").read_text())
#: What serves, goes on for ever, reads from a shell, or needs a trace.
ELSEWHERE = ("COMMAND", "up", "gateway", "watch", "submit - <", "simulate")
EVERY = [each for each in EXAMPLES if not each.startswith(ELSEWHERE)]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    with running(tmp_path_factory.mktemp("up")) as cli:
        yield cli


@pytest.mark.parametrize("example", EVERY)
def test_an_example_does_what_it_says(
    cli: Cli,
    example: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.ndjson").write_text('{"type": "hello"}\n{"type": "hello"}\n')
    tokens = shlex.split(example)
    if "ID" in tokens:
        kind = "sleeper" if "cancel" in tokens else "hello"
        assert status_of(["submit", kind, "--urgency", "urgent"]) == 0
        tokens[tokens.index("ID")] = capsys.readouterr().out.strip()
    if "--duration" in tokens:  # runs go by the wall clock, and this grid's is much faster
        tokens[tokens.index("--duration") + 1] = "1s"
    assert status_of(tokens) == 0, capsys.readouterr().err
    out, error = capsys.readouterr()
    # Of nothing there is only a remark.
    assert out or error
