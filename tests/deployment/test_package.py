"""The distributions, and what one who installs the wheel has.

CARBON_TEST_PYTHONS="3.12 3.13" runs it under these, too, with what it depends on from the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import numpy
import pytest

from carbon_orchestrator import __version__, dashboard
from streams.embedded import free_port

ROOT = Path(__file__).parents[2]
VENDOR = Path(dashboard.__file__).parent / "vendor"
PACKAGES = ("carbon_orchestrator", "streams")
OTHERS = ("3.12", "3.13")
WANTED = os.environ.get("CARBON_TEST_PYTHONS", "").split()


def run(*argv: str | Path, timeout: float = 100, cwd: Path | None = None, **env: str) -> str:
    """What a program says."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        argv, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is made from it without a network."""
    if not (VENDOR / "uPlot.esm.js").exists():
        pytest.skip("the dashboard's packages are not here: scripts/assets.sh")
    out = tmp_path_factory.mktemp("distributions")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    run(*build, PIP_NO_INDEX="1")
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


def test_the_wheel_has_every_file_of_the_packages(distributions: tuple[Path, Path]) -> None:
    _, wheel = distributions
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in ("", ".pyc")
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == files
    endings = {".lua", ".json", ".css", ".js", ".html", ".svg"}
    assert endings <= {Path(name).suffix for name in packed}


def test_it_says_what_it_is(distributions: tuple[Path, Path]) -> None:
    source, wheel = distributions
    name = f"carbon_orchestrator-{__version__}"
    assert (source.name, wheel.name) == (f"{name}.tar.gz", f"{name}-py3-none-any.whl")
    said = HeaderParser().parsestr(
        zipfile.ZipFile(wheel).read(f"{name}.dist-info/METADATA").decode()
    )
    assert said["Version"] == __version__
    assert said["Requires-Python"] == ">=3.11"
    assert {"embedded", "gpu", "otel", "plot"} <= set(said.get_all("Provides-Extra", []))
    assert run(sys.executable, "-m", "twine", "check", "--strict", source, wheel).count("PASSED")
    with tarfile.open(source) as archive:
        assert {"LICENSE", "README.md", "pyproject.toml"} <= {
            path.partition("/")[2] for path in archive.getnames()
        }


def page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        return bytes(response.read())


def runs_a_job(environment: Path, elsewhere: Path) -> None:
    """`up` of an installed package, from a folder that has nothing to do with it."""
    program = environment / "bin" / "carbon-orchestrator"
    asked = "import streams; print(streams.__path__[0])"
    where = run(environment / "bin" / "python", "-c", asked, cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(environment)
    assert run(program, "--version", cwd=elsewhere).strip() == __version__
    assert json.loads(run(program, "contract", "openapi", cwd=elsewhere))["info"]["version"]
    port = free_port()
    command: list[str | Path] = [
        program,
        "up",
        "--port",
        str(port),
        "--redis-port",
        "0",
        "--data",
        elsewhere / "data",
    ]
    with (
        (elsewhere / "log").open("wb") as log,
        subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.PIPE, stderr=log) as up,
    ):
        try:
            assert up.stdout is not None
            greeting = up.stdout.readline()
            assert b"is up at" in greeting, (elsewhere / "log").read_text()
            url = f"http://127.0.0.1:{port}"
            for name in ("docs", "openapi.json", "assets/vendor/swagger-ui-bundle.js"):
                assert page(f"{url}/{name}")
            assert b"uPlot" in page(f"{url}/assets/vendor/uPlot.esm.js")
            submit = (program, "submit", "analytics", "--urgency", "urgent", "--wait", "--json")
            told = json.loads(run(*submit, "--url", url, cwd=elsewhere))
            assert told["state"] == "completed"
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)
    assert up.returncode == 0, (elsewhere / "log").read_text()


@pytest.mark.timeout(150)
def test_installed_it_runs_from_any_folder(
    distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin" / "python")
    run(*pip, "install", "--no-index", "--no-deps", distributions[1])
    # What it depends on is borrowed from here; an editable install of ours is not, as .pth files
    # of a borrowed folder do not count.
    ours = Path(run(environment / "bin" / "python", "-c", PURELIB).strip())
    (ours / "borrowed.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    runs_a_job(environment, tmp_path)


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("version", OTHERS)
def test_other_pythons_run_it_as_well(
    version: str, distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    if version not in WANTED:
        pytest.skip(f"CARBON_TEST_PYTHONS does not say {version}")
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no other Python {version} on this machine")
    environment = tmp_path / "environment"
    run(python, "-m", "venv", environment)
    pip = (environment / "bin" / "python", "-m", "pip", "--quiet", "install", "--only-binary=:all:")
    locked = re.findall(r"^(\S+==[^\\\n]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (tmp_path / "versions").write_text("\n".join(locked))
    wheel = f"{distributions[1]}[embedded]"
    run(*pip, "--no-compile", "--constraint", tmp_path / "versions", wheel, timeout=300)
    runs_a_job(environment, tmp_path)


def interpreter(version: str) -> str | None:
    """A Python of this version, unless it is the one that runs the tests."""
    asked = (f"python{version}", "-c", "import sys; print(sys.executable)")
    if sysconfig.get_python_version() == version or shutil.which(asked[0]) is None:
        return None
    # Pyenv has such a name for each that it has, and starts one that is chosen.
    chosen = {**os.environ, "PYENV_VERSION": version}
    done = subprocess.run(asked, env=chosen, capture_output=True, text=True, timeout=20)
    return done.stdout.strip() if done.returncode == 0 else None


def test_the_version_stands_in_one_place() -> None:
    assert re.search(r'^version = "', (ROOT / "pyproject.toml").read_text(), re.MULTILINE) is None
