"""The stream server over TLS: whom we trust, who we are, and how a fault is told."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from certificates import make_authority, make_certificate, tls_in_front
from deployment import Deploy

from carbon_orchestrator.config import Config, ConfigError, complete
from carbon_orchestrator.runtime import Runtime
from carbon_orchestrator.server_url import completed, shown
from streams.embedded import EmbeddedServer
from streams.errors import Refused
from streams.testing import until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
CANARY = "canary-9d2b"


class Files(NamedTuple):
    authority: Path
    stranger: Path  # an authority that signed nothing of ours
    server: Path
    elsewhere: Path  # a certificate of another host
    client: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    authority = make_authority(folder, "authority")
    return Files(
        authority,
        make_authority(folder, "stranger"),
        make_certificate(folder, "server", authority, "127.0.0.1"),
        make_certificate(folder, "elsewhere", authority, "192.0.2.1"),
        make_certificate(folder, "client", authority, "127.0.0.2"),
    )


@pytest.fixture
async def tls_port(
    server_url: str, session_server: EmbeddedServer, files: Files
) -> AsyncIterator[int]:
    async with tls_in_front(session_server.port, files.server) as port:
        yield port


async def answer(url: str, seconds: float = 8) -> None:
    """What a role does first; raises Refused where it is not to be."""
    runtime = Runtime(url, complete(Config(namespace="tls")))
    try:
        async with asyncio.timeout(seconds):
            assert await runtime.ready()
    finally:
        await runtime.aclose()


async def test_roles_work_over_tls(
    tls_port: int, files: Files, deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_REDIS_CA", str(files.authority))
    house = deploy()
    plain, house.url = house.url, f"rediss://127.0.0.1:{tls_port}/0"
    await house.all()
    house.url = plain
    job_id = await house.post("quick", urgency="urgent")
    await house.reach(job_id, "completed")
    await until(lambda: house.redis.exists(house.topology.days))
    await house.stop()


async def test_the_url_may_name_the_authority(tls_port: int, files: Files) -> None:
    await answer(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={files.authority}")


@pytest.mark.parametrize("authority", ["stranger", None])
async def test_a_certificate_that_nobody_we_trust_signed_is_refused_at_once(
    authority: str | None, tls_port: int, files: Files
) -> None:
    query = f"?ssl_ca_certs={getattr(files, authority)}" if authority else ""
    with pytest.raises(Refused, match="certificate is not accepted"):
        await answer(f"rediss://127.0.0.1:{tls_port}/0{query}")


async def test_a_certificate_of_another_host_is_refused(
    server_url: str, session_server: EmbeddedServer, files: Files
) -> None:
    async with tls_in_front(session_server.port, files.elsewhere) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files.authority}"
        with pytest.raises(Refused, match="certificate is not accepted"):
            await answer(url)
        await answer(f"{url}&ssl_check_hostname=false")


async def test_a_server_may_ask_for_our_certificate(
    server_url: str,
    session_server: EmbeddedServer,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CARBON_REDIS_CA", str(files.authority))
    async with tls_in_front(session_server.port, files.server, files.authority) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        # With TLS 1.3 the server says no only after the handshake, which asyncio does not tell.
        with pytest.raises(TimeoutError):
            await answer(url, 0.5)
        assert "wants a certificate of ours" in capsys.readouterr().out
        monkeypatch.setenv("CARBON_REDIS_CERT", str(files.client))
        monkeypatch.setenv("CARBON_REDIS_KEY", str(files.client.with_suffix(".key")))
        await answer(url)


async def test_a_server_that_speaks_tls_only_is_told(
    tls_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TimeoutError):
        await answer(f"redis://127.0.0.1:{tls_port}/0", 0.5)
    assert "then write rediss://" in capsys.readouterr().out


async def test_what_is_no_stream_server_is_told_at_once() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Refused, match="does not speak Redis' protocol"):
            await answer(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")


# -- the command line --------------------------------------------------------------------------


async def program(*arguments: str, **environment: str) -> tuple[int, str]:
    """Runs the real program; its status and all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "carbon_orchestrator", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_command_line_tells_a_bad_certificate_in_one_line(tls_port: int) -> None:
    url = f"rediss://ada:{CANARY}@127.0.0.1:{tls_port}/0?ssl_password={CANARY}"
    for arguments in (("doctor",), ("router", "--log-level", "error")):
        status, out = await program(*arguments, "--redis", url)
        assert status == 3
        last = out.strip().splitlines()[-1]
        assert "certificate is not accepted" in last
        assert last.startswith("carbon-orchestrator: ")
        assert "Traceback" not in out
        assert CANARY not in out


async def test_doctor_over_tls(tls_port: int, files: Files) -> None:
    status, out = await program(
        *("doctor", "--redis", f"rediss://127.0.0.1:{tls_port}/0"),
        CARBON_REDIS_CA=str(files.authority),
    )
    assert status == 1, "nothing runs there"
    assert f"rediss://127.0.0.1:{tls_port}/0" in out


# -- no secrets --------------------------------------------------------------------------------

URLS = [
    f"redis://ada:{CANARY}@127.0.0.1:1/0",
    f"redis://:{CANARY}@127.0.0.1:1/0",
    f"redis://ada:{CANARY}/{CANARY}@127.0.0.1:1",
    f"redis://ada:{CANARY}#{CANARY}@127.0.0.1:1",
    f"redis://ada:{CANARY}@[::1/0",
    f"redis://127.0.0.1:1/0?password={CANARY}",
    f"redis://127.0.0.1:1/0?unknown={CANARY}",
    f"http://ada:{CANARY}@127.0.0.1:1/0",
    f"ada:{CANARY}@127.0.0.1",
    f"rediss://ada:{CANARY}@127.0.0.1:1/0?ssl_ca_certs=/no/such/file&ssl_password={CANARY}",
]


@pytest.mark.parametrize("url", URLS)
def test_a_shown_url_has_no_secret(url: str) -> None:
    assert CANARY not in shown(url)


@pytest.mark.parametrize("url", URLS[2:5] + URLS[6:])
def test_what_is_wrong_with_a_url_is_told_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        completed(url, {})
    assert CANARY not in str(refusal.value)


def test_urls_are_completed_from_the_environment() -> None:
    environment = {"CARBON_REDIS_USERNAME": "ada", "CARBON_REDIS_PASSWORD": "p/w@1"}
    assert completed("redis://h:1/2", environment) == "redis://ada:p%2Fw%401@h:1/2"
    assert completed("redis://bob@h:1/2", environment) == "redis://bob:p%2Fw%401@h:1/2"
    assert completed("redis://bob:x@h:1/2", environment) == "redis://bob:x@h:1/2"
    assert completed("redis://h:1/2", {}) == "redis://h:1/2"
    assert urlsplit(completed("redis://h?db=3", environment)).query == "db=3"
    assert completed("unix:///run/s.sock", {}) == "unix:///run/s.sock"


COMMANDS = [("doctor",), ("router",), ("worker", "--pool", "fast")]


async def test_no_command_shows_a_password_when_it_fails(
    session_server: EmbeddedServer,
) -> None:
    """A server that refuses the login, and URLs that are not understood."""
    refusing = f"redis://ada:{CANARY}@127.0.0.1:{session_server.port}/0"
    runs = [(command, refusing) for command in COMMANDS]
    runs.append((COMMANDS[0], URLS[2]))
    limit = asyncio.Semaphore(2)

    async def one(command: tuple[str, ...], url: str) -> None:
        async with limit:
            status, out = await program(*command, CARBON_REDIS_URL=url)
        assert status in (2, 3), out
        assert CANARY not in out
        assert "carbon-orchestrator: " in out
        assert "Traceback" not in out

    await asyncio.gather(*(one(*each) for each in runs))
