"""What people send with a job, and their keys, stay out of logs and metrics."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from streams.embedded import free_port

ROOT = Path(__file__).parents[2]
CANARY = "canary-5f1c9e"
TYPES = r"""
[types.echo]
command = ["{python}", "-c", "import sys; print(sys.stdin.read())"]
expected_duration = "1s"

[types.broken]
command = ["{python}", "-c", "import sys; sys.exit(sys.stdin.read())"]
expected_duration = "1s"
max_attempts = 2
"""


class House:
    """An `up` that logs all it can, where everybody needs a key."""

    def __init__(self, home: Path) -> None:
        (home / "types.toml").write_text(TYPES)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = home / "log"
        self.data = home / "data"
        self.port = port
        self.key = ""
        self.config = home / "types.toml"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "carbon_orchestrator", *arguments]

    def http(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("Content-Type", "application/json")
        for name, value in {"Authorization": f"Bearer {self.key}", **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def state(self, job_id: str) -> str:
        return str(json.loads(self.http("GET", f"/jobs/{job_id}")[1])["state"])


def until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def secret_of(key: str) -> str:
    return key.split("_", 2)[2]


def test_payloads_and_keys_are_in_no_log_and_no_metric(tmp_path: Path) -> None:
    house = House(tmp_path)
    command = house.command("up", "--port", str(house.port), "--redis-port", str(free_port()))
    command += ["--data", str(house.data), "--config", str(house.config), "--require-keys"]
    command += ["--log-level", "debug", "--speed", "3600"]
    with (
        house.log.open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], 30)
            assert ready
            assert b"is up at" in process.stdout.readline(), house.log.read_text()
            metrics = use(house)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    logged = house.log.read_text()
    assert "entry failed" in logged or "cannot be processed" in logged, "faults are in it"
    assert len(logged.splitlines()) > 4
    for text in (logged, metrics):
        assert CANARY not in text
        assert secret_of(house.key) not in text
        assert house.key not in text


def use(house: House) -> str:
    """Send the canary wherever something can be sent; the metrics then."""
    made = subprocess.run(
        house.command(
            "keys", "create", "ci", "--scope", "admin", "--data", str(house.data), "--json"
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert secret_of(json.loads(made.stdout)["key"]) not in made.stderr
    house.key = json.loads(made.stdout)["key"]
    until(lambda: house.http("GET", "/jobs")[0] == 200)
    payload = f'"payload":{{"{CANARY}":"{CANARY}"}}'
    for job_type, end in (("echo", "completed"), ("broken", "failed")):
        body = f'{{"type":"{job_type}","urgency":"urgent",{payload}}}'.encode()
        status, answer = house.http("POST", "/jobs", body, Idempotency_Key=f"{CANARY}-{job_type}")
        assert status == 202, answer
        job_id = json.loads(answer)["id"]
        until(lambda job_id=job_id, end=end: house.state(job_id) == end)
        assert CANARY.encode() in house.http("GET", f"/jobs/{job_id}")[1], "shown to who may see it"
    for body, status in (
        (f'{{"type":"nonsense",{payload}}}', 422),
        (f'{{"type":"echo",{payload},"{CANARY}":1}}', 422),
        (f'{{"type":"echo",{payload}', 400),
        (f'{{"type":"echo",{payload},{payload}}}', 400),
        (f'{{"type":"echo","deadline":"{CANARY}"}}', 422),
    ):
        assert house.http("POST", "/jobs", body.encode())[0] == status
    assert house.http("GET", f"/{CANARY}?{CANARY}={CANARY}")[0] == 404
    assert house.http("GET", f"/jobs/{CANARY}")[0] == 404
    assert house.http("GET", "/jobs", Authorization=f"Bearer co_{CANARY}")[0] == 401
    with Redis.from_url((house.data / "redis-url").read_text()) as redis:
        for event_type, data in (
            ("job.submitted", f'{{"type":"echo",{payload}'),
            ("job.submitted", f'{{"type":"{CANARY}",{payload}}}'),
            ("job.completed", f'{{"type":"echo",{payload}}}'),
            ("job.cancelled", f'{{"job_id":"{CANARY}","at":1,"reason":"{CANARY}"}}'),
            (CANARY, "{}"),
        ):
            redis.xadd("carbon:{0}:jobs", {"type": event_type, "data": data, "source": CANARY})
        until(lambda: redis.xlen("carbon:{0}:dead-letters") >= 4)
    status, metrics = house.http("GET", "/metrics")
    assert status == 200
    return str(metrics.decode())


@pytest.mark.parametrize("scopes", [["--scope", "no-such"], []])
def test_a_key_without_a_scope_that_there_is_is_not_made(scopes: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "carbon_orchestrator", "keys", "create", "ci", *scopes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert "scope" in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("json_lines", [True, False])
def test_tracebacks_do_not_show_what_was_worked_on(json_lines: bool) -> None:
    program = f"""
import structlog
from carbon_orchestrator import logs

def fail(payload):
    raise ValueError("it failed")

logs.configure("debug", json={json_lines})
try:
    fail("can" "ary-" + str(5))
except ValueError:
    structlog.get_logger().exception("failed")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert "it failed" in done.stderr
    assert "canary-5" not in done.stderr
