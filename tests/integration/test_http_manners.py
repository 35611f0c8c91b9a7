"""What HTTP offers of any answer: HEAD, OPTIONS, 304, gzip, and other sites' pages."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import aiohttp
import pytest
from deployment import Answer, Deploy, Deployment

from carbon_orchestrator.clock import wall_ms
from carbon_orchestrator.config import Config, ConfigError, Cors, complete
from carbon_orchestrator.gateway.door.keyring import create_key
from carbon_orchestrator.gateway.door.keys import ApiKey, Scope
from carbon_orchestrator.gateway.door.negotiation import matches, takes_gzip, vary
from carbon_orchestrator.gateway.door.options import allowed_methods
from carbon_orchestrator.gateway.routes import ROUTES
from streams.commit import Committer
from streams.connection import connect

SITE = "https://grid.example.org"


def varies(answer: Answer) -> set[str]:
    return {each.strip() for each in answer.headers.get("Vary", "").split(",") if each.strip()}


async def raw(house: Deployment, head: str) -> tuple[list[str], bytes]:
    """The lines of the answer's head, and its body as it came over the wire."""
    host, _, port = house.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    whole = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    top, _, body = whole.partition(b"\r\n\r\n")
    return top.decode().split("\r\n"), body


async def bearer(house: Deployment, *scopes: Scope, **more: Any) -> str:
    """The Authorization of a new API key."""
    key = ApiKey(name="ci", scopes=scopes, sha256="", created=wall_ms(), **more)
    async with connect(house.url) as client:
        committer = Committer(client, house.topology.partition)
        return f"Bearer {await create_key(committer, house.topology, 'ada@lab', key)}"


async def test_what_is_known_already_is_not_sent_again(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    job_id = await house.post("quick")
    for path in ("/jobs", f"/jobs/{job_id}", "/openapi.json", "/types"):
        first = await house.http("GET", path)
        tag = first.headers["ETag"]
        assert tag.startswith('W/"'), path
        assert "no-cache" in first.headers["Cache-Control"]
        assert ("private" in first.headers["Cache-Control"]) == (path != "/openapi.json")
        for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            for method in ("GET", "HEAD"):
                again = await house.http(method, path, headers={"If-None-Match": known})
                assert (again.status, again.body) == (304, b""), (path, known)
                assert again.headers["ETag"] == tag
                assert varies(again) == varies(first)
        other = await house.http("GET", path, headers={"If-None-Match": '"other"'})
        assert (other.status, other.body) == (200, first.body)
    shown = await house.http("GET", f"/jobs/{job_id}")
    assert {"Authorization", "X-API-Key"} <= varies(shown)
    house.router()
    await house.reach(job_id, "dispatched")
    changed = await house.http(
        "GET", f"/jobs/{job_id}", headers={"If-None-Match": shown.headers["ETag"]}
    )
    assert changed.status == 200
    assert changed.headers["ETag"] != shown.headers["ETag"]
    wrong = await house.http("GET", "/jobs/none", headers={"If-None-Match": "*"})
    assert wrong.status == 404
    assert "ETag" not in wrong.headers


async def test_large_answers_are_compressed_for_who_asks(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    for _ in range(8):
        await house.post("quick")
    top, plain = await raw(house, "GET /jobs HTTP/1.1")
    assert not [line for line in top if line.startswith("Content-Encoding")]
    for path in ("/jobs", "/openapi.json"):  # on the loop, on a thread
        top, packed = await raw(house, f"GET {path} HTTP/1.1\r\nAccept-Encoding: gzip, br")
        assert "Content-Encoding: gzip" in top
        assert f"Content-Length: {len(packed)}" in top
        whole = await house.http("GET", path, headers={"Accept-Encoding": "identity"})
        assert len(packed) < len(gzip.decompress(packed)) == int(whole.headers["Content-Length"])
        assert "Accept-Encoding" in varies(whole)
        assert f"ETag: {whole.headers['ETag']}" in top
    top, body = await raw(house, "GET /jobs HTTP/1.1\r\nAccept-Encoding: gzip;q=0, *;q=1")
    assert body == plain
    top, body = await raw(house, "GET /livez HTTP/1.1\r\nAccept-Encoding: gzip")
    assert body == b'{"status":"ok"}'  # too small to gain anything


async def test_head_is_get_without_the_body(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway()
    job_id = await house.post("quick")
    fixed = [each.path for each in ROUTES if each.method == "GET" and "{" not in each.path]
    for path in (*fixed, f"/jobs/{job_id}", f"/jobs/{job_id}/events", "/jobs/none"):
        top, body = await raw(house, f"HEAD {path} HTTP/1.1")
        assert body == b"", path
        status = int(top[0].split()[1])
        if path == "/events":
            assert status == 200
            continue
        got = await house.http("GET", path, headers={"Accept-Encoding": "identity"})
        assert got.status == status, path
        if path in ("/jobs", "/openapi.json", f"/jobs/{job_id}", "/jobs/none", "/livez"):
            assert f"Content-Length: {got.headers['Content-Length']}" in top, path


async def test_options_says_what_may_be_done_to_anybody(deploy: Deploy) -> None:
    house = deploy()
    await house.gateway(require_keys=True)
    for path in ("/jobs", "/jobs/none", "/events", "/dead-letters/retry", "/dead-letters/1-1"):
        answer = await house.http("OPTIONS", path)
        assert (answer.status, answer.body) == (204, b""), path
        assert "OPTIONS" in answer.headers["Allow"]
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert (await house.http("OPTIONS", "/jobs")).headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await house.http("OPTIONS", "/nowhere")).status == 404
    assert (await house.http("GET", "/jobs")).status == 401


async def test_pages_of_other_sites_read_nothing_unless_named(deploy: Deploy) -> None:
    preflight = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    closed = deploy()
    await closed.gateway()
    for method, path in (("GET", "/jobs"), ("OPTIONS", "/jobs"), ("GET", "/events")):
        if path != "/events":
            answer = await closed.http(method, path, headers=preflight)
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
    house = deploy(cors=Cors(origins=[SITE]))
    key = await bearer(house, "read")
    await house.gateway()
    asked = await house.http("OPTIONS", "/jobs", headers=preflight)
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == SITE
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in asked.headers
    assert "Origin" in varies(asked)
    with_key = {"Origin": SITE, "Authorization": key}
    for path, status in (("/jobs", 200), ("/jobs/none", 404), ("/jobs?limit=0", 422)):
        answer = await house.http("GET", path, headers=with_key)
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == SITE
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        foreign = await house.http("GET", path, headers={**with_key, "Origin": SITE + ".evil"})
        assert "Access-Control-Allow-Origin" not in foreign.headers
        assert "Origin" in varies(foreign)
    # That this machine needs no key is nothing for pages, named or not.
    assert (await house.http("GET", "/jobs")).status == 200
    keyless = await house.http("GET", "/jobs", headers={"Origin": SITE})
    assert "Access-Control-Allow-Origin" not in keyless.headers
    refused = await house.http("POST", "/jobs", json={}, headers={"Origin": SITE})
    assert refused.status == 403
    assert refused.headers["Access-Control-Allow-Origin"] == SITE
    live = await asyncio.wait_for(first_head(house, with_key), 10)
    assert live["Access-Control-Allow-Origin"] == SITE
    assert "Content-Encoding" not in live


@pytest.mark.parametrize(
    "origin", ["*", "grid.example.org", "https://Grid.example", "https://a.b/", "null"]
)
def test_an_origin_is_as_browsers_write_it(origin: str) -> None:
    with pytest.raises(ConfigError, match="no origin"):
        complete(Config(cors=Cors(origins=[origin])))


def test_words_of_headers() -> None:
    assert takes_gzip("gzip")
    assert takes_gzip("br;q=1.0, GZIP;q=0.5")
    assert takes_gzip("*")
    for none in ("", "br", "gzip;q=0", "gzip; q=0.0, *", "gzip;q=x", "identity;q=1"):
        assert not takes_gzip(none), none
    assert matches('"a", W/"b"', 'W/"b"')
    assert matches("*", 'W/"b"')
    assert not matches('"a"', 'W/"b"')
    assert vary({}, "Origin") == "Origin"
    assert vary({"Vary": "accept"}, "Accept", "Origin") == "accept, Origin"
    assert allowed_methods("/jobs/{id}") == "DELETE, GET, HEAD, OPTIONS"


async def first_head(house: Deployment, headers: dict[str, str]) -> Any:
    """The headers of an answer that goes on."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(house.base + "/events", headers=headers) as response,
    ):
        return response.headers
