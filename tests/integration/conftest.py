"""Deployments on the session's server, each in a name space of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import Deploy, Deployment, check_records, configuration
from redis.asyncio import Redis

from carbon_orchestrator.worker.guardian import Guardian


@pytest.fixture(scope="session")
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    guardian.start()
    yield guardian
    guardian.close()


@pytest.fixture
async def deploy(server_url: str, tmp_path: Path, guardian: Guardian) -> AsyncIterator[Deploy]:
    """Makes deployments of the given configuration; stopped and checked at the end."""
    made: list[Deployment] = []

    def make(url: str = "", namespace: str = "", **changes: Any) -> Deployment:
        config = configuration(namespace or f"t{uuid.uuid4().hex[:8]}", **changes)
        client = Redis.from_url(url or server_url, decode_responses=False)
        data = tmp_path / f"data-{len(made)}"
        data.mkdir()
        made.append(Deployment(url or server_url, config, data, guardian, client))
        return made[-1]

    yield make
    for each in made:
        each.release()
    await asyncio.gather(*(each.stop() for each in made))
    for each in {each.config.namespace: each for each in made if each.url == server_url}.values():
        await check_records(each)
    for each in made:
        await each.redis.aclose()
