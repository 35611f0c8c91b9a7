"""The walls of the house: who may know of whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Deciding code runs the same in the live router, the simulator and the audit: time, chance
#: and measurements come in as parameters.
DECIDING = [
    "carbon_orchestrator/lifecycle.py",
    "carbon_orchestrator/router/policy.py",
    "carbon_orchestrator/router/outlook.py",
    "carbon_orchestrator/router/threshold.py",
    "carbon_orchestrator/router/run_now.py",
    "carbon_orchestrator/scaler/deciding.py",
    "carbon_orchestrator/scaler/pressure.py",
    "carbon_orchestrator/signal/series.py",
]
FORBIDDEN = {"redis", "aiohttp", "anyio", "asyncio", "time", "random", "secrets", "uuid"}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter"}


def imported(tree: ast.Module) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this project"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def clock_reads(tree: ast.Module) -> Iterator[str]:
    """Calls such as `datetime.now()`."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CLOCKS
        ):
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in {"datetime", "date", "time"}:
                yield f"{name}.{node.func.attr}"


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def reached(path: Path, seen: set[Path]) -> set[Path]:
    """A file and the project's own files that it imports, in turn."""
    if path not in seen:
        seen.add(path)
        for name in imported(parse(path)):
            target = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith(("carbon_orchestrator.", "streams.")) and target.is_file():
                reached(target, seen)
    return seen


def packages(tree: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in imported(tree)}


def test_streams_knows_nothing_of_the_domain() -> None:
    files = sorted((ROOT / "streams").rglob("*.py"))
    assert files
    assert {path.name: packages(parse(path)) & {"carbon_orchestrator"} for path in files} == {
        path.name: set() for path in files
    }


@pytest.mark.parametrize("name", DECIDING)
def test_deciding_code_reads_no_clock_and_rolls_no_dice(name: str) -> None:
    for path in reached(ROOT / name, set()):
        tree = parse(path)
        assert packages(tree) & FORBIDDEN == set(), path
        assert list(clock_reads(tree)) == [], path


def test_the_check_for_clocks_can_fail() -> None:
    tree = ast.parse(
        "from datetime import datetime\nimport random\n"
        "def f():\n    import time\n    return datetime.now(), datetime.datetime.utcnow()\n"
    )
    assert packages(tree) & FORBIDDEN == {"random", "time"}
    assert list(clock_reads(tree)) == ["datetime.now", "datetime.utcnow"]


def test_files_stay_small_and_have_a_home() -> None:
    sources = [
        path
        for package in ("streams", "carbon_orchestrator")
        for path in (ROOT / package).rglob("*.py")
    ]
    homeless = {"utils", "helpers", "common", "services", "managers"}
    assert [path for path in sources if homeless & {path.stem, path.parent.name}] == []
