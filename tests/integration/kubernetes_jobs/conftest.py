"""A cluster, a template, and workers that can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import Deployment
from job_cluster import JobCluster
from pod_house import TEMPLATE

from carbon_orchestrator.clock import GridClock

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[JobCluster]:
    api = JobCluster(tmp_path / "token")
    await api.start(None)
    yield api
    await api.stop()
    assert api.faults == []


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(TEMPLATE)
    return path


@pytest.fixture
def worker_process(api: JobCluster, template: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts a FAST worker that can be killed."""
    started: list[subprocess.Popen[bytes]] = []

    async def start(house: Deployment) -> subprocess.Popen[bytes]:
        await house.redis.hset(house.topology.clock, mapping=GridClock().fields())
        config = tmp_path / "config.toml"
        config.write_text(
            f'namespace = "{house.config.namespace}"\ndefault_types = false\nlease = 1\n'
            f'[kubernetes]\napi_server = "{api.url}"\nnamespace = "jobs"\n'
            f'token_file = "{api.token_file}"\n'
            f'[types.train]\nkubernetes = "{template.name}"\ngrace = 1\ntimeout = 30\n'
        )
        command = [sys.executable, "-m", "carbon_orchestrator", "worker", "--pool", "fast"]
        command += ["--redis", house.url, "--config", str(config), "--data", str(house.data)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, cwd=ROOT, **quiet))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(10)
