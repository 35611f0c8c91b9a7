"""What a kubelet asks a role: it lives without the stream server, and is ready only with it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from carbon_orchestrator import runtime as runtime_module
from carbon_orchestrator.cli.faults import USAGE, told
from carbon_orchestrator.cli.main import app
from carbon_orchestrator.config import load
from carbon_orchestrator.probes import probes
from carbon_orchestrator.runtime import Runtime
from streams.embedded import EmbeddedServer, free_port
from streams.testing import until

ROOT = Path(__file__).parents[2]


class Kubelet:
    """Asks the probes of whatever listens on `port` of this machine."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self.url = f"http://127.0.0.1:{port}"

    async def status(self, path: str) -> int | None:
        """None where nobody answers."""
        try:
            async with self._session.get(self.url + path) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    async def both(self) -> tuple[int | None, int | None]:
        return await self.status("/livez"), await self.status("/readyz")


async def test_a_role_lives_before_its_server_is_there(own_server: EmbeddedServer) -> None:
    await own_server.stop()
    port = free_port()
    command = [sys.executable, "-m", "carbon_orchestrator", "router", "--probe-port", str(port)]
    process = subprocess.Popen(
        [*command, "--redis", own_server.url], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:
            kubelet = Kubelet(session, port)

            async def is_it(live: int | None, ready: int | None) -> bool:
                return await kubelet.both() == (live, ready)

            await until(lambda: is_it(200, 503), timeout=20)
            await own_server.start()
            await until(lambda: is_it(200, 200), timeout=20)
            process.send_signal(signal.SIGTERM)
            await until(lambda: is_it(None, None), timeout=20)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_role_is_ready_while_its_server_answers(
    own_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "_SILENCE_SECONDS", 1.5)
    runtime = Runtime(own_server.url, load())
    following = asyncio.create_task(runtime.follow_clock())
    port = free_port()
    try:
        async with aiohttp.ClientSession() as session, probes(runtime, port):
            kubelet = Kubelet(session, port)

            async def ready(status: int) -> bool:
                return await kubelet.both() == (200, status)

            await until(lambda: ready(200))
            await own_server.stop()
            await until(lambda: ready(503), timeout=15)
            await own_server.start()
            await until(lambda: ready(200), timeout=15)
            runtime.stop.set()
            assert await kubelet.both() == (200, 503), "while it drains it lives, and takes no more"
            assert await kubelet.status("/jobs") == 404
        assert await gone(port)
    finally:
        runtime.stop.set()
        await following
        await runtime.aclose()


async def gone(port: int) -> bool:
    async with aiohttp.ClientSession() as session:
        return await Kubelet(session, port).both() == (None, None)


@pytest.mark.parametrize("port", ["0", "65536"])
def test_a_port_that_is_none_is_told(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(app, ["router", "--probe-port", port]) == USAGE
    assert "--probe-port must be 1 to 65535" in capsys.readouterr().err
