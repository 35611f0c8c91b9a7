"""The bundled server: one process on loopback, its data in one directory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from streams.connection import connect
from streams.embedded import EmbeddedError, EmbeddedServer, free_port
from streams.testing import running_server, until


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_its_data_outlives_it(own_server: EmbeddedServer) -> None:
    async with connect(own_server.url) as client:
        await client.set("a", "1", ex=60)
    await own_server.stop()
    assert own_server.pid is None
    await own_server.start()
    async with connect(own_server.url) as client:
        assert await client.get("a") == b"1"


async def test_it_listens_on_loopback_only(own_server: EmbeddedServer) -> None:
    async with connect(own_server.url) as client:
        assert (await client.config_get("bind"))["bind"] == "127.0.0.1"


def test_its_files_are_removed_after_a_test() -> None:
    with running_server(os.environ.get("CARBON_TEST_SERVER")) as server:
        pid = server.pid
        assert pid is not None
        assert lives(pid)
        assert (server.directory / "server.log").exists()
    assert not lives(pid)
    assert not server.directory.exists()


async def test_a_program_that_ends_at_once_is_an_error(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, program="/bin/false")
    with pytest.raises(EmbeddedError, match=r"ended at once .*server\.log"):
        await server.start()
    assert server.pid is None


async def test_a_start_that_is_cancelled_leaves_nothing_behind(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    server = EmbeddedServer(tmp_path, program=str(silent))
    starting = asyncio.create_task(server.start())
    pid = await until(lambda: server.pid)
    assert pid is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not lives(pid)


async def test_a_program_that_never_answers_is_an_error(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    server = EmbeddedServer(tmp_path, program=str(silent))
    with pytest.raises(EmbeddedError, match=r"did not answer in 0\.1 s"):
        await server.start(patience=0.1)
    assert server.pid is None


def test_a_port_that_is_taken_is_not_used(own_server: EmbeddedServer) -> None:
    assert free_port(own_server.port) != own_server.port
    free = free_port()
    assert free_port(free) == free
