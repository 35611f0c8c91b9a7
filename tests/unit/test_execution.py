"""Attempts as the worker runs them: outcome, directory, environment, energy."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from carbon_orchestrator.config import (
    Config,
    ConfigError,
    JobType,
    PoolConfig,
    PowerModel,
    complete,
)
from carbon_orchestrator.events import Spec
from carbon_orchestrator.worker.attempt import Halt
from carbon_orchestrator.worker.context import JobContext
from carbon_orchestrator.worker.energy import EnergyMeter
from carbon_orchestrator.worker.execution import Executor, Interrupted
from carbon_orchestrator.worker.guardian import Guardian


async def double(payload: dict[str, Any], context: JobContext) -> int:
    return int(payload["n"]) * 2


def count_attempts(payload: dict[str, Any], context: JobContext) -> int:
    counter = context.checkpoint_dir / "count"
    number = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(number))
    return number


async def wait(payload: dict[str, Any], context: JobContext) -> None:
    await asyncio.sleep(100)


def sh(script: str, **options: Any) -> JobType:
    return JobType(command=["sh", "-c", script], **options)


def python(function: Callable[..., Any], **options: Any) -> JobType:
    return JobType(python=f"{__name__}:{function.__name__}", **options)


TYPES = {
    "double": python(double),
    "count": python(count_attempts),
    "wait": python(wait, timeout="50ms"),
    "patient": python(wait),
    "cat": sh("cat"),
    "three": sh("echo out; exit 3"),
    "sleep": sh("echo up; sleep 100", timeout="100ms"),
    "long": sh("trap 'echo bye; exit 0' TERM; echo up > up; while :; do sleep 0.02; done"),
    "env": JobType(command=["{python}", "-c", "import json,os;print(json.dumps(dict(os.environ)))"],
                   env={"MODEL": "small", "CARBON_JOB_ID": "forged"}),
    "note": sh("cat note 2>/dev/null; echo noted >> note"),
    "missing": JobType(command=["no-such-program"]),
}  # fmt: skip


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[Executor]:
    guardian = Guardian()
    yield make(guardian, tmp_path)
    assert not guardian._groups
    guardian.close()


def make(guardian: Guardian, data_dir: Path, **types: JobType) -> Executor:
    config = complete(
        Config(
            types=types or TYPES,
            default_types=False,
            pools={"eco": PoolConfig(slots=2)},
            power=PowerModel(cpu_watts=1000.0, pue=2.0),
        )
    )
    meter = EnergyMeter(config.power, powercap=data_dir / "no-rapl")
    return Executor(config, "eco", guardian, data_dir, meter)


def spec(kind: str, payload: str = "{}", job_id: str = "job1", **fields: Any) -> Spec:
    raw = msgspec.Raw(payload.encode())
    return Spec(job_id=job_id, type=kind, submitted_at=0, payload=raw, **fields)


async def run(executor: Executor, job: Spec, cancel: Halt | None = None) -> Any:
    return await executor.run(job, 2, "fence9", cancel or Halt())


async def test_a_callable(executor: Executor) -> None:
    execution = await run(executor, spec("double", '{"n": 21}'))
    assert (execution.outcome, execution.error, execution.exit_code) == ("completed", None, None)
    assert (execution.output, execution.output_bytes) == ("42\n", 3)


async def test_a_command(executor: Executor) -> None:
    execution = await run(executor, spec("cat", '{"n": 21}'))
    assert (execution.outcome, execution.exit_code) == ("completed", 0)
    assert execution.output == '{"n": 21}'
    assert execution.energy.mj == round(execution.cpu_ms * 2000)
    assert execution.energy.mj > 0
    assert execution.energy.method == "cpu-time-model"


@pytest.mark.parametrize(
    ("job", "outcome", "exit_code", "error"),
    [
        (spec("three"), "failed", 3, "exit code 3"),
        (spec("sleep"), "timeout", -15, "timed out after 0.1 s"),
        (spec("long", timeout=0.1), "timeout", 0, "timed out after 0.1 s"),
        (spec("wait"), "timeout", None, "timed out after 0.05 s"),
        (spec("patient", timeout=0.1), "timeout", None, "timed out after 0.1 s"),
        (spec("double"), "failed", None, "KeyError: 'n'"),
        (spec("missing"), "failed", None, "cannot start 'no-such-program': No such file"),
        (spec("other"), "failed", None, "this worker has no job type 'other'"),
        (spec("double", "[1]"), "failed", None, "the payload is not a JSON object"),
        (spec("double", "{nonsense"), "failed", None, "the payload is not a JSON object"),
        (spec("three", job_id="a" * 300), "failed", 3, "exit code 3"),
    ],
    ids=lambda value: value.type if isinstance(value, Spec) else None,
)
async def test_what_goes_wrong_is_told(
    executor: Executor, job: Spec, outcome: str, exit_code: int | None, error: str
) -> None:
    execution = await run(executor, job)
    assert (execution.outcome, execution.exit_code) == (outcome, exit_code)
    assert execution.error is not None
    assert execution.error.startswith(error)
    assert "\n" not in execution.error


@pytest.mark.parametrize("kind", ["patient", "sleep", "long"])
async def test_cancelling(executor: Executor, kind: str) -> None:
    cancel = Halt()
    asyncio.get_running_loop().call_later(0.05, cancel.set)
    execution = await run(executor, spec(kind, timeout=20), cancel)
    assert (execution.outcome, execution.error) == ("cancelled", "cancelled")
    assert execution.run_ms >= 40


@pytest.mark.parametrize("kind", ["patient", "long"])
async def test_an_interrupted_attempt_is_accounted_for_all_the_same(
    executor: Executor, kind: str
) -> None:
    task = asyncio.create_task(run(executor, spec(kind)))
    async with asyncio.timeout(5):
        while kind == "long" and not (executor.directory("job1") / "up").exists():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(Interrupted) as caught:
        await task
    assert task.cancelled()
    execution = caught.value.execution
    assert (execution.outcome, execution.error) == ("interrupted", "interrupted")
    if kind == "long":
        assert execution.exit_code == 0
        assert execution.output.endswith("bye\n")
        assert execution.energy.mj > 0


async def test_the_environment(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = json.loads((await run(executor, spec("env"))).output)
    directory = executor.directory("job1")
    told = {name: value for name, value in seen.items() if name.startswith(("CARBON", "MODEL"))}
    assert re.fullmatch(r"/dev/fd/\d+", told.pop("CARBON_PROGRESS"))
    assert told == {
        "MODEL": "small",
        "CARBON_JOB_ID": "job1",
        "CARBON_ATTEMPT": "2",
        "CARBON_POOL": "eco",
        "CARBON_FENCE": "fence9",
        "CARBON_CHECKPOINT_DIR": str(directory),
    }
    assert directory.is_absolute()


async def test_the_directory_survives_attempts_until_discarded(executor: Executor) -> None:
    for expected in ("1\n", "2\n"):
        assert (await run(executor, spec("count"))).output == expected
    assert [(await run(executor, spec("note"))).output for _ in range(2)] == ["", "noted\n"]
    await executor.discard("job1")
    assert not executor.directory("job1").exists()
    await executor.discard("job1")
    assert (await run(executor, spec("count"))).output == "1\n"


async def test_a_callable_that_needs_no_directory_gets_none(executor: Executor) -> None:
    await run(executor, spec("double", '{"n": 1}'))
    assert not executor.directory("job1").parent.exists()


@pytest.mark.parametrize(
    "job_id", ["../../victim", "..", ".", "", "/etc", "a/b", "x\0y", "a" * 999]
)
async def test_a_job_id_is_not_a_path(executor: Executor, tmp_path: Path, job_id: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "checkpoints").mkdir()
    assert (await run(executor, spec("note", job_id=job_id))).outcome in ("completed", "failed")
    assert executor.directory(job_id).parent == tmp_path / "checkpoints"
    await executor.discard(job_id)
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "victim"]
    assert os.listdir(tmp_path / "checkpoints") == []


async def test_a_directory_that_cannot_be_made_fails_the_attempt(
    executor: Executor, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    execution = await run(executor, spec("cat"))
    assert execution.outcome == "failed"
    assert execution.error is not None
    assert execution.error.startswith("cannot make the job's directory")


def test_a_handler_that_cannot_be_found_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"types\.bad\.python: cannot import 'nowhere'"):
        make(Guardian(), tmp_path, bad=JobType(python="nowhere:f"))


async def test_counters_are_read_while_jobs_run_and_no_longer(tmp_path: Path) -> None:
    zone = tmp_path / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in [("name", "package-0"), ("max_energy_range_uj", "9"), ("energy_uj", "1")]:
        (zone / name).write_text(text)
    config = complete(Config(types=TYPES, default_types=False))
    meter = EnergyMeter(config.power, powercap=tmp_path / "powercap")
    assert meter.wraps
    executor = Executor(config, "eco", Guardian(), tmp_path, meter)
    cancel = Halt()
    tasks = [
        asyncio.create_task(run(executor, spec("patient", job_id=name), cancel)) for name in "ab"
    ]
    await asyncio.sleep(0)
    assert executor._refresh is not None
    cancel.set()
    await asyncio.gather(*tasks)
    assert executor._refresh is None
