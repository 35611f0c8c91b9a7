"""What `doctor` says of who can reach the server."""

from __future__ import annotations

import pytest

from carbon_orchestrator.protection import Protection, encryption, gather, login
from carbon_orchestrator.server_url import is_loopback, without_login
from streams.connection import connect
from streams.embedded import EmbeddedServer


@pytest.mark.parametrize(
    ("found", "status", "word"),
    [
        (Protection(anybody=True, bind="127.0.0.1 -::1"), "ok", "this machine only"),
        (Protection(anybody=True, bind="* -::*", protected=True), "ok", "protected mode"),
        (Protection(anybody=True, bind="* -::*", protected=False), "warn", "whoever reaches"),
        (Protection(anybody=True, bind="", protected=False), "warn", "whoever reaches"),
        (Protection(anybody=True, bind="127.0.0.1 10.0.0.1", protected=False), "warn", "whoever"),
        (Protection(anybody=True, local=False), "warn", "whoever reaches"),
        (Protection(anybody=True, local=False, bind="10.0.0.1", protected=True), "warn", "whoever"),
        (Protection(anybody=True), "unknown", "where it listens"),
        (Protection(anybody=None), "unknown", "not known"),
        (Protection(anybody=False, user="carbon-router", local=False), "ok", "carbon-router"),
        (Protection(anybody=False, user="default"), "ok", "default"),
        (Protection(anybody=False, user="default", local=False), "warn", "share the default"),
    ],
)
def test_login(found: Protection, status: str, word: str) -> None:
    check = login(found)
    assert (check.status, word in check.detail) == (status, True), check
    assert bool(check.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Protection(tls=True, local=False), "ok"),
        (Protection(tls=True, local=False, checked=False), "warn"),
        (Protection(local=True), "ok"),
        (Protection(local=False), "warn"),
    ],
)
def test_encryption(found: Protection, status: str) -> None:
    assert encryption(found).status == status


async def test_what_the_bundled_server_tells(server_url: str) -> None:
    async with connect(server_url) as client:
        found = await gather(client, server_url)
    assert (found.local, found.tls, found.anybody, found.user) == (True, False, True, "default")
    assert found.listens_locally
    assert login(found).status == encryption(found).status == "ok"


async def test_a_server_with_a_password(own_server: EmbeddedServer) -> None:
    async with connect(own_server.url) as client:
        await client.config_set("requirepass", "secret")
        await client.acl_setuser("half", enabled=True, passwords=["+pw"], commands=["+ping"])
    url = own_server.url.replace("redis://", "redis://:secret@")
    async with connect(url) as client:
        assert (await gather(client, url)).anybody is False
    half = own_server.url.replace("redis://", "redis://half:pw@")
    async with connect(half) as client:
        found = await gather(client, half)
    assert (found.anybody, found.user, found.bind) == (False, None, None)


def test_where_a_url_leads() -> None:
    for local in ("redis://127.0.0.1:1", "redis://[::1]:1", "redis://localhost", "unix:///s"):
        assert is_loopback(local)
    for far in ("redis://10.0.0.1", "rediss://redis.example:6380/0", "redis://u:localhost@far"):
        assert not is_loopback(far)
    assert without_login("rediss://u:p@h:1/2?db=3&password=x") == "rediss://h:1/2?db=3"
