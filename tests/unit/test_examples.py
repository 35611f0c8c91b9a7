"""The default job types, run as the worker runs them: commands, the payload on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from carbon_orchestrator.examples import analytics, inference, training
from carbon_orchestrator.examples.moons import moons
from carbon_orchestrator.examples.network import Network
from carbon_orchestrator.examples.payload import MAX_BYTES, Payload, PayloadError

NAMES = ("analytics", "training", "inference")
WAIT = 20.0  # seconds that any of them may take

# Long enough to be stopped on the way: ten lines of progress, each after nine epochs.
LONG = {"epochs": 90, "samples": 2000, "checkpoint_every": 1}


def argv(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"carbon_orchestrator.examples.{name}", *arguments]


def environment(directory: Path | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "CARBON_CHECKPOINT_DIR"}
    return kept if directory is None else {**kept, "CARBON_CHECKPOINT_DIR": str(directory)}


def run(
    name: str, payload: object, *arguments: str, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(name, *arguments),
        input=payload if isinstance(payload, str) else json.dumps(payload),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WAIT,
        check=False,
        env=environment(directory),
    )


def report(name: str, payload: object) -> dict[str, Any]:
    done = run(name, payload)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def checkpoint(directory: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((directory / "checkpoint.json").read_bytes())
    return state


class Running:
    """A training on its way, to be stopped by a signal after some lines of progress."""

    def __init__(self, directory: Path, payload: dict[str, int]) -> None:
        self._process = subprocess.Popen(
            argv("training"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(directory),
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(payload))
        self._process.stdin.close()
        self._process.stdin = None

    def until(self, lines: int) -> list[str]:
        assert self._process.stdout is not None
        seen: list[str] = []
        while sum(line.startswith("epoch") for line in seen) < lines:
            line = self._process.stdout.readline()  # bounded by the test's own timeout
            assert line, f"it ended early: {seen}"
            seen.append(line)
        return seen

    def stop(self, *, kill: bool = False) -> tuple[int, float]:
        """Its exit status, and the seconds from the signal to its end."""
        start = monotonic()
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.communicate(timeout=WAIT)
        return self._process.returncode, monotonic() - start


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last checkpoint of a run of LONG that nobody stopped."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    assert run("training", LONG, directory=directory).returncode == 0
    return checkpoint(directory)


def test_analytics_by_default() -> None:
    found = report("analytics", {})
    assert found["rows"] == 800_000
    assert found["mean_wh"] == pytest.approx(1e3 * found["total_kwh"] / found["rows"], abs=1e-3)
    assert len(found["mean_kw_by_hour"]) == 24
    assert found["mean_kw_by_hour"]["19"] > 2 * found["mean_kw_by_hour"]["03"]
    assert list(found["quantiles_wh"].values()) == sorted(found["quantiles_wh"].values())
    used = [consumer["kwh"] for consumer in found["top_consumers"]]
    assert used == sorted(used, reverse=True)
    assert found["total_kwh"] / found["households"] < used[-1] < found["total_kwh"]


@given(
    rows=st.integers(1, 400),
    households=st.integers(1, 30),
    seed=st.integers(0, 99),
    share=st.integers(0, 100),
)
@example(rows=100, households=7, seed=1, share=7)  # 0.07 * 100 > 7 in floating point
def test_analytics_is_exact(rows: int, households: int, seed: int, share: int) -> None:
    """One pass gives what sorting everything gives."""
    payload = Payload({"rows": rows, "households": households, "seed": seed})
    half_hours = list(analytics.readings(analytics.check(payload)))
    statistics = analytics.Statistics(households)
    for used in half_hours:
        statistics.add(used)
    everything = sorted(reading for used in half_hours for reading in used)
    assert len(everything) == statistics.rows == rows
    assert sum(statistics.by_household) == sum(statistics.by_hour) == sum(everything)
    rank = max(1, -(-share * rows // 100))
    assert statistics.quantile(share / 100) == everything[rank - 1]
    assert statistics.peak[0] == max(map(sum, half_hours))


def test_training_by_default_makes_the_shipped_weights(tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    done = run("training", {}, "--export", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    *progress, last = done.stdout.splitlines()
    assert len(progress) == training.REPORTS
    assert all(line.startswith("epoch") for line in progress)
    assert json.loads(last)["accuracy"] > 0.95
    made, shipped = json.loads(file.read_bytes()), json.loads(inference.WEIGHTS.read_bytes())
    # Nearly: another libm may round the last digit of tanh otherwise.
    assert made["offset"] == pytest.approx(shipped["offset"], rel=1e-6)
    for ours, theirs in zip(made["units"], shipped["units"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_training_learns_by_the_slope_of_its_loss() -> None:
    """A step of `learn` is the numerical derivative of what `evaluate` calls the loss."""
    points = list(moons(20, Random(5)))
    network = Network.untrained(3, Random(4))
    before = json.dumps(network.to_json())
    network.learn(points, 1.0)
    small = 1e-5

    def loss(unit: int, place: int, by: float) -> float:
        nudged = Network.from_json(json.loads(before))
        if unit < 0:
            nudged.offset += by
        else:
            nudged.units[unit][place] += by
        return nudged.evaluate(points)[0]

    def slope(unit: int, place: int) -> float:
        return (loss(unit, place, small) - loss(unit, place, -small)) / (2 * small)

    old = Network.from_json(json.loads(before))
    assert old.offset - network.offset == pytest.approx(slope(-1, 0), abs=1e-8)
    for unit in range(3):
        for place in range(4):
            step = old.units[unit][place] - network.units[unit][place]
            assert step == pytest.approx(slope(unit, place), abs=1e-8)


def test_training_stopped_by_sigterm_goes_on_to_the_same_weights(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    payload = {**LONG, "checkpoint_every": 1000}  # so none is written but for the signal
    places: list[tuple[int, int]] = []
    for _ in range(2):
        running = Running(tmp_path, payload)
        seen = running.until(2)
        assert seen[0].startswith("resuming") == bool(places)
        status, seconds = running.stop()
        assert status == 143
        assert seconds < 0.5
        state = checkpoint(tmp_path)
        places.append((state["epoch"], state["batch"]))
    assert (1, 0) < places[0] < places[1] < (LONG["epochs"], 0)
    assert run("training", payload, directory=tmp_path).returncode == 0
    assert checkpoint(tmp_path)["network"] == uninterrupted["network"]


def test_training_killed_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    running = Running(tmp_path, LONG)
    running.until(3)
    status, _ = running.stop(kill=True)
    assert status == -9
    assert 1 < checkpoint(tmp_path)["epoch"] < LONG["epochs"]
    done = run("training", LONG, directory=tmp_path)
    assert done.stdout.startswith("resuming at epoch")
    assert checkpoint(tmp_path) == uninterrupted


SHORT = {"epochs": 2, "samples": 50}


@pytest.mark.parametrize(
    "found",
    ["", "{", "[]", "[" * 20_000, '{"parameters": null}', b"\xff".decode("latin-1")],
)
def test_training_starts_over_from_a_useless_checkpoint(
    tmp_path: Path, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoint.json").write_bytes(found.encode("latin-1"))
    run_training = training.Training(training.check(Payload(SHORT)))
    training.Checkpoint(tmp_path).load_into(run_training)
    assert capsys.readouterr().out.startswith("starting over")
    training.train(run_training, training.Checkpoint(tmp_path), training.Stop())
    assert checkpoint(tmp_path) == run_training.to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parameters", {}),
        ("epoch", 4),
        ("epoch", True),
        ("batch", -1),
        ("batch", None),
        ("network", None),
        ("network", {"units": [[0.0] * 4], "offset": 0.0}),
        ("network", {"units": [[0.0] * 3] * 8, "offset": 0.0}),
        ("network", {"units": [[float("nan")] * 4] * 8, "offset": 0.0}),
    ],
)
def test_training_refuses_a_state_that_is_not_its_own(field: str, value: object) -> None:
    run_training = training.Training(training.check(Payload(SHORT)))
    state = run_training.to_json()
    run_training.restore(state)
    with pytest.raises(ValueError):
        run_training.restore({**state, field: value})


def test_training_says_when_it_cannot_write(tmp_path: Path) -> None:
    done = run("training", SHORT, directory=tmp_path / "missing")
    assert done.returncode == 1
    assert "missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_inference_by_default() -> None:
    found = report("inference", {})
    assert found["points"] == sum(found["predicted"].values()) == 200_000
    assert found["batches"] == -(-200_000 // 256)
    assert found["accuracy"] > 0.95
    assert 0 < found["batch_latency_ms"]["mean"] <= found["batch_latency_ms"]["max"]
    assert found["points_per_second"] > 0


def test_inference_of_given_points() -> None:
    found = report("inference", {"points": [[0, 1], [1, -0.5], [-1, 0.1]], "batch_size": 2})
    assert found["classes"] == "010"
    assert found["predicted"] == {"0": 2, "1": 1}
    assert found["batches"] == 2
    assert "accuracy" not in found


@pytest.mark.parametrize(
    ("name", "payload", "said"),
    [
        ("analytics", "{", "not JSON"),
        ("analytics", {"rows": 5_000_001}, "rows must be a whole number from 1 to 5000000"),
        ("training", [], "must be a JSON object"),
        ("training", {"epochs": 10_001}, "epochs must be"),
        ("training", {"save\n": "/etc/passwd"}, "unknown parameter 'save\\n'; known are hidden"),
        ("inference", {"points": [[1, 2], [3]]}, "points[1] must be [x, y]"),
    ],
)
def test_a_bad_payload_is_refused_in_one_line(name: str, payload: object, said: str) -> None:
    done = run(name, payload)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("payload: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_training_refuses_unknown_arguments() -> None:
    done = run("training", {}, "--save", "x")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


HUGE = 10**400
CHECKS = {"analytics": analytics.check, "training": training.check, "inference": inference.check}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("analytics", {"rows": 0}),
        ("analytics", {"rows": True}),
        ("analytics", {"rows": 1.0}),
        ("analytics", {"rows": "10"}),
        ("analytics", {"rows": None}),
        ("analytics", {"households": HUGE}),
        ("analytics", {"quantiles": []}),
        ("analytics", {"quantiles": [0.5] * 21}),
        ("analytics", {"quantiles": [0.5, 1.1]}),
        ("analytics", {"quantiles": [True]}),
        ("analytics", {"quantiles": 0.5}),
        ("training", {"learning_rate": 0}),
        ("training", {"learning_rate": HUGE}),
        ("training", {"learning_rate": False}),
        ("training", {"hidden": 65}),
        ("training", {"seed": -1}),
        ("inference", {"points": []}),
        ("inference", {"points": [[0, 0]] * (inference.MAX_POINTS + 1)}),
        ("inference", {"points": [[0, HUGE]]}),
        ("inference", {"points": [[0, None]]}),
        ("inference", {"points": {}}),
        ("inference", {"points": None}),
        ("inference", {"count": 1_000_001}),
    ],
)
def test_every_parameter_has_limits(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(PayloadError) as caught:
        CHECKS[name](Payload(values))
    assert next(iter(values)) in str(caught.value)
    assert len(str(caught.value)) < 100


@settings(max_examples=50)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"\xff")
@example(b'{"seed": NaN}')
@example(b'{"seed": ' + b"9" * 5000 + b"}")
@example(b"[" * 100_000)
@example(b'{"' + b"x" * 1000 + b'": 1}')
@example(b" " * (MAX_BYTES + 1))
def test_no_payload_does_worse_than_being_refused(data: bytes) -> None:
    said = "fine"
    try:
        payload = Payload.parse(data)
        training.check(payload)
        payload.finish()
    except PayloadError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert len(said) < 200


def test_nothing_is_a_payload_too() -> None:
    assert training.check(Payload.parse(b" \n")) == training.check(Payload({}))


def test_a_float_beyond_all_limits_is_refused() -> None:
    with pytest.raises(PayloadError, match="learning_rate"):
        training.check(Payload.parse(b'{"learning_rate": 1e999}'))


def test_the_jobs_start_without_heavy_imports() -> None:
    """A job costs its start too: nothing but light parts of the standard library."""
    modules = ", ".join(f"carbon_orchestrator.examples.{name}" for name in NAMES)
    code = f"import sys; old = set(sys.modules); import {modules}; print(*set(sys.modules) - old)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded <= sys.stdlib_module_names | {"carbon_orchestrator"}
    assert not loaded & {"argparse", "asyncio", "dataclasses", "inspect", "logging", "subprocess"}


@pytest.mark.parametrize(
    ("name", "payload", "last"),
    [
        ("analytics", {"rows": 5000}, "1.0000 readings 5000 of 5000\n"),
        ("inference", {"count": 300}, "1.0000 points 300 of 300\n"),
        ("inference", {"points": [[0, 0], [1, 1]]}, "1.0000 points 2 of 2\n"),
        ("training", {"epochs": 3, "samples": 50}, "1.0000 epoch 3 of 3\n"),
    ],
)
def test_progress_is_told(name: str, payload: object, last: str, tmp_path: Path) -> None:
    file = tmp_path / "progress"
    done = subprocess.run(
        argv(name),
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
        env={**environment(), "CARBON_PROGRESS": str(file)},
    )
    assert done.stderr == ""
    assert file.read_text() == last  # each is written anew, as here it is no pipe


def test_nobody_to_tell_is_no_fault(tmp_path: Path) -> None:
    gone = {**environment(), "CARBON_PROGRESS": str(tmp_path / "no" / "such")}
    subprocess.run(
        argv("analytics"),
        input='{"rows": 10}',
        text=True,
        capture_output=True,
        timeout=WAIT,
        check=True,
        env=gone,
    )
