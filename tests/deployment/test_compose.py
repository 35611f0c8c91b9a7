"""Every service of the compose file, as it says, in any order, and the README's requests to it."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from image_files import ROOT, compose, entrypoint, environment, health_check

from streams.embedded import free_port, server_program

ROLES = {name: each for name, each in compose()["services"].items() if name != "redis"}
PROGRAM = Path(sys.executable).with_name("carbon-orchestrator")


class Composed:
    """The services as processes of this machine: host names are 127.0.0.1, each port another."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.redis, self.http = free_port(), free_port()
        self.probes = {name: free_port() for name in ROLES}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self.home / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self._redis() if name == "redis" else self._role(name),
                cwd=self._directory(name),
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _redis(self) -> list[str]:
        program, *arguments = compose()["services"]["redis"]["command"]
        assert program == "redis-server"
        server = os.environ.get("CARBON_TEST_SERVER") or server_program()
        return [server, *arguments, "--bind", "127.0.0.1", "--port", str(self.redis)]

    def _role(self, name: str) -> list[str]:
        tini, dashes, program = entrypoint()
        assert (tini, dashes, program) == ("tini", "--", PROGRAM.name)
        command = [filled(each) for each in ROLES[name]["command"]]
        return [str(PROGRAM), *command, *(["--port", str(self.http)] if name == "gateway" else [])]

    def environment(self, name: str) -> dict[str, str]:
        given = {**environment(), **ROLES.get(name, {}).get("environment", {})}
        if name in ROLES:
            given["CARBON_REDIS_URL"] = given["CARBON_REDIS_URL"].replace(
                "redis:6379", f"127.0.0.1:{self.redis}"
            )
            given["CARBON_DATA_DIR"] = str(self._directory(name))
            given["CARBON_PROBE_PORT"] = str(self.probes[name])
        # In the image everything is compiled.
        given.pop("PYTHONDONTWRITEBYTECODE", None)
        return {"PATH": os.environ["PATH"], "TMPDIR": str(self.home), **given}

    def _directory(self, name: str) -> Path:
        """What is mounted on /data; one for all who mount the same."""
        (volume,) = compose()["services"][name].get("volumes", [f"{name}:/data"])
        source, target, *_ = str(volume).split(":")
        assert target == "/data"
        directory = self.home / source
        directory.mkdir(exist_ok=True)
        return directory

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def stop(self, name: str, patience: float) -> int:
        """As Docker stops it; its status."""
        self.processes[name].send_signal(signal.SIGTERM)
        return self.processes[name].wait(patience)

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)


@contextmanager
def composed(home: Path) -> Iterator[Composed]:
    made = Composed(home)
    try:
        yield made
    finally:
        made.kill()


def filled(text: str) -> str:
    """`text` with ${NAME:-DEFAULT} as where no such variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def curls() -> list[str]:
    """The commands of the README's first minute."""
    text = (ROOT / "README.md").read_text().partition("## 60 seconds")[2]
    return [line for line in text.splitlines() if line.startswith("curl ")][:3]


def asked(command: str, port: int) -> Any:
    """What a curl command answers; None while nobody does."""
    ours = command.replace("localhost:8000", f"127.0.0.1:{port}")
    argv = ["curl", "--silent", "--show-error", "--fail", *shlex.split(ours)[1:]]
    done = subprocess.run(argv, capture_output=True, timeout=20)
    return json.loads(done.stdout) if done.returncode == 0 else None


@pytest.mark.timeout(150)  # seconds, where others work on the machine as well
def test_services_start_in_any_order_and_run_a_job(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the README's commands need curl")
    health, jobs, submit = curls()
    order = random.sample(sorted(compose()["services"]), len(compose()["services"]))
    with composed(tmp_path) as services:
        for name in order:
            services.start(name)

        def until(what: str, *states: str) -> Any:
            deadline = time.monotonic() + 40
            while True:
                answer = asked(what, services.http)
                if answer is not None and (answer.get("status") or answer.get("state")) in states:
                    return answer
                ended = [name for name, each in services.processes.items() if each.poll()]
                logs = {name: services.log(name)[-2000:] for name in ended or order}
                assert not ended, (order, logs)
                assert time.monotonic() < deadline, (order, answer, logs)
                time.sleep(0.1)

        until(health, "ok")
        assert asked(jobs, services.http)["jobs"] == []
        job = asked(submit, services.http)["id"]
        done = until(f"curl http://localhost:8000/jobs/{job}", "completed")
        assert done["attempts"] == 1

        for name in ROLES:
            check = [sys.executable, *health_check()[1:]]
            told = subprocess.run(check, env=services.environment(name), timeout=20)
            assert told.returncode == 0, name
        assert services.log("scaler").splitlines()[0].endswith(" workers now")

        for name in ROLES:
            assert services.stop(name, 20) == 0, services.log(name)
        told = subprocess.run(check, env=services.environment(name), capture_output=True)
        assert told.returncode != 0, "a role that is gone is not healthy"
        services.stop("redis", 20)


def test_only_the_gateway_is_reached_and_from_this_machine_only() -> None:
    services = compose()["services"]
    assert {name: each["ports"] for name, each in services.items() if "ports" in each} == {
        "gateway": ["127.0.0.1:8000:8000"]
    }


def test_roles_may_no_more_than_they_need() -> None:
    for name, each in ROLES.items():
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in each, name
        assert "user" not in each, f"{name} runs as the image's user"
        assert not any("docker.sock" in volume for volume in each.get("volumes", [])), name


def test_the_server_keeps_what_it_was_given() -> None:
    redis = compose()["services"]["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert redis["volumes"] == ["redis:/data"]


def test_every_volume_is_named() -> None:
    document = compose()
    used = {
        volume.partition(":")[0]
        for each in document["services"].values()
        for volume in each.get("volumes", [])
    }
    assert used == set(document["volumes"])
