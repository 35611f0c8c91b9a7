"""Commands with limits and users of their own: real processes that run into them."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carbon_orchestrator.config import (
    Config,
    ConfigError,
    HandlerLimits,
    JobType,
    PowerModel,
    complete,
)
from carbon_orchestrator.events import Spec
from carbon_orchestrator.sizes import shown, size
from carbon_orchestrator.worker.attempt import Halt
from carbon_orchestrator.worker.confinement import Confinement, confinement_of
from carbon_orchestrator.worker.energy import EnergyMeter
from carbon_orchestrator.worker.execution import Execution, Executor
from carbon_orchestrator.worker.guardian import Guardian
from carbon_orchestrator.worker.output import OutputTail
from carbon_orchestrator.worker.telling import Telling
from streams.testing import until

NOBODY = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture(scope="module")
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    guardian.start()
    yield guardian
    guardian.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A data directory that other users may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="confined-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def kind(*argv: str, **options: Any) -> JobType:
    limits = HandlerLimits(**options.pop("limits", {}))
    return JobType(command=list(argv), limits=limits, **options)


def sh(script: str, **options: Any) -> JobType:
    return kind("sh", "-c", script, **options)


def checked(job_type: JobType) -> Config:
    return complete(Config(types={"t": job_type}, default_types=False))


async def run(
    job_type: JobType,
    folder: Path,
    guardian: Guardian,
    payload: bytes = b"{}",
    telling: Telling | None = None,
) -> Execution:
    config = checked(job_type)
    meter = EnergyMeter(PowerModel(), ())
    executor = Executor(config, "fast", guardian, folder, meter)
    spec = Spec(job_id="job-1", type="t", submitted_at=0, payload=msgspec.Raw(payload))
    return await executor.run(spec, 1, "1", Halt(), telling)


async def test_limits_hold_from_the_first_instruction_on_and_for_children(
    tmp_path: Path, guardian: Guardian
) -> None:
    limits = {"memory": "512MiB", "cpu_time": 5, "open_files": 64, "file_size": "1MB"}
    script = "cat /proc/self/limits & cat /proc/self/limits; wait"
    ended = await run(sh(script, limits=limits), tmp_path, guardian)
    assert ended.outcome == "completed"
    rows = [line.split() for line in ended.output.splitlines()]
    found = {(" ".join(row[:3]), row[-3], row[-2]) for row in rows if row[0] == "Max"}
    assert ("Max address space", str(512 << 20), str(512 << 20)) in found
    assert ("Max open files", "64", "64") in found
    assert ("Max file size", "1000000", "1000000") in found
    assert ("Max cpu time", "5", "6") in found
    assert len([row for row in rows if row[:3] == ["Max", "open", "files"]]) == 2
    assert "memory 512 MiB" in ended.applied


async def test_over_its_cpu_time(tmp_path: Path, guardian: Guardian) -> None:
    burn = sh("while :; do :; done", limits={"cpu_time": "900ms"})
    ended = await run(burn, tmp_path, guardian)
    assert (ended.outcome, ended.error) == ("failed", "killed: over its cpu_time limit of 1 s")
    assert 700 <= ended.cpu_ms < 2500  # the kernel counts in ticks


async def test_a_child_over_its_cpu_time_is_told_by_the_shell(
    tmp_path: Path, guardian: Guardian
) -> None:
    child = sh("sh -c 'while :; do :; done'; exit $?", limits={"cpu_time": 1})
    ended = await run(child, tmp_path, guardian)
    assert ended.error == "killed: over its cpu_time limit of 1 s"


@pytest.mark.parametrize(
    ("argv", "limits", "told"),
    [
        (
            ("{python}", "-S", "-c", "x = bytearray(1 << 30)"),
            {"memory": "200MiB"},
            "over its memory limit of 200 MiB, by all signs: exit code 1",
        ),
        (
            ("sh", "-c", "tail /dev/zero"),
            {"memory": "100MiB"},
            "over its memory limit of 100 MiB, by all signs: exit code 1",
        ),
        (
            ("{python}", "-S", "-c", "x = [open('/dev/null') for _ in range(100)]"),
            {"open_files": 32},
            "over its open_files limit of 32, by all signs: exit code 1",
        ),
        (
            ("sh", "-c", "exec head -c 100000 /dev/zero > big"),
            {"file_size": "10KiB"},
            "killed: over its file_size limit of 10 KiB",
        ),
        (
            ("{python}", "-S", "-c", "open('big', 'wb').write(bytes(100000))"),
            {"file_size": 10240},
            "over its file_size limit of 10 KiB, by all signs: exit code 1",
        ),
    ],
)
async def test_over_another_limit(
    argv: tuple[str, ...],
    limits: dict[str, Any],
    told: str,
    tmp_path: Path,
    guardian: Guardian,
) -> None:
    ended = await run(kind(*argv, limits=limits), tmp_path, guardian)
    assert (ended.outcome, ended.error) == ("failed", told)


async def test_other_failures_keep_their_own_words(tmp_path: Path, guardian: Guardian) -> None:
    limits = {"memory": "1GiB", "cpu_time": 60, "open_files": 64}
    ended = await run(sh("echo it broke; exit 3", limits=limits), tmp_path, guardian)
    assert ended.error == "exit code 3"
    for argv, told in (
        (("no-such-program",), "No such file or directory"),
        (("/no/such/program",), "No such file or directory"),
        (("./notes",), "Permission denied"),
    ):
        (tmp_path / "checkpoints" / "job-1" / "notes").touch()
        ended = await run(kind(*argv, limits=limits), tmp_path, guardian)
        assert ended.error == f"cannot start {argv[0]!r}: {told}"


async def test_cpu_time_is_measured_as_without_limits(tmp_path: Path, guardian: Guardian) -> None:
    burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    plain = await run(sh(burn), tmp_path, guardian)
    limited = await run(sh(burn, limits={"cpu_time": 60}), tmp_path, guardian)
    assert plain.cpu_ms > 10
    assert 0.2 < limited.cpu_ms / plain.cpu_ms < 5


async def test_the_jobs_directory_is_private(tmp_path: Path, guardian: Guardian) -> None:
    await run(sh("touch here"), tmp_path, guardian)
    folder = tmp_path / "checkpoints" / "job-1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


CANARY = "canary-7c1f"


async def test_a_payload_is_on_stdin_alone(
    tmp_path: Path, guardian: Guardian, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in the arguments nor in the environment of any process, nor in the log."""
    script = (
        "cat > payload; cat /proc/$$/cmdline /proc/$$/environ > seen; env >> seen; ls /; exit 3"
    )
    payload = b'{"$(touch pwned)": "`touch pwned`; touch pwned", "x": "' + CANARY.encode() + b'"}'
    for limits in ({}, {"cpu_time": 60}):
        ended = await run(sh(script, limits=limits), tmp_path, guardian, payload)
        folder = tmp_path / "checkpoints" / "job-1"
        assert ended.error == "exit code 3"
        assert (folder / "payload").read_bytes() == payload
        assert CANARY.encode() not in (folder / "seen").read_bytes()
        assert not (folder / "pwned").exists()
    streams = capsys.readouterr()
    assert CANARY not in streams.out + streams.err


async def test_the_environment_is_an_allow_list(
    tmp_path: Path, guardian: Guardian, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CARBON_REDIS_URL", "CARBON_REDIS_PASSWORD", "WATTTIME_PASSWORD", "API_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    ended = await run(sh("env", env={"MODE": "fast"}), tmp_path, guardian)
    assert CANARY not in ended.output
    assert "MODE=fast" in ended.output
    names = {line.partition("=")[0] for line in ended.output.splitlines()}
    ours = {name for name in names if name.startswith("CARBON_")}
    assert ours == {
        *("CARBON_JOB_ID", "CARBON_ATTEMPT", "CARBON_POOL", "CARBON_CHECKPOINT_DIR"),
        *("CARBON_FENCE", "CARBON_PROGRESS"),
    }


def test_what_a_worker_starts_gains_no_privileges_and_leaves_no_core() -> None:
    code = (
        "import subprocess\n"
        "from carbon_orchestrator.worker.confinement import give_up_privileges\n"
        "give_up_privileges()\n"
        "subprocess.run(['cat', '/proc/self/status', '/proc/self/limits'], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["NoNewPrivs:", "1"] in rows
    assert ["Max", "core", "file", "size", "0", "0", "bytes"] in rows
    assert done.stderr == ""


# -- another user ------------------------------------------------------------------------------


@as_root
async def test_a_command_runs_as_its_own_user_in_a_directory_of_its_own(
    open_folder: Path, guardian: Guardian
) -> None:
    script = 'id -un; echo "$USER $HOME"; touch mine; cat ../../secret; id -G; exit 4'
    secret = open_folder / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o600)
    ended = await run(sh(script, user=NOBODY), open_folder, guardian)
    entry = pwd.getpwnam(NOBODY)
    lines = ended.output.splitlines()
    assert ended.error == "exit code 4"
    assert lines[:2] == [NOBODY, f"{NOBODY} {entry.pw_dir}"]
    assert CANARY not in ended.output
    assert set(map(int, lines[-1].split())) == set(os.getgrouplist(NOBODY, entry.pw_gid))
    folder = open_folder / "checkpoints" / "job-1"
    found = folder.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (entry.pw_uid, 0o700)
    assert (folder / "mine").stat().st_uid == entry.pw_uid
    assert f"user {NOBODY}" in ended.applied


@as_root
async def test_another_user_can_say_how_far_it_is(open_folder: Path, guardian: Guardian) -> None:
    wait = "while [ ! -e go ]; do sleep 0.01; done"
    told = Telling(OutputTail(1000))
    script = sh(f"echo 0.5 half > $CARBON_PROGRESS && {wait}", user=NOBODY)
    task = asyncio.ensure_future(run(script, open_folder, guardian, telling=told))
    await until(lambda: told.progress is not None or task.done())
    (open_folder / "checkpoints" / "job-1" / "go").touch()
    assert (await task).outcome == "completed"
    assert told.progress is not None
    assert (told.progress.fraction, told.progress.message) == (0.5, "half")


@as_root
async def test_a_user_of_its_own_may_have_few_processes(
    open_folder: Path, guardian: Guardian
) -> None:
    fork = sh("sleep 5 & sleep 5 & sleep 5 & wait", user=NOBODY, limits={"processes": 2})
    ended = await run(fork, open_folder, guardian)
    assert ended.outcome == "failed"
    assert ended.error is not None
    assert ended.error.startswith("over its processes limit of 2, by all signs")


@as_root
async def test_what_another_user_runs_is_stopped_as_well(
    open_folder: Path, guardian: Guardian
) -> None:
    stubborn = sh("trap '' TERM; sleep 60", user=NOBODY, timeout=0.2, grace=0.1)
    ended = await run(stubborn, open_folder, guardian)
    assert (ended.outcome, ended.exit_code) == ("timeout", -9)


@as_root
def test_a_directory_that_the_user_may_not_enter_is_refused_at_the_start(
    open_folder: Path,
) -> None:
    open_folder.chmod(0o700)
    with pytest.raises(ConfigError, match=r"types\.t\.user: 'nobody' may not enter"):
        confinement_of("types.t", sh("id", user=NOBODY), open_folder / "checkpoints")


# -- refused at the start ----------------------------------------------------------------------


@as_root
def test_a_directory_yet_to_be_made_that_the_user_could_not_enter_is_refused_too(
    open_folder: Path,
) -> None:
    before = os.umask(0o077)
    try:
        with pytest.raises(ConfigError, match="may not enter"):
            confinement_of("types.t", sh("id", user=NOBODY), open_folder / "new" / "checkpoints")
    finally:
        os.umask(before)


def test_only_root_can_give_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match=r"types\.t\.user: only a worker that root runs"):
        confinement_of("types.t", sh("id", user=NOBODY), tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"user": "no-such-user-here"}, "there is no user"),
        ({"user": NOBODY, "group": "no-such-group"}, "there is no group"),
    ],
)
def test_unknown_users(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        confinement_of("types.t", sh("id", **options), tmp_path)


def test_without_the_program_that_sets_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="prlimit"):
        confinement_of("types.t", sh("id", limits={"cpu_time": 1}), tmp_path)
    assert confinement_of("types.t", sh("id"), tmp_path) is None


@pytest.mark.parametrize(
    ("job_type", "told"),
    [
        (JobType(python="a:b", limits=HandlerLimits(memory="1GiB")), "a Python function runs in"),
        (JobType(python="a:b", user=NOBODY), "a Python function runs in"),
        (sh("id", group="users"), "needs a user"),
        (sh("id", limits={"processes": 10}), "give a user"),
        (sh("id", limits={"memory": "much"}), r"limits\.memory"),
        (sh("id", limits={"file_size": 0}), r"limits\.file_size"),
        (sh("id", limits={"cpu_time": "soon"}), r"limits\.cpu_time"),
        (sh("id", limits={"cpu_time": 0}), r"limits\.cpu_time"),
        (sh("id", limits={"open_files": 3}), r"limits\.open_files"),
    ],
)
def test_what_cannot_be_is_refused_with_the_configuration(job_type: JobType, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        checked(job_type)


def test_nothing_is_explained_by_limits_that_are_not_there() -> None:
    assert Confinement().explain(-24, 9.0, lambda: "MemoryError") is None
    limited = Confinement(memory=1 << 20, prlimit="prlimit")
    assert limited.explain(-24, 9.0, lambda: "Too many open files") is None
    assert limited.explain(0, 9.0, lambda: "MemoryError") is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), (7, 7), ("2KiB", 2048), ("1.5 MiB", 3 << 19), ("3GB", 3 * 10**9), ("10b", 10)],
)
def test_sizes(text: str | int, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 2", "1XB", 0, "0", "9" * 30, "1e9"])
def test_no_sizes(text: str | int) -> None:
    with pytest.raises(ValueError, match="size"):
        size(text)


def test_sizes_for_people() -> None:
    assert [shown(each) for each in (1, 1024, 3 << 19, 5 << 30)] == [
        *("1 bytes", "1 KiB", "1.5 MiB", "5 GiB"),
    ]
