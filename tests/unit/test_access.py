"""API keys: what is kept, what is one, and who comes in without."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from carbon_orchestrator.gateway.door.access import Caller, is_loopback, presented_key, stranger
from carbon_orchestrator.gateway.door.keys import (
    SCOPES,
    ApiKey,
    Scope,
    hashed,
    identify,
    is_key_id,
    new_id,
    new_secret,
    text_of,
    with_implied,
)
from carbon_orchestrator.gateway.door.limits import Rates


def made(**more: Any) -> tuple[str, str, ApiKey]:
    """A key's text, its id, and what is kept of it."""
    key_id, secret = new_id(), new_secret()
    fields: dict[str, Any] = {"name": "n", "scopes": ("read",), "created": 0, **more}
    return text_of(key_id, secret), key_id, ApiKey(sha256=hashed(secret), **fields)


def test_a_key_opens_and_what_is_kept_of_it_does_not_tell_it() -> None:
    text, key_id, key = made()
    assert is_key_id(key_id)
    assert identify(text, {key_id: key}, 0) == key_id
    secret = text.split("_", 2)[2]
    assert len(secret) == 43, "256 bits"
    assert secret.encode() not in msgspec.json.encode(key)
    assert key.sha256 == hashlib.sha256(secret.encode()).hexdigest()


def test_nothing_else_opens() -> None:
    text, key_id, key = made()
    other, other_id, other_key = made()
    known = {key_id: key, other_id: other_key}
    secret = text.split("_", 2)[2]
    swapped = "A" if secret[0] != "A" else "B"
    for wrong in (
        "",
        "co__",
        secret,
        text[:-1],
        text + "A",
        text.upper(),
        f"co_{key_id}_{swapped}{secret[1:]}",
        f"co_{other_id}_{secret}",
        f"co_{new_id()}_{secret}",
        f"co_{key_id}_{key.sha256[:43]}",
        other[:14] + text[14:],
    ):
        assert identify(wrong, known, 0) is None, wrong
    assert identify(other, known, 0) == other_id


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    _, key_id, key = made()
    assert identify(text, {key_id: key}, 0) is None


def test_keys_end_by_time_and_by_hand() -> None:
    text, key_id, key = made(expires=1000)
    assert identify(text, {key_id: key}, 999) == key_id
    assert identify(text, {key_id: key}, 1000) is None
    text, key_id, key = made(revoked=5)
    assert identify(text, {key_id: key}, 4) is None


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (("submit",), {"submit"}),
        (("operate",), {"operate", "read"}),
        (("admin",), set(SCOPES)),
        (("submit", "read"), {"submit", "read"}),
    ],
)
def test_scopes_imply_others(scopes: tuple[Scope, ...], allowed: set[str]) -> None:
    assert with_implied(scopes) == allowed


def test_a_key_is_read_from_two_headers() -> None:
    for headers, key in (
        ({"Authorization": "Bearer co_x"}, "co_x"),
        ({"authorization": "bearer  co_x "}, "co_x"),
        ({"X-API-Key": "co_x"}, "co_x"),
        ({"Authorization": "Basic abc", "X-API-Key": "co_x"}, "co_x"),
        ({"Authorization": "Bearer co_x", "X-API-Key": "co_y"}, "co_x"),
        ({"Authorization": "Basic abc"}, ""),
        ({}, None),
    ):
        assert presented_key(CIMultiDict(headers)) == key


def test_a_project_is_all_that_its_key_sees() -> None:
    assert Caller().sees("any")
    assert Caller(project="a").sees("a")
    assert not Caller(project="a").sees("b")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


LOCAL = {"Host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    "headers",
    [
        LOCAL,
        {"Host": "localhost"},
        {"Host": "[::1]:8000"},
        {},
        {**LOCAL, "Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {**LOCAL, "Sec-Fetch-Site": "none"},
    ],
)
def test_programs_and_pages_of_this_machine_come_in(headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert stranger(method, CIMultiDict(headers), only_loopback=True) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example.org:8000"}, 403),
        ({"Host": "127.0.0.1.example.org"}, 403),
        ({"Host": "a b"}, 403),
        ({"Host": ":8000"}, 403),
        ({**LOCAL, "X-Forwarded-For": "203.0.113.1"}, 401),
        ({**LOCAL, "Forwarded": "for=203.0.113.1"}, 401),
        ({**LOCAL, "via": "1.1 proxy"}, 401),
    ],
)
def test_rebound_names_and_proxies_do_not(headers: dict[str, str], status: int) -> None:
    for method in ("GET", "POST"):
        refusal = stranger(method, CIMultiDict(headers), only_loopback=True)
        assert refusal is not None
        assert refusal.status == status
        # Where nobody needs a key, everybody comes from somewhere.
        assert stranger(method, CIMultiDict(headers), only_loopback=False) is None


def test_where_names_are_given_it_is_called_by_no_other() -> None:
    hosts = ["localhost", "carbon.example.org"]
    for named, welcome in (
        ("localhost:8000", True),
        ("carbon.example.org", True),
        ("rebound.example.org:8000", False),
        ("localhost.example.org", False),
        ("", False),
    ):
        for method in ("GET", "POST"):
            headers = CIMultiDict({"Host": named})
            refusal = stranger(method, headers, only_loopback=False, hosts=hosts)
            assert (refusal is None) == welcome
            assert refusal is None or (refusal.status, refusal.kind) == (403, "foreign-host")


@pytest.mark.parametrize(
    "more",
    [
        {"Origin": "https://evil.example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_change_nothing(more: dict[str, str]) -> None:
    headers = CIMultiDict({**LOCAL, **more})
    for only_loopback in (True, False):
        for method in ("POST", "DELETE"):
            refusal = stranger(method, headers, only_loopback=only_loopback)
            assert refusal is not None
            assert (refusal.status, refusal.kind) == (403, "cross-site")
        # What it reads, the browser keeps from it.
        assert stranger("GET", headers, only_loopback=only_loopback) is None


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    now = 0.0
    rates = Rates(2.0, 3, lambda: now)
    assert [rates.take("a").allowed for _ in range(4)] == [True, True, True, False]
    refused = rates.take("a")
    assert (refused.left, refused.wait) == (0, 0.5)
    assert rates.headers(refused) == {
        "RateLimit-Policy": '"key";q=3;w=2',
        "RateLimit": '"key";r=0;t=1',
    }
    assert rates.take("b").allowed, "each key has its own"
    now = 0.5
    assert [rates.take("a").allowed for _ in range(2)] == [True, False]
    now = 100.0
    assert [rates.take("a").allowed for _ in range(4)] == [True, True, True, False], "no more saved"
    rates.keep(["b"])
    assert rates.take("a").left == 2, "forgotten"


@given(
    st.lists(st.floats(0, 2), max_size=200),
    st.floats(0.5, 50),
    st.integers(1, 20),
)
def test_no_key_gets_more_than_its_burst_and_rate(
    gaps: list[float], rate: float, burst: int
) -> None:
    now, granted = 0.0, 0
    rates = Rates(rate, burst, lambda: now)
    for gap in gaps:
        now += gap
        granted += rates.take("k").allowed
        assert granted <= burst + rate * now + 1e-6
