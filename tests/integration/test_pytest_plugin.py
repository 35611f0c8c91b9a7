"""The plugin as somebody else's tests use it, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from carbon_orchestrator.config import ConfigError
from carbon_orchestrator.testing import House
from carbon_orchestrator.worker.context import JobContext

THEIRS = """
import asyncio
import pytest
from carbon_orchestrator import Client
from carbon_orchestrator.testing import HIGH

seen = []

async def double(payload, context):
    seen.append(payload["n"] * 2)

@pytest.fixture
def orchestrator_types():
    return {"double": double, "echo": ["cat"], "again": "handlers:again"}

def test_blocking(orchestrator):
    job = orchestrator.client.submit("double", payload={"n": 21})
    assert orchestrator.client.wait(job, timeout=10).succeeded
    assert seen == [42]

def test_async_with_a_loop_of_its_own(orchestrator):
    async def main():
        async with Client(orchestrator.url) as client:
            job = await client.submit("echo", payload={"n": 1}, urgency="urgent")
            return await client.wait(job, timeout=10)
    assert asyncio.run(main()).output.strip() == '{"n":1}'

def test_each_has_its_own(orchestrator):
    assert list(orchestrator.client.jobs()) == []
    orchestrator.set_intensity(HIGH)
    job = orchestrator.client.submit("again", deadline="1h")
    for job in orchestrator.client.follow(job, timeout=10):
        if job.state == "deferred":
            break
    orchestrator.set_intensity(50)
    assert orchestrator.client.wait(job, timeout=10).succeeded

class TestOtherwise:
    @pytest.fixture
    def orchestrator_config(self):
        return {"zone": "DE", "zones": {}}

    def test_configured(self, orchestrator):
        assert orchestrator.client.carbon().zone == "DE"
"""
HANDLERS = "def again(payload, context):\n    pass\n"


def test_a_project_with_tests_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    # Without pytest-asyncio, which they need not have.
    options = ["-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(tmp_path)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "CARBON_REDIS_PASSWORD": "of something else"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_handler_that_is_not_there_is_told_and_ends_all_of_it(
    orchestrator_house: House,
) -> None:
    before = clients()
    with (
        pytest.raises(ConfigError, match="no_such_module"),
        orchestrator_house.orchestrator({"lost": "no_such_module:function"}),
    ):
        pass
    with orchestrator_house.orchestrator({"found": quick}) as running:
        job = running.client.submit("found", urgency="urgent")
        assert running.client.wait(job, timeout=10).succeeded
        assert len(clients() - before) == 1
    assert clients() <= before


def clients() -> set[threading.Thread]:
    """The threads of clients; those of other tests may still be ending."""
    return {thread for thread in threading.enumerate() if "client" in thread.name}


def quick(payload: dict[str, Any], context: JobContext) -> None:
    """Does nothing."""
